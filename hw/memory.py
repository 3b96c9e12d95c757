"""Activation memory: two single-ported banks shared by the feeder and everybody else."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.config import AcceleratorConfig
from qcompile.hw.layouts import ADDRESS_BITS, BANK_ADDRESS_BITS
from qcompile.hw.vendor import bank_memory


class ActivationMemory(wiring.Component):
    """Two banks of words; the feeder owns the bank that it reads, one other client takes the rest.

    A read's data stands at the output one cycle after the access. Backpressure: `other_ready` is
    low while the feeder accesses the wanted bank; the feeder itself never waits.

    Attributes
    ----------
    feed : 1, in; feed_bank : 1, in; feed_address : 14, in; feed_data : word_bits, out
    other : 1, in; other_ready : 1, out; other_write : 1, in; other_address : 15, in
    other_data : word_bits, in; other_read : word_bits, out
        `other_read` holds the word for one cycle.
    """

    feed: Signal
    feed_bank: Signal
    feed_address: Signal
    feed_data: Signal
    other: Signal
    other_ready: Signal
    other_write: Signal
    other_address: Signal
    other_data: Signal
    other_read: Signal

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        super().__init__(
            {
                "feed": In(1),
                "feed_bank": In(1),
                "feed_address": In(BANK_ADDRESS_BITS),
                "feed_data": Out(config.word_bits),
                "other": In(1),
                "other_ready": Out(1),
                "other_write": In(1),
                "other_address": In(ADDRESS_BITS),
                "other_data": In(config.word_bits),
                "other_read": Out(config.word_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        banks = []
        other_bank = self.other_address[-1]
        other_bank_1 = Signal()
        m.d.sync += other_bank_1.eq(other_bank)
        m.d.comb += self.other_ready.eq(~(self.feed & (self.feed_bank == other_bank)))
        for index in range(2):
            m.submodules[f"bank{index}"] = bank = bank_memory(self.config)
            feed = self.feed & (self.feed_bank == index)
            other = self.other & (other_bank == index)
            m.d.comb += [
                bank.address.eq(
                    Mux(feed, self.feed_address, self.other_address[:BANK_ADDRESS_BITS])
                ),
                bank.enable.eq(feed | other),
                bank.write_data.eq(self.other_data),
                bank.write.eq((other & ~feed & self.other_write).replicate(len(bank.write))),
            ]
            banks.append(bank)
        m.d.comb += [
            self.feed_data.eq(Mux(self.feed_bank, banks[1].read_data, banks[0].read_data)),
            self.other_read.eq(Mux(other_bank_1, banks[1].read_data, banks[0].read_data)),
        ]
        return m
