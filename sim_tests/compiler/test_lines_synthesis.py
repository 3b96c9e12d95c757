"""Counts and paths of little designs that can be worked out by hand, and of the array's parts."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial, reduce
from pathlib import Path
from typing import Any

import pytest
from amaranth.back import rtlil  # type: ignore[attr-defined]  # no stub of it
from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qcompile.compiler.errors import VerifyError
from qcompile.compiler.lines import equal_modules, synthesis
from qcompile.compiler.lines.equal_modules import merge_equal
from qcompile.compiler.lines.netlist import Cell
from qcompile.compiler.lines.paths import TimingPath, deepest_paths
from qcompile.compiler.lines.synthesis import Synthesis, synthesize
from sim_tests.hw import xc7


def parities(bits: Value) -> Value:
    """Of each six bits."""
    return Cat(bits.word_select(group, 6).xor() for group in range(len(bits) // 6))


class Registered(wiring.Component):  # type: ignore[type-arg]  # generic in its stub only
    """A function of `inputs` bits between registers: `held` before it, `y` behind it."""

    x: Signal
    y: Signal

    def __init__(self, inputs: int, outputs: int, function: Callable[[Any], Any]) -> None:
        self.function = function
        super().__init__({"x": In(inputs), "y": Out(outputs)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        held = Signal(len(self.x))
        result = Signal(len(self.y))
        m.d.sync += [held.eq(self.x), result.eq(self.function(held))]
        m.d.comb += self.y.eq(result)
        return m


class Parity(wiring.Component):  # type: ignore[type-arg]
    """The parity of 36 registers, not registered itself."""

    x: Signal
    y: Signal

    def __init__(self) -> None:
        super().__init__({"x": In(36), "y": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        held = Signal(36)
        m.d.sync += held.eq(self.x)
        m.d.comb += self.y.eq(held.xor())
        return m


class Parities(wiring.Component):  # type: ignore[type-arg]
    """Twelve equal parts, and the parity of each six of them."""

    x: Signal
    y: Signal

    def __init__(self) -> None:
        super().__init__({"x": In(12 * 36), "y": Out(2)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        parts = []
        for index in range(12):
            m.submodules[f"part_{index}"] = part = Parity()
            m.d.comb += part.x.eq(self.x.word_select(index, 36))
            parts.append(part.y)
        whole = Signal(2)
        m.d.sync += whole.eq(parities(Cat(parts)))
        m.d.comb += self.y.eq(whole)
        return m


def of(component: wiring.Component[Any]) -> Synthesis:
    """What the component alone takes."""
    text = rtlil.convert(component, name="dut", emit_src=False)
    return synthesize(text, lambda step: None, top="dut")


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty cache of results; that of the tools themselves stays."""
    monkeypatch.setattr(synthesis, "cache_folder", lambda kind: tmp_path / kind)


def test_a_parity_of_six_is_a_table() -> None:
    found = of(Registered(36, 6, parities))
    assert (found.luts, found.ffs, found.dsps, found.block_rams) == (6, 42, 0, 0)
    (path,) = found.paths
    assert (path.luts, path.carries, path.dsps, path.levels) == (1, 0, 0, 1)
    assert path.start.startswith("held[") and path.end.startswith("y[")


def test_an_adder_is_a_table_a_bit_and_one_carry_chain() -> None:
    found = of(Registered(32, 16, lambda x: x[:16] + x[16:]))
    assert (found.luts, found.ffs, found.dsps) == (16, 48, 0)
    (path,) = found.paths
    assert (path.luts, path.carries, path.levels) == (1, 1, 2)
    assert path.end.startswith("y[")


def test_a_product_is_a_dsp_that_holds_its_registers() -> None:
    found = of(Registered(32, 32, lambda x: x[:16].as_signed() * x[16:].as_signed()))
    assert (found.luts, found.ffs, found.dsps, found.paths) == (0, 0, 1, ())


def test_equal_modules_are_one_and_paths_go_through_their_boundaries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    design = merge_equal(rtlil.convert(Parities(), name="dut", emit_src=False), "\\dut")
    assert list(design.texts) == ["\\dut.part_0", "\\dut"] and not design.repeated()
    assert design.inside["\\dut"] == {"\\dut.part_0": 12}
    monkeypatch.setattr(equal_modules, "LARGE", 0)
    assert design.repeated() == {"\\dut.part_0"}
    found, part = of(Parities()), xc7.synthesize(Parity())
    assert (found.luts, found.ffs) == (12 * part.luts + 2, 12 * 36 + 2)
    (path,) = found.paths
    assert (path.luts, path.carries) == (part.depth + 1, 0)
    assert path.start.startswith("part_") and ".held[" in path.start
    assert path.end.startswith("y[")


