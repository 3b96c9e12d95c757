"""Any function of one int8 code, as a table of 256 codes in one block RAM."""

from __future__ import annotations

from amaranth.hdl import Const, Module, Mux, Signal, signed
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out


class ActivationTable(wiring.Component):
    """o = table[i], a code every cycle; LATENCY is 1.

    `enable` chooses between the table and `i` itself, with the same latency; it must not change
    while a value is inside. No backpressure.

    The table is written a 16-bit word a cycle, in stream order: word w holds the codes for
    -128 + 2 * w (low byte) and -127 + 2 * w. Contents are undefined until written; writing while a
    value with `enable` is inside changes its result.

    Attributes
    ----------
    LATENCY : int
    i : signed(8), in
    valid : 1, in
    enable : 1, in
    o : signed(8), out
    o_valid : 1, out
    write : 1, in
        Write `write_data` to word `write_index`.
    write_index : 7, in
    write_data : 16, in
    """

    LATENCY = 1

    i: Signal
    valid: Signal
    enable: Signal
    o: Signal
    o_valid: Signal
    write: Signal
    write_index: Signal
    write_data: Signal

    def __init__(self) -> None:
        super().__init__(
            {
                "i": In(signed(8)),
                "valid": In(1),
                "enable": In(1),
                "o": Out(signed(8)),
                "o_valid": Out(1),
                "write": In(1),
                "write_index": In(7),
                "write_data": In(16),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        ram: memory.Memory = memory.Memory(shape=16, depth=128, init=[])
        m.submodules.table = ram
        writer, reader = ram.write_port(), ram.read_port()
        m.d.comb += [
            writer.addr.eq(self.write_index ^ Const(0x40, 7)),
            writer.data.eq(self.write_data),
            writer.en.eq(self.write),
            reader.addr.eq(self.i[1:]),
            reader.en.eq(1),
        ]
        # Cycle 0: look two codes up. After it the lowest bit chooses.
        passing = Signal(8, reset_less=True)
        m.d.sync += [passing.eq(self.i), self.o_valid.eq(self.valid)]
        found = Mux(passing[0], reader.data[8:], reader.data[:8])
        m.d.comb += self.o.eq(Mux(self.enable, found, passing))
        return m
