"""The sequencer of an array of lines: layer after layer, run control and the cycle counter."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.lines.program import LAYER_WORDS, WORD_BITS
from qcompile.hw.lines.registers import LayerRegisters
from qcompile.hw.sequencer import State, control_run


class LinesSequencer(wiring.Component):
    """Runs the layers of a program one after the other; the next one's descriptor waits beside.

    A layer begins one cycle after the one before is done, if its descriptor is complete.

    Attributes
    ----------
    i : stream of 64 bits, in
        Descriptors, `LAYER_WORDS` words each. Not ready while one waits.
    start, resume : 1, in; stop_after : 16, in
        Pulses; how many layers of the program to run in all, from the pulse on.
    ended : 1, in
        No descriptor follows.
    failed : 1, in
    registers : LayerRegisters, out
    begin : 1, out
        Pulse, in the first cycle in which `registers` are the layer's.
    layer_done : 1, in
        Pulse: the layer's last word is in memory.
    idle : 1, out
        No layer runs or waits.
    state : 3, out; layers_done : 16, out; cycles : 32, out
        As STATUS; cycles count from `start`, not while paused.
    """

    i: Any
    start: Signal
    resume: Signal
    stop_after: Signal
    ended: Signal
    failed: Signal
    registers: Any
    begin: Signal
    layer_done: Signal
    idle: Signal
    state: Signal
    layers_done: Signal
    cycles: Signal

    def __init__(self) -> None:
        super().__init__(
            {
                "i": In(stream.Signature(WORD_BITS)),
                "start": In(1),
                "resume": In(1),
                "stop_after": In(16),
                "ended": In(1),
                "failed": In(1),
                "registers": Out(LayerRegisters),
                "begin": Out(1),
                "layer_done": In(1),
                "idle": Out(1),
                "state": Out(3),
                "layers_done": Out(16),
                "cycles": Out(32),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        waiting = Signal(WORD_BITS * LAYER_WORDS, reset_less=True)
        place = Signal(LAYER_WORDS, init=1)  # of the next word, one bit for each
        complete = Signal()
        empty = Signal(init=1)
        idle = Signal(init=1)
        in_layer = Signal()
        running = self.state == State.RUNNING
        stops = self._stops(m)
        begins = running & ~in_layer & complete & ~stops
        takes = self.i.valid & ~complete
        m.d.comb += [self.i.ready.eq(~complete), self.idle.eq(idle)]
        with m.If(takes):
            m.d.sync += [place.eq(place.rotate_left(1)), complete.eq(place[-1]), empty.eq(0)]
        for number in range(LAYER_WORDS):
            with m.If(takes & place[number]):
                m.d.sync += waiting.word_select(number, WORD_BITS).eq(self.i.payload)
        m.d.sync += [
            self.begin.eq(begins),
            idle.eq(~begins & (self.layer_done | ~in_layer) & empty & ~takes),
        ]
        with m.If(begins):
            m.d.sync += [self.registers.eq(waiting), in_layer.eq(1)]
            m.d.sync += [complete.eq(0), empty.eq(1)]
        with m.If(self.layer_done):
            m.d.sync += [in_layer.eq(0), self.layers_done.eq(self.layers_done + 1)]
        control_run(m, self, running, in_layer, ~empty, stops)
        return m

    def _stops(self, m: Module) -> Signal:
        """No further layer is to run: compared before a layer's end, for the cycle behind it."""
        stops = Signal()
        after = Signal(16, init=1)
        m.d.sync += [
            after.eq(self.layers_done + 1),
            stops.eq(
                Mux(self.layer_done, after == self.stop_after, self.layers_done == self.stop_after)
            ),
        ]
        return stops
