"""The cells between a flash's data lines and `FlashPins`, on every family alike."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module
from amaranth.lib import io


def connect_flash_lines(m: Module, dq: Any, pins: Any, lines: int) -> None:
    """A register in each direction for the first `lines` lines of a port `dq`, as submodules dq0
    and on; `pins` are `flash_reader.FlashPins`."""
    for line in range(lines):
        buffer = io.FFBuffer(io.Direction.Bidir, dq[line])
        m.submodules[f"dq{line}"] = buffer
        m.d.comb += [
            buffer.o.eq(pins.d_o[line]),
            buffer.oe.eq(pins.d_oe[line]),
            pins.d_i[line].eq(buffer.i),
        ]
