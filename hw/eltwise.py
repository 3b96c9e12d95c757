"""The residual Add: two tables of wide constants and one adder, no multiplier.

code = saturate(floor((table_a[a] + table_b[b]) / 2**ADD_FRACTION)), with the lowest bit cleared
where the division leaves no rest. With a half, 2**(ADD_FRACTION - 1), inside table_a that is
rounding to the nearest whole number, ties to the even code: both zero points are inside the tables
too, as ONNX Runtime's QLinearAdd has them. `compiler.add_tables` finds tables and proves them for
all pairs of codes.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.program import ADD_ENTRY_BITS, ADD_FRACTION


class EltwiseAdd(wiring.Component):
    """Adds a residual code to a requantized one, a pair every cycle; LATENCY is 2.

    `enable` chooses between the sum and `code_a` itself, with the same latency; it must not change
    while a value is inside. No backpressure.

    Tables are written a 16-bit word a cycle, in stream order: entry 0 belongs to code -128, and
    word 2 * entry holds its low 16 bits, word 2 * entry + 1 its high 8. Contents are undefined
    until written; writing while a value with `enable` is inside changes its result.

    Parameters
    ----------
    tables : bool
        Without them there is no sum: `enable` is not looked at.

    Attributes
    ----------
    LATENCY : int
    code_a, code_b : signed(8), in
    valid : 1, in
    enable : 1, in
    code : signed(8), out
    code_valid : 1, out
    write_a, write_b : 1, in
        Write `write_data` to word `write_index` of that table.
    write_index : 9, in
    write_data : 16, in
    """

    LATENCY = 2

    code_a: Signal
    code_b: Signal
    valid: Signal
    enable: Signal
    code: Signal
    code_valid: Signal
    write_a: Signal
    write_b: Signal
    write_index: Signal
    write_data: Signal

    def __init__(self, *, tables: bool = True) -> None:
        self.tables = tables
        super().__init__(
            {
                "code_a": In(signed(8)),
                "code_b": In(signed(8)),
                "valid": In(1),
                "enable": In(1),
                "code": Out(signed(8)),
                "code_valid": Out(1),
                "write_a": In(1),
                "write_b": In(1),
                "write_index": In(9),
                "write_data": In(16),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # Cycle 0: look both entries up.
        passing = Signal(8, reset_less=True)
        m.d.sync += passing.eq(self.code_a)
        # Cycle 1: add, round, saturate.
        result = Mux(self.enable, self._sum(m), passing) if self.tables else passing
        code = Signal(signed(8), reset_less=True)
        m.d.sync += code.eq(result)
        m.d.comb += self.code.eq(code)

        travelling = Signal(self.LATENCY)
        m.d.sync += travelling.eq(Cat(self.valid, travelling[:-1]))
        m.d.comb += self.code_valid.eq(travelling[-1])
        return m

    def _sum(self, m: Module) -> Value:
        """The saturated sum, in the cycle behind the codes."""
        entry_a = self._table(m, "a", self.code_a, self.write_a)
        entry_b = self._table(m, "b", self.code_b, self.write_b)
        total = Signal(signed(ADD_ENTRY_BITS + 1))
        m.d.comb += total.eq(entry_a.as_signed() + entry_b.as_signed())
        tie = ~total[:ADD_FRACTION].any()
        rounded = Cat(total[ADD_FRACTION] & ~tie, total[ADD_FRACTION + 1 :])
        sign = rounded[-1]
        too_large = (rounded[7:-1] ^ sign.replicate(len(rounded) - 8)).any()
        return Mux(too_large, Cat((~sign).replicate(7), sign), rounded[:8])

    def _table(self, m: Module, name: str, code: Signal, write: Signal) -> Value:
        """A table in two block RAMs, addressed by code: its entry, one cycle later."""
        halves: list[Value] = []
        for half, width in enumerate((16, ADD_ENTRY_BITS - 16)):
            ram: memory.Memory = memory.Memory(shape=width, depth=256, init=[])
            m.submodules[f"table_{name}_{half}"] = ram
            writer, reader = ram.write_port(), ram.read_port()
            m.d.comb += [
                writer.addr.eq(self.write_index[1:] ^ Const(0x80, 8)),
                writer.data.eq(self.write_data),
                writer.en.eq(write & (self.write_index[0] == half)),
                reader.addr.eq(code),
                reader.en.eq(1),
            ]
            halves.append(reader.data)
        return Cat(*halves)
