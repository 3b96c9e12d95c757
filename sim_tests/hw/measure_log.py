"""Processing elements and arrays, int8 and log-domain, on iCE40: what each takes.

`python -m sim_tests.hw.measure_log pe` places single elements, `array` arrays of some rows and
`largest` looks for the most rows that fit.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from amaranth.hdl import Cat, Module, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qcompile.compiler.errors import QcompileError
from qcompile.hw.array import ProcessingElement, RowArray
from qcompile.hw.log.array import LogArray
from qcompile.hw.log.config import LogArrayConfig
from qcompile.hw.log.shift_pe import ShiftPe
from qcompile.hw.vendor.ice40_logic import LogicDualMultiplier
from sim_tests.hw.measure import PACKAGES, measure

COLUMNS = 4
ACC_WIDTH = 24
CODEBOOK = (-127, -96, -71, -52, -37, -25, -15, -7, 0, 7, 15, 25, 37, 52, 71, 96)
"""Any sixteen codes: what they are does not change the logic by much."""


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

    index: Signal
    code: Signal
    valid: Signal
    first: Signal
    sums: Signal

    def __init__(self, config: LogArrayConfig) -> None:
        self.config = config
        super().__init__(
            {
                "index": In(4),
                "code": In(config.code_bits),
                "valid": In(1),
                "first": In(1),
                "sums": Out(config.sum_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.pe = pe = ShiftPe(self.config)
        weight = Signal(signed(8))
        with m.Switch(self.index):
            for index, value in enumerate(CODEBOOK):
                with m.Case(index):
                    m.d.comb += weight.eq(value)
        m.d.comb += [
            pe.weight.eq(weight),
            pe.code.eq(self.code),
            pe.valid.eq(self.valid),
            pe.first.eq(self.first),
            self.sums.eq(pe.sums),
        ]
        return m


def log_configs() -> dict[str, LogArrayConfig]:
    """The log-domain arrays of the table, by the levels and step that they are built for."""
    sizes = ((8, 16, 24), (16, 16, 24), (16, 16, 32), (16, 8, 24), (32, 8, 32))
    return {
        f"log {levels} levels, step {step}, {width} bits": LogArrayConfig(
            levels=levels, step=step, acc_width=width
        )
        for levels, step, width in sizes
    }


def elements() -> dict[str, tuple[int, Callable[[], wiring.Component[Any]]]]:
    """Processing elements: how many the component holds, and the component."""
    made: dict[str, tuple[int, Callable[[], wiring.Component[Any]]]] = {
        f"int8, {ACC_WIDTH} bits": (2, Int8Pair)
    }
    for name, config in log_configs().items():
        made[name] = (1, lambda config=config: ShiftPe(config))
    config = LogArrayConfig()
    made["log 8 levels, table at the element"] = (1, lambda: CodebookPe(config))
    return made


def arrays(rows: int) -> dict[str, Callable[[], wiring.Component[Any]]]:
    """Arrays of so many rows."""
    made: dict[str, Callable[[], wiring.Component[Any]]] = {
        f"int8, {ACC_WIDTH} bits": lambda: Int8Array(rows)
    }
    for name, config in log_configs().items():
        fields = {
            "levels": config.levels,
            "step": config.step,
            "acc_width": config.acc_width,
        }
        made[name] = lambda fields=fields: LogArray(LogArrayConfig(rows=rows, **fields))
    return made


def main() -> None:
    """Print the table of one kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["pe", "array"])
    parser.add_argument("--device", default="hx8k", choices=sorted(PACKAGES))
    parser.add_argument("--rows", type=int, nargs="+", default=[4])
    parser.add_argument("--only", default="", help="what the name must start with")
    arguments = parser.parse_args()
    print(f"{'what':40} {'rows':>4} {'LC':>5} {'LC/PE':>6} {'MHz':>6}")
    rows = [0] if arguments.kind == "pe" else arguments.rows
    for count in rows:
        made = (
            elements()
            if arguments.kind == "pe"
            else {name: (count * COLUMNS, make) for name, make in arrays(count).items()}
        )
        for name, (pes, make) in made.items():
            if not name.startswith(arguments.only):
                continue
            try:
                figures = measure(make(), device=arguments.device)
            except QcompileError as error:
                print(f"{name:40} {count:4} {str(error).splitlines()[0]}", flush=True)
                continue
            cells = figures.logic_cells
            print(
                f"{name:40} {count:4} {cells:5} {cells / pes:6.1f} {figures.megahertz:6.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