def test_modules_that_differ_in_a_constant_stay_two() -> None:
    class Two(wiring.Component):  # type: ignore[type-arg]
        x: Signal
        y: Signal

        def __init__(self) -> None:
            super().__init__({"x": In(8), "y": Out(8)})

        def elaborate(self, platform: object) -> Module:
            m = Module()
            parts = [Registered(8, 8, partial(operator.add, n)) for n in (3, 5, 3)]
            for part in parts:
                m.submodules += part
                m.d.comb += part.x.eq(self.x)
            m.d.comb += self.y.eq(reduce(operator.xor, (part.y for part in parts)))
            return m

    design = merge_equal(rtlil.convert(Two(), name="dut", emit_src=False), "\\dut")
    assert sorted(design.inside["\\dut"].values()) == [1, 2]


@pytest.mark.parametrize("name", ["weight-reader", "requant-dsp"])
def test_parts_of_the_array_count_as_they_do_alone(name: str) -> None:
    """Yosys fills look-up tables a little differently when names differ; the rest is the same."""
    expected = xc7.synthesize(xc7.components()[name]())
    found = of(xc7.components()[name]())
    assert (found.ffs, found.dsps) == (expected.flip_flops, expected.multipliers)
    assert found.block_rams == expected.block_rams
    assert found.luts == pytest.approx(expected.luts, rel=0.1)
    assert abs(found.paths[0].levels - expected.depth) <= 1


def test_a_result_is_kept_and_a_broken_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    text = rtlil.convert(Registered(36, 6, parities), name="dut", emit_src=False)
    steps: list[str] = []

    def interrupt(step: str) -> None:
        if step.startswith("count"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesize(text, interrupt, top="dut")
    first = synthesize(text, steps.append, top="dut")
    assert any(step.startswith("count") for step in steps)
    steps.clear()
    assert synthesize(text, steps.append, top="dut") == first and steps == []


def cell(kind: str, name: str, output: int | None, **inputs: int) -> Cell:
    """A primitive with one output."""
    return Cell(
        type=kind,
        name=name,
        parameters={},
        inputs={port: (net,) for port, net in inputs.items()},
        outputs={} if output is None else {"O": (output,)},
    )


def test_a_chain_counts_once_and_a_memory_as_a_table() -> None:
    cells = [
        cell("FDRE", "from.a", 1),
        cell("RAM32M", "table.word", 2, ADDRA=1),
        cell("LUT2", "l", 3, I0=2),
        cell("CARRY4", "c0", 4, S=3),
        cell("CARRY4", "c1", 5, CI=4),
        cell("MUXF7", "m", 6, I0=5),
        cell("FDRE", "to.b", 7, D=6),
    ]
    assert deepest_paths(cells, 1) == (
        TimingPath(start="from.a", end="to.b", luts=2, carries=1, dsps=0),
    )


def test_of_as_many_levels_those_with_more_tables_are_told() -> None:
    cells = [
        cell("FDRE", "from.a", 1),
        cell("LUT2", "t", 2, I0=1),
        cell("CARRY4", "c0", 3, S=2),
        cell("CARRY4", "c1", 4, CI=3),
        cell("LUT2", "l0", 5, I0=1),
        cell("LUT2", "l1", 6, I0=5),
        cell("LUT2", "both", 7, I0=6, I1=4),
        cell("FDRE", "to.b", 8, D=7),
    ]
    assert deepest_paths(cells, 1) == (
        TimingPath(start="from.a", end="to.b", luts=3, carries=0, dsps=0),
    )


def test_a_dsp_without_registers_is_passed_and_one_with_them_is_not() -> None:
    def levels(**registers: str) -> list[int]:
        multiplier = Cell(
            type="DSP48E1",
            name="product",
            parameters=registers,
            inputs={"A": (1,)},
            outputs={"P": (2,)},
        )
        cells = [
            cell("FDRE", "from.a", 1),
            multiplier,
            cell("LUT2", "l", 3, I0=2),
            cell("FDRE", "to.b", 4, D=3),
        ]
        return [path.levels for path in deepest_paths(cells, 5)]

    assert levels(MREG="0", PREG="0") == [2] and levels(MREG="1", PREG="0") == [1]


def test_a_loop_of_logic_is_told() -> None:
    cells = [cell("LUT2", "a", 1, I0=2), cell("LUT2", "b", 2, I0=1)]
    with pytest.raises(VerifyError, match=r"^the netlist has a loop of logic without a register$"):
        deepest_paths(cells, 1)
