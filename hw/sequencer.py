"""The sequencer: descriptor FIFO, layer after layer, run control and the cycle counter."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw import program
from qcompile.hw.registers import LayerRegisters

LAYER_SLOTS = 16
"""Descriptors that fit the descriptor FIFO."""


class State(IntEnum):
    """What STATUS reports."""

    IDLE = 0
    RUNNING = 1
    DONE = 2
    PAUSED = 3
    ERROR = 4


def control_run(
    m: Module, unit: Any, running: Any, in_layer: Signal, waiting: Any, stops: Any = None
) -> None:
    """A sequencer's state, and the cycle counter that stands while not running.

    `unit` has the ports of `Sequencer` that are named here; `waiting`: a descriptor waits; `stops`:
    no further layer is to run, if that is known better than by comparing.
    """
    if stops is None:
        stops = unit.layers_done == unit.stop_after
    with m.If(running):
        m.d.sync += unit.cycles.eq(unit.cycles + 1)
        with m.If(~in_layer):
            with m.If(unit.ended & ~waiting):
                m.d.sync += unit.state.eq(State.DONE)
            with m.Elif(stops):
                m.d.sync += unit.state.eq(State.PAUSED)
    with m.If(unit.resume):
        m.d.sync += unit.state.eq(State.RUNNING)
    with m.If(unit.start):
        m.d.sync += [
            unit.state.eq(State.RUNNING),
            unit.cycles.eq(0),
            unit.layers_done.eq(0),
        ]
    with m.If(unit.failed):
        m.d.sync += unit.state.eq(State.ERROR)


class Sequencer(wiring.Component):
    """Runs the layers of a program one after the other; a layer starts when the last one's
    words are all in memory.

    A layer's descriptor stays in block RAM: its nine last entries fill `registers` (one a cycle),
    the feeder's and the drain's steps are read while it runs.

    Attributes
    ----------
    i : stream of 16 bits, in
        Descriptors, `LAYER_WORDS` words each. Not ready while 16 descriptors wait.
    start, resume : 1, in; stop_after : 16, in
        Pulses; how many layers of the program to run in all.
    ended : 1, in
        The program's end has come: no descriptor follows.
    failed : 1, in
    level : 3, in; delta : 32, out
        The feeder's step. `load_start`: `delta` is the first read position.
    step_entry : 2, in; step_word : 16, out
        The drain's step. `load_write`: `step_word` is the first write address.
    begin : 1, out
        Pulse: `registers` are complete, the layer starts.
    layer_done : 1, in
        Pulse: the layer's last word is in memory and its last row dropped.
    idle : 1, out
        No layer runs or waits.
    packed : 1, out; codebook : 5, out
        The layer's weights are indices, and of which codebook. Ports of a sequencer that is built
        for codebooks.
    state : 3, out; layers_done : 16, out; cycles : 32, out
    """

    i: Any
    start: Signal
    resume: Signal
    stop_after: Signal
    ended: Signal
    failed: Signal
    level: Signal
    delta: Signal
    load_start: Signal
    step_entry: Signal
    step_word: Signal
    load_write: Signal
    begin: Signal
    layer_done: Signal
    idle: Signal
    registers: Any
    packed: Signal
    codebook: Signal
    state: Signal
    layers_done: Signal
    cycles: Signal

    def __init__(self, *, codebook: bool = False) -> None:
        packed = {"packed": Out(1), "codebook": Out(program.CODEBOOK_BITS)}
        self._has_codebook = codebook
        super().__init__(
            {
                **(packed if codebook else {}),
                "i": In(stream.Signature(16)),
                "start": In(1),
                "resume": In(1),
                "stop_after": In(16),
                "ended": In(1),
                "failed": In(1),
                "level": In(3),
                "delta": Out(32),
                "load_start": Out(1),
                "step_entry": In(2),
                "step_word": Out(16),
                "load_write": Out(1),
                "begin": Out(1),
                "layer_done": In(1),
                "idle": Out(1),
                "registers": Out(LayerRegisters),
                "state": Out(3),
                "layers_done": Out(16),
                "cycles": Out(32),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        newest = Signal(range(2 * LAYER_SLOTS))
        oldest = Signal(range(2 * LAYER_SLOTS))
        entry = Signal(range(program.LAYER_ENTRIES))
        loading = Signal()
        running = self.state == State.RUNNING
        word = self._descriptors(m, newest, oldest, entry, loading)
        waiting = newest != oldest
        in_layer = Signal()
        m.d.comb += self.idle.eq(~waiting & ~in_layer)

        # Cycle 0..8 of a load: entries 7..15 are read; each is at `word` one cycle later.
        loaded = Signal(range(program.LAYER_ENTRIES))
        loaded_valid = Signal()
        m.d.sync += [loaded.eq(entry), loaded_valid.eq(loading), self.begin.eq(0)]
        with m.If(loaded_valid):
            self._fill(m, loaded, word)
            m.d.sync += self.begin.eq(loaded == program.LAYER_ENTRIES - 1)
        with m.If(loading):
            m.d.sync += entry.eq(entry + 1)
            with m.If(entry == program.LAYER_ENTRIES - 1):
                m.d.sync += loading.eq(0)
        with m.Elif(running & ~in_layer & waiting & (self.layers_done != self.stop_after)):
            m.d.sync += [loading.eq(1), in_layer.eq(1), entry.eq(program.ENTRY_INITIAL)]
        with m.If(self.layer_done):
            m.d.sync += [
                in_layer.eq(0),
                oldest.eq(oldest + 1),
                self.layers_done.eq(self.layers_done + 1),
            ]
        m.d.comb += [
            self.load_start.eq(loaded_valid & (loaded == program.ENTRY_INITIAL)),
            self.load_write.eq(loaded_valid & (loaded == program.ENTRY_WRITE_START)),
        ]
        control_run(m, self, running, in_layer, waiting)
        return m

    def _descriptors(
        self, m: Module, newest: Signal, oldest: Signal, entry: Signal, loading: Signal
    ) -> Signal:
        """Block RAM of descriptors: low and high halves, and the low halves again for the drain."""
        slot_bits = (LAYER_SLOTS - 1).bit_length()
        entry_bits = (program.LAYER_ENTRIES - 1).bit_length()
        write = Signal(entry_bits + 1)
        full = (newest[:slot_bits] == oldest[:slot_bits]) & (newest[-1] != oldest[-1])
        transfer = self.i.valid & self.i.ready
        # A register, so low in the cycle after a word: the stream has one in four cycles.
        m.d.sync += self.i.ready.eq(~full & ~transfer)
        with m.If(transfer):
            m.d.sync += write.eq(write + 1)
            with m.If(write.all()):
                m.d.sync += newest.eq(newest + 1)
        slot = oldest[:slot_bits]
        feeder_entry = Mux(loading, entry, self.level)
        drain_entry = Mux(loading, entry, program.ENTRY_WRITE_ROW + self.step_entry)
        for name, half, read_entry, out in (
            ("low", 0, feeder_entry, self.delta[:16]),
            ("high", 1, feeder_entry, self.delta[16:]),
            ("steps", 0, drain_entry, self.step_word),
        ):
            ram: memory.Memory = memory.Memory(
                shape=16, depth=LAYER_SLOTS * program.LAYER_ENTRIES, init=[]
            )
            m.submodules[name] = ram
            writer, reader = ram.write_port(), ram.read_port()
            m.d.comb += [
                writer.addr.eq(Cat(write[1:], newest[:slot_bits])),
                writer.data.eq(self.i.payload),
                writer.en.eq(transfer & (write[0] == half)),
                reader.addr.eq(Cat(read_entry[:entry_bits], slot)),
                reader.en.eq(1),
                out.eq(reader.data),
            ]
        return self.delta

    def _fill(self, m: Module, loaded: Signal, word: Any) -> None:
        """The descriptor's entries into the registers; see `LayerDescriptor.entries`."""
        registers, counts = self.registers, self.registers["counts"]
        flags = registers["flags"].as_value()
        fields = {
            program.ENTRY_COUNTS_INNER: [
                (counts["n0"], 0),
                (counts["n1"], 8),
                (counts["n2"], 16),
                (counts["n3"], 24),
            ],
            program.ENTRY_COUNTS_OUTER: [(counts["n4"], 0), (counts["n5"], 16)],
            program.ENTRY_RESIDUAL: [
                (registers["residual_offset"], 0),
                (counts["n6"], 16),
                (registers["pad_code"], 24),
            ],
            program.ENTRY_BOUNDS: [
                (registers["p_bound"], 0),
                (registers["o_bound"], program.COORDINATE_BITS),
                (registers["rows_last"], 2 * program.COORDINATE_BITS),
            ],
            program.ENTRY_WRITE_START: [(registers["zero_point"], 16), (registers["low"], 24)],
            program.ENTRY_WRITE_ROW: [(registers["high"], 16), (flags[: program.LOW_FLAGS], 24)],
            program.ENTRY_WRITE_POSITION: [(flags[program.LOW_FLAGS :], 16)],
        }
        if self._has_codebook:
            shift = program.ENTRY_PACKED_SHIFT
            fields[program.ENTRY_COUNTS_OUTER] += [
                (self.packed, shift),
                (self.codebook, shift + 1),
            ]
        with m.Switch(loaded):
            for entry, parts in fields.items():
                with m.Case(entry):
                    m.d.sync += [
                        register.eq(word[low : low + len(register)]) for register, low in parts
                    ]
