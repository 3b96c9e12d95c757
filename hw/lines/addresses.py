"""The addresses of all lines, from that of line 0 and the step from line to line."""

from __future__ import annotations

from itertools import combinations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.lines.config import LinesConfig


def turned(config: LinesConfig, address: Value, turns: Value) -> Value:
    """Where a word lies that is turned, or one that is not."""
    if not config.turns_words:
        return address
    low = address[0] ^ (turns & address[config.bank_bits])
    if config.banks < 8:
        return Cat(low, address[1:])
    return Cat(Mux(turns, Cat(address[1], low), Cat(low, address[1])), address[2:])


def multiples(m: Module, step: Value, lines: int) -> list[Value]:
    """0, 1, ... times `step` modulo its size, from registers: `step` counts a cycle later."""
    bits = len(step)
    # 1, 3, 5 and 7 steps are a step, or a sum or difference of two shifted ones.
    odd: dict[int, Value] = {
        1: step,
        3: (step << 1) + step,
        5: (step << 2) + step,
        7: (step << 3) - step,
    }
    found: list[Value] = [Const(0, bits)]
    for line in range(1, lines):
        if line % 2:
            multiple = Signal(bits, name=f"steps{line}", reset_less=True)
            m.d.sync += multiple.eq(odd[line])
            found.append(multiple)
        else:
            found.append((found[line // 2] << 1)[:bits])
    return found


class LineAddresses(wiring.Component):
    """Line j's word address is `address` + j * `step`, modulo the words of a set.

    Combinational but for the multiples of `step`, which come from registers: `step` counts one
    cycle later.

    Attributes
    ----------
    address, step : in
    lines : P, in
        Lines that want a word.
    turned : 1, in
        The words lie turned.
    o : P addresses, out
        Line j's from bit j * address bits on.
    meet : 1, out
        Two of them want different words of one bank, or two of a group are a step apart that its
        banks are not (`LinesConfig.line_groups`): an odd one where words lie turned.
    """

    address: Signal
    step: Signal
    lines: Signal
    turned: Signal
    o: Signal
    meet: Signal

    def __init__(self, config: LinesConfig) -> None:
        self.config = config
        bits = config.address_bits
        super().__init__(
            {
                "address": In(bits),
                "step": In(bits),
                "lines": In(config.lines),
                "turned": In(1),
                "o": Out(bits * config.lines),
                "meet": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits, bank_bits = self.config.address_bits, self.config.bank_bits
        for line, steps in enumerate(multiples(m, self.step, self.config.lines)):
            own = Signal(bits, name=f"address{line}")
            m.d.comb += [
                own.eq(self.address + steps),
                self.o.word_select(line, bits).eq(turned(self.config, own, self.turned)),
            ]
        meet: list[Value] = [Const(0)]
        for one, other in combinations(range(self.config.lines), 2):
            words = [self.o.word_select(line, bits) for line in (one, other)]
            differ = words[0][bank_bits:] != words[1][bank_bits:]
            wrong = (words[0][:bank_bits] == words[1][:bank_bits]) & differ
            if (other - one) % self.config.line_groups == 0:
                low = self.config.line_groups - 1
                wrong |= words[0][:low] != words[1][:low]
            meet.append(wrong & self.lines[one] & self.lines[other])
        m.d.comb += self.meet.eq(Cat(meet).any())
        return m
