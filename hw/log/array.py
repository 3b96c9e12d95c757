"""The systolic array of log-domain codes."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Value

from qcompile.hw.array import RowArray
from qcompile.hw.log.config import LogArrayConfig
from qcompile.hw.log.shift_pe import ShiftPe


class LogArray(RowArray):
    """`RowArray` of `ShiftPe`s: an activation word has a code a column, weights are int8."""

    def __init__(self, config: LogArrayConfig) -> None:
        self.config = config
        super().__init__(
            config.rows,
            config.columns,
            operand_bits=config.code_bits,
            sum_bits=config.sum_bits,
        )

    def element(self) -> Any:
        """One processing element; its `weight` takes the lowest bits of a weight's byte."""
        return ShiftPe(self.config)

    def row_sums(self, m: Module, r: int, operands: list[Any], weights: Any, tags: Any) -> Value:
        """The processing elements of row r."""
        sums = []
        for c in range(self.columns):
            m.submodules[f"pe_{r}_{c}"] = pe = self.element()
            m.d.comb += [
                pe.weight.eq(weights[8 * c : 8 * c + len(pe.weight)]),
                pe.code.eq(operands[c]),
                pe.valid.eq(tags.valid),
                pe.first.eq(tags.first),
            ]
            sums.append(pe.sums)
        return Cat(sums)
