"""Processing elements and arrays, int8 and log-domain, on iCE40: what each takes.

`python -m sim_tests.hw.measure_log pe` places single elements, `array` arrays of some rows,
`encoder` the units behind them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from amaranth.hdl import Cat, Module, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.array import ProcessingElement, RowArray
from qcompile.hw.log.array import LogArray
from qcompile.hw.log.config import LogArrayConfig
from qcompile.hw.log.encoder import LogEncoder
from qcompile.hw.log.shift_pe import ShiftPe
from qcompile.hw.requant import RequantExact
from qcompile.hw.requantizer import RequantConfig
from qcompile.hw.vendor.ice40_logic import LogicDualMultiplier
from sim_tests.hw.measure import PACKAGES, Factory, measure

COLUMNS = 4
ACC_WIDTH = 24
CODEBOOK = (-127, -96, -71, -52, -37, -25, -15, -7, 0, 7, 15, 25, 37, 52, 71, 96)
"""Any sixteen codes: what they are does not change the logic by much."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Something to place: how many elements it has, and how it is made."""

    name: str
    count: int
    make: Factory


class Int8Pair(wiring.Component):  # type: ignore[type-arg]  # not a generic class at run time
    """Two int8 multiply-accumulators in logic cells, as the int8 array has them."""

    operands: Signal
    weights: Signal
    valid: Signal
    first: Signal
    sums: Signal

    def __init__(self, acc_width: int = ACC_WIDTH) -> None:
        self.acc_width = acc_width
        super().__init__(
            {
                "operands": In(16),
                "weights": In(16),
                "valid": In(1),
                "first": In(1),
                "sums": Out(2 * acc_width),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.multiplier = mul = LogicDualMultiplier()
        ports = ((mul.a0, mul.b0, mul.p0), (mul.a1, mul.b1, mul.p1))
        sums: list[Value] = []
        for half, (a, b, product) in enumerate(ports):
            m.submodules[f"pe{half}"] = pe = ProcessingElement(self.acc_width)
            m.d.comb += [
                a.eq(self.operands.word_select(half, 8).as_signed()),
                b.eq(self.weights.word_select(half, 8).as_signed()),
                pe.product.eq(product),
                pe.valid.eq(self.valid),
                pe.first.eq(self.first),
            ]
            sums.append(pe.acc)
        m.d.comb += self.sums.eq(Cat(*sums))
        return m


class Int8Array(RowArray):
    """The int8 array of the HX8K machine with any number of rows."""

    def __init__(self, rows: int, acc_width: int = ACC_WIDTH) -> None:
        self.acc_width = acc_width
        super().__init__(rows, COLUMNS, operand_bits=8, sum_bits=acc_width)

    def row_sums(self, m: Module, r: int, operands: list[Any], weights: Any, tags: Any) -> Value:
        """The row's pairs."""
        sums = []
        for pair in range(self.columns // 2):
            m.submodules[f"pair_{r}_{pair}"] = unit = Int8Pair(self.acc_width)
            m.d.comb += [
                unit.operands.eq(Cat(*operands[2 * pair : 2 * pair + 2])),
                unit.weights.eq(weights[16 * pair : 16 * pair + 16]),
                unit.valid.eq(tags.valid),
                unit.first.eq(tags.first),
            ]
            sums.append(unit.sums)
        return Cat(*sums)


class CodebookPe(wiring.Component):  # type: ignore[type-arg]  # not a generic class at run time
    """A shift element that expands a 4-bit weight index itself, by a table fixed in its cells."""

    weight: Signal
    code: Signal
    valid: Signal
    first: Signal
    sums: Signal

    def __init__(self, config: LogArrayConfig) -> None:
        self.config = config
        super().__init__(
            {
                "weight": In(4),
                "code": In(config.code_bits),
                "valid": In(1),
                "first": In(1),
                "sums": Out(config.sum_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.pe = pe = ShiftPe(self.config)
        value = Signal(signed(8))
        with m.Switch(self.weight):
            for index, code in enumerate(CODEBOOK):
                with m.Case(index):
                    m.d.comb += value.eq(code)
        m.d.comb += [
            pe.weight.eq(value),
            pe.code.eq(self.code),
            pe.valid.eq(self.valid),
            pe.first.eq(self.first),
            self.sums.eq(pe.sums),
        ]
        return m


class CodebookArray(LogArray):
    """`CodebookPe`s: four bits of a weight hop, the others are not looked at."""

    def element(self) -> CodebookPe:
        return CodebookPe(self.config)


def log_configs() -> dict[str, LogArrayConfig]:
    """The log-domain arrays of the table, by the levels and step that they are built for."""
    sizes = (
        *((8, 16, 24), (16, 16, 24), (16, 16, 32)),
        *((8, 8, 24), (16, 8, 24), (32, 8, 32)),
    )
    return {
        f"log {levels} levels, step {step}, {width} bits": LogArrayConfig(
            levels=levels, step=step, acc_width=width
        )
        for levels, step, width in sizes
    }


def elements() -> list[Measured]:
    """Processing elements."""
    return [
        Measured(f"int8, {ACC_WIDTH} bits", 2, Int8Pair),
        *(Measured(name, 1, partial(ShiftPe, config)) for name, config in log_configs().items()),
        Measured("log 8 levels, table at the element", 1, partial(CodebookPe, LogArrayConfig())),
    ]


def arrays(rows: int) -> list[Measured]:
    """Arrays of so many rows."""
    pes = rows * COLUMNS
    return [
        Measured(f"int8, {ACC_WIDTH} bits", pes, partial(Int8Array, rows)),
        *(
            Measured(name, pes, partial(LogArray, replace(config, rows=rows)))
            for name, config in log_configs().items()
        ),
        Measured(
            "log 8 levels, table at the element",
            pes,
            partial(CodebookArray, LogArrayConfig(rows=rows)),
        ),
    ]


def encoders() -> list[Measured]:
    """Encoders, and the requantization of the int8 machine."""
    exact = RequantConfig(acc_width=ACC_WIDTH)
    return [
        Measured("RequantExact", 1, partial(RequantExact, exact)),
        *(
            Measured(f"{name}, {bits} a stage", 1, partial(LogEncoder, config, bits))
            for name, config in log_configs().items()
            for bits in (1, 2)
        ),
    ]


def main() -> None:
    """Print the table of one kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["pe", "array", "encoder"])
    parser.add_argument("--device", default="hx8k", choices=sorted(PACKAGES))
    parser.add_argument("--rows", type=int, default=4, help="of the arrays")
    parser.add_argument("--only", default="", help="what the names must start with")
    arguments = parser.parse_args()
    kinds: dict[str, Callable[[], list[Measured]]] = {
        "pe": elements,
        "array": partial(arrays, arguments.rows),
        "encoder": encoders,
    }
    print(f"{'what':44} {'LC':>5} {'LC each':>7} {'MHz':>6}")
    for measured in kinds[arguments.kind]():
        if not measured.name.startswith(arguments.only):
            continue
        figures = measure(measured.make(), device=arguments.device)
        each = figures.logic_cells / measured.count
        print(
            f"{measured.name:44} {figures.logic_cells:5} {each:7.1f} {figures.megahertz:6.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
