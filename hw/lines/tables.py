"""Tables behind the requantization units, written while no code is looked up.

Those of the residual Add are block RAMs, which two lanes share: lane 0 reads through the port that
also writes, lane 1 through the other. That of any function is distributed memory of a lane's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.program import ADD_ENTRY_BITS, ADD_FRACTION

MAX_SHARING = 2
"""Lanes that one block RAM serves."""


class CodeTable(wiring.Component):
    """Any function of one int8 code: o = table[i], a code every cycle; in distributed memory.

    `enable` chooses between the table and `i` itself, with the same latency; it must not change
    while a value is inside. No backpressure.

    A word of the table is two codes: word w those for -128 + 2 * w (low byte) and -127 + 2 * w.
    Contents are undefined until written; writing while a value with `enable` is inside changes its
    result.

    Attributes
    ----------
    LATENCY : int
    i : 8, in
    o : 8, out
    enable : 1, in
    write : 1, in
        Write `write_data` to word `write_index`.
    write_index : 7, in
    write_data : 16, in
    """

    LATENCY = 2

    i: Signal
    o: Signal
    enable: Signal
    write: Signal
    write_index: Signal
    write_data: Signal

    def __init__(self) -> None:
        super().__init__(
            {
                "i": In(8),
                "o": Out(8),
                "enable": In(1),
                "write": In(1),
                "write_index": In(7),
                "write_data": In(16),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        ram: memory.Memory = memory.Memory(shape=16, depth=128, init=[])
        m.submodules.table = ram
        writer, reader = ram.write_port(), ram.read_port(domain="comb")
        # One address: half the look-up tables of two.
        address = Signal(7)
        m.d.comb += [
            address.eq(Mux(self.write, self.write_index ^ Const(0x40, 7), self.i[1:])),
            writer.addr.eq(address),
            writer.data.eq(self.write_data),
            writer.en.eq(self.write),
            reader.addr.eq(address),
        ]
        # Cycle 0: look two codes up. Cycle 1: the lowest bit chooses.
        entry, passing = _later(m, reader.data, 1, "entry"), _later(m, self.i, 1, "passing")
        looked_up = Mux(passing[0], entry[8:], entry[:8])
        m.d.comb += self.o.eq(_later(m, Mux(self.enable, looked_up, passing), 1, "chosen"))
        return m


class SharedAdd(wiring.Component):
    """The residual Add of `hw.eltwise` for one or two lanes, with a register behind each step.

    code = saturate(floor((table_a[a] + table_b[b]) / 2**ADD_FRACTION)), with the lowest bit cleared
    where the division leaves no rest. `enable` chooses between the sum and `code_a` itself, with
    the same latency; it must not change while a value is inside. No backpressure.

    Both tables are written an entry a cycle; entry 0 belongs to code -128. Contents are undefined
    until written; writing while a value with `enable` is inside changes its result.

    Parameters
    ----------
    lanes : int
        1 or 2.

    Attributes
    ----------
    LATENCY : int
    code_a, code_b : 8 x lanes, in
    code : 8 x lanes, out
    enable : 1, in
    write : 1, in
        Write `write_data` to entry `write_index`: table a's in the low half, table b's in the high.
    write_index : 8, in
    write_data : 48, in
    """

    LATENCY = 4

    code_a: Signal
    code_b: Signal
    code: Signal
    enable: Signal
    write: Signal
    write_index: Signal
    write_data: Signal

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        super().__init__(
            {
                "code_a": In(8 * lanes),
                "code_b": In(8 * lanes),
                "code": Out(8 * lanes),
                "enable": In(1),
                "write": In(1),
                "write_index": In(8),
                "write_data": In(2 * ADD_ENTRY_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # Cycle 0: look both entries up. Cycle 1: the block RAM's output registers.
        entries: list[list[Value]] = []
        for number, codes in enumerate((self.code_a, self.code_b)):
            entry = self.write_data.word_select(number, ADD_ENTRY_BITS)
            found = _shared_memory(
                m,
                f"table_{'ab'[number]}",
                ADD_ENTRY_BITS,
                [codes.word_select(lane, 8) for lane in range(self.lanes)],
                (self.write, self.write_index ^ Const(0x80, 8), entry),
            )
            entries.append([_later(m, word, 1, f"entry_{number}") for word in found])
        for lane, (entry_a, entry_b) in enumerate(zip(*entries, strict=True)):
            passing = _later(m, self.code_a.word_select(lane, 8), 3, "passing")
            # Cycle 2: add. Cycle 3: round, saturate.
            total = entry_a.as_signed() + entry_b.as_signed()
            code = Mux(self.enable, _rounded(_later(m, total, 1, "total")), passing)
            m.d.comb += self.code.word_select(lane, 8).eq(_later(m, code, 1, "code"))
        return m


def _rounded(total: Value) -> Value:
    """total / 2**ADD_FRACTION, down, to an even number where nothing is lost, saturated to int8."""
    tie = ~total[:ADD_FRACTION].any()
    rounded = Cat(total[ADD_FRACTION] & ~tie, total[ADD_FRACTION + 1 :])
    sign = rounded[-1]
    too_large = (rounded[7:-1] ^ sign.replicate(len(rounded) - 8)).any()
    return Mux(too_large, Cat((~sign).replicate(7), sign), rounded[:8])


def _later(m: Module, value: Value, cycles: int, name: str) -> Value:
    """`value` as it was `cycles` ago; registers without reset."""
    for _ in range(cycles):
        register = Signal(len(value), name=name, reset_less=True)
        m.d.sync += register.eq(value)
        value = register
    return value


def _shared_memory(
    m: Module, name: str, width: int, addresses: Sequence[Value], write: tuple[Value, Value, Value]
) -> list[Value]:
    """What stands at each address, a cycle later; `write` is enable, address and data."""
    write_enable, write_address, write_data = write
    # Nobody looks at a word that is just being written. (Yosys wants a number there.)
    attributes: Any = {"no_rw_check": 1}
    ram: memory.Memory = memory.Memory(
        shape=width, depth=1 << len(write_address), init=[], attrs=attributes
    )
    m.submodules[name] = ram
    writer = ram.write_port()
    first = Mux(write_enable, write_address, addresses[0])
    m.d.comb += [writer.addr.eq(first), writer.data.eq(write_data), writer.en.eq(write_enable)]
    found: list[Value] = []
    for address in (first, *addresses[1:]):
        reader = ram.read_port()
        m.d.comb += [reader.addr.eq(address), reader.en.eq(1)]
        found.append(reader.data)
    return found
