"""Values some cycles later."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, Value


def delay(m: Module, value: Value, cycles: int, name: str, *, reset: bool = False) -> Value:
    """`value` as it was `cycles` ago, unsigned; the registers start at 0 with `reset` only."""
    for cycle in range(cycles):
        later = Signal(len(value), name=f"{name}_{cycle}", reset_less=not reset)
        m.d.sync += later.eq(value)
        value = later
    return value
