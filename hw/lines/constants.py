"""Per-channel constants for the lanes: a FIFO of channel groups, V channels each."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.delay import delay
from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.lines.lanes import BIAS_BITS, LineLanes
from qcompile.hw.requantizer import MANTISSA_BITS, SHIFT_BITS

SLOTS = 32
"""Channel groups that the FIFO holds."""
MANTISSA_AT, SHIFT_AT = 32, 56
"""Bit positions in a word of constants."""


class LinesConstants(wiring.Component):
    """Constants of up to `SLOTS` channel groups; every lane reads its own column's.

    Lane l's column at a step is l * V/L + step. Bias and shift stand at the outputs `LATENCY`
    cycles after `step`, the mantissa `LineLanes.MANTISSA_DELAY` cycles later.

    Attributes
    ----------
    i : stream of 64 bits, in
        V channels a group, one word each. Not ready while every slot is taken.
    step : log2(V/L), in
        Of the oldest group.
    group_done : 1, in
        With the last step of the oldest group: it is not needed any more.
    completes : 1, out
        With a group's last word: one more can be used.
    bias, shift, mantissa : 32, 6, 24 x lanes, out
    """

    LATENCY = 1

    i: Any
    step: Signal
    group_done: Signal
    completes: Signal
    bias: Signal
    shift: Signal
    mantissa: Signal

    def __init__(self, config: LinesConfig) -> None:
        self.config = config
        self.steps = config.columns // config.lanes
        lanes = config.lanes
        super().__init__(
            {
                "i": In(stream.Signature(64)),
                "step": In(max(1, (self.steps - 1).bit_length())),
                "group_done": In(1),
                "completes": Out(1),
                "bias": Out(BIAS_BITS * lanes),
                "shift": Out(SHIFT_BITS * lanes),
                "mantissa": Out(MANTISSA_BITS * lanes),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        column = Signal(range(config.columns))
        newest = Signal(range(SLOTS))
        oldest = Signal(range(SLOTS))
        taken = Signal(range(SLOTS + 1))
        full = Signal()
        takes = self.i.valid & ~full
        completes = takes & column.all()
        # A slot is written again when the mantissas, which are read last, are read.
        releases = Signal(LineLanes.MANTISSA_DELAY + 1)
        m.d.sync += releases.eq(Cat(self.group_done, releases[:-1]))
        m.d.sync += [
            taken.eq(taken + completes - releases[-1]),
            full.eq(~releases[-1] & (full | (completes & (taken == SLOTS - 1)))),
        ]
        m.d.comb += [self.i.ready.eq(~full), self.completes.eq(completes)]
        with m.If(takes):
            m.d.sync += column.eq(column + 1)
            with m.If(completes):
                m.d.sync += newest.eq(newest + 1)
        with m.If(self.group_done):
            m.d.sync += oldest.eq(oldest + 1)

        address = self._address(oldest, self.step)
        later = delay(m, address, LineLanes.MANTISSA_DELAY, "address")
        step_bits = (self.steps - 1).bit_length()
        for lane in range(config.lanes):
            writes = takes & (column[step_bits:] == lane)
            row = self._address(newest, column[:step_bits])
            for name, target, where, bits, at in (
                ("bias", self.bias, address, BIAS_BITS, 0),
                ("shift", self.shift, address, SHIFT_BITS, SHIFT_AT),
                ("mantissa", self.mantissa, later, MANTISSA_BITS, MANTISSA_AT),
            ):
                ram: memory.Memory = memory.Memory(shape=bits, depth=SLOTS * self.steps, init=[])
                m.submodules[f"{name}_{lane}"] = ram
                writer, reader = ram.write_port(), ram.read_port()
                m.d.comb += [
                    writer.en.eq(writes),
                    writer.addr.eq(row),
                    writer.data.eq(self.i.payload[at : at + bits]),
                    reader.en.eq(1),
                    reader.addr.eq(where),
                    target.word_select(lane, bits).eq(reader.data),
                ]
        return m

    def _address(self, slot: Any, step: Any) -> Any:
        """A row of the memories."""
        return Cat(step, slot) if self.steps > 1 else slot
