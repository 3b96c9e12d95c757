"""The activation memory of the array of lines: two sets of banks, a word for each line a cycle."""

from __future__ import annotations

from itertools import product

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.lines.addresses import LineAddresses, turned
from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.lines.crossbar import bank_rows, cross
from qcompile.hw.lines.ram import LinesRam, Port
from qcompile.hw.lines.select import select

SETS = 2


class LinesMemory(wiring.Component):
    """Two sets of B simple dual-port banks; docs/lines.md section 3.

    Address a of a set is word a div B of bank a mod B. Words read in cycle t stand at the outputs
    in cycle t + `LATENCY`, for that cycle only: bank, then crossbar and register. A word written in
    cycle t is read from cycle t + 2 on; contents are undefined until written. Feeder and writer
    never wait. A residual read waits while the feeder reads its set; the host waits for all others
    and reads what it wrote.

    `feed_step` counts one cycle later: it stands from a cycle before the first `feed` of a layer
    to a cycle before its last.

    Attributes
    ----------
    LATENCY : int
        Cycles from an accepted read to its word.
    feed : 1, in; feed_set : 1, in
        The feeder reads this set.
    feed_address, feed_step : in
        Line j reads `feed_address` + j * `feed_step`, modulo 2 to the address bits; a word
        beyond the set's is undefined.
    feed_lines : P, in
        Lines that want their word.
    feed_turned, write_turned : 1, in
        The words lie turned, as `LinesConfig.place` says.
    words : 8V x P, out; words_valid : P, out
        Line j's word at bit 8 * V * j. One that was not asked for is undefined.
    error : 1, out
        What the lines asked for a cycle ago cannot be read in one (`LineAddresses.meet`): the
        program is wrong. Costs logic only where it is used.
    write : 1, in; write_set : 1, in; write_address : in; write_word : 8V, in
    upper_write : 1, in; upper_address : in; upper_word : 8V, in
        Another word for the same set. If both come in one cycle, their banks' numbers differ in the
        highest bit. Never with one bank.
    residual : 1, in; residual_set : 1, in; residual_address : in
    residual_grant : 1, out
        The residual read is accepted.
    residual_word : 8V, out; residual_valid : 1, out
    host_valid : 1, in; host_ready : 1, out
    host_write : 1, in; host_set : 1, in; host_address : in; host_data : 8V, in
    host_word : 8V, out; host_word_valid : 1, out
        The word of an accepted host read.
    """

    LATENCY = 2

    feed: Signal
    feed_set: Signal
    feed_address: Signal
    feed_step: Signal
    feed_lines: Signal
    feed_turned: Signal
    write_turned: Signal
    words: Signal
    words_valid: Signal
    error: Signal
    write: Signal
    write_set: Signal
    write_address: Signal
    write_word: Signal
    upper_write: Signal
    upper_address: Signal
    upper_word: Signal
    residual: Signal
    residual_set: Signal
    residual_address: Signal
    residual_grant: Signal
    residual_word: Signal
    residual_valid: Signal
    host_valid: Signal
    host_ready: Signal
    host_write: Signal
    host_set: Signal
    host_address: Signal
    host_data: Signal
    host_word: Signal
    host_word_valid: Signal

    def __init__(self, config: LinesConfig) -> None:
        self.config = config
        address, word = config.address_bits, config.word_bits
        super().__init__(
            {
                "feed": In(1),
                "feed_set": In(1),
                "feed_address": In(address),
                "feed_step": In(address),
                "feed_lines": In(config.lines),
                "feed_turned": In(1),
                "write_turned": In(1),
                "words": Out(word * config.lines),
                "words_valid": Out(config.lines),
                "error": Out(1),
                "write": In(1),
                "write_set": In(1),
                "write_address": In(address),
                "write_word": In(word),
                "upper_write": In(1),
                "upper_address": In(address),
                "upper_word": In(word),
                "residual": In(1),
                "residual_set": In(1),
                "residual_address": In(address),
                "residual_grant": Out(1),
                "residual_word": Out(word),
                "residual_valid": Out(1),
                "host_valid": In(1),
                "host_ready": Out(1),
                "host_write": In(1),
                "host_set": In(1),
                "host_address": In(address),
                "host_data": In(word),
                "host_word": Out(word),
                "host_word_valid": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.lines = lines = LineAddresses(self.config)
        width = self.config.address_bits
        addresses = [lines.o.word_select(line, width) for line in range(self.config.lines)]

        # Cycle 0: the feeder's reads, and a single one of the residual operand or of the host.
        single_set = Mux(self.residual, self.residual_set, self.host_set)
        single = Signal(width)
        taken = self.feed & (self.feed_set == single_set)
        writes = self.write | self.upper_write
        wrote = Signal()
        m.d.comb += [
            lines.address.eq(self.feed_address),
            lines.step.eq(self.feed_step),
            lines.lines.eq(self.feed_lines),
            lines.turned.eq(self.feed_turned),
            single.eq(Mux(self.residual, self.residual_address, self.host_address)),
            self.residual_grant.eq(self.residual & ~taken),
            self.host_ready.eq(Mux(self.host_write, ~writes, ~(self.residual | taken | wrote))),
        ]
        host_reads = self.host_valid & ~self.host_write & self.host_ready
        writers, readers = self._banks(m)
        rows = bank_rows(self.config, addresses, self.feed_lines)
        self._read(m, readers, rows, single[self.config.bank_bits :])
        self._write(m, writers, wrote)

        # Cycle 1: the banks' words pass the muxes into registers.
        words = [[port.data for port in ports] for ports in readers]
        m.d.comb += self.words.eq(cross(m, self.config, words, addresses, self.feed_set))
        index = Signal(self.config.bank_bits + 1, reset_less=True)
        word = Signal(self.config.word_bits, reset_less=True)
        m.d.sync += [
            index.eq(Cat(single[: self.config.bank_bits], single_set)),
            word.eq(select([*words[0], *words[1]], index)),
        ]
        m.d.comb += [self.residual_word.eq(word), self.host_word.eq(word)]

        m.d.sync += self.error.eq(self.feed & lines.meet)
        for valid, now in (
            (self.words_valid, Mux(self.feed, self.feed_lines, 0)),
            (self.residual_valid, self.residual_grant),
            (self.host_word_valid, host_reads),
        ):
            valid_1 = Signal.like(valid, name=f"{valid.name}_1")
            m.d.sync += [valid_1.eq(now), valid.eq(valid_1)]
        return m

    def _banks(self, m: Module) -> tuple[list[list[Port]], list[list[Port]]]:
        """Write ports and read ports of the banks, [set][bank]."""
        writers: list[list[Port]] = [[], []]
        readers: list[list[Port]] = [[], []]
        for index, bank in product(range(SETS), range(self.config.banks)):
            ram = LinesRam(self.config.word_bits, self.config.bank_words)
            m.submodules[f"set{index}_bank{bank}"] = ram
            writers[index].append(ram.writer)
            readers[index].append(ram.reader)
        return writers, readers

    def _read(self, m: Module, readers: list[list[Port]], rows: list[Value], single: Value) -> None:
        """Rows of the banks: the feeder's in its set, the single word's in the other."""
        for index, ports in enumerate(readers):
            feeds = self.feed & (self.feed_set == index)
            for port, row in zip(ports, rows, strict=True):
                m.d.comb += [port.en.eq(1), port.addr.eq(Mux(feeds, row, single))]

    def _write(self, m: Module, writers: list[list[Port]], wrote: Signal) -> None:
        """The writer's or the host's words go into registers first; `wrote`: it holds one."""
        bank_bits, halves = self.config.bank_bits, min(2, self.config.banks)
        set_1 = Signal(reset_less=True)
        writes = self.write | self.upper_write
        hosts = self.host_valid & self.host_write
        written, upper = (
            turned(self.config, at, self.write_turned)
            for at in (self.write_address, self.upper_address)
        )
        address = Mux(writes, written, self.host_address)
        word = Mux(writes, self.write_word, self.host_data)
        m.d.sync += [
            wrote.eq(writes | hosts),
            set_1.eq(Mux(writes, self.write_set, self.host_set)),
        ]
        # A register for each half of the banks, which take either port's word.
        for half in range(halves):
            enable_1 = Signal(name=f"half{half}_enable")
            address_1 = Signal(self.config.address_bits, name=f"half{half}_row", reset_less=True)
            word_1 = Signal(self.config.word_bits, name=f"half{half}_word", reset_less=True)
            first = self.write | (hosts & ~writes)
            second: Value = self.upper_write
            if halves == 2:
                first &= address[bank_bits - 1] == half
                second &= upper[bank_bits - 1] == half
            m.d.sync += [
                enable_1.eq(first | second),
                address_1.eq(Mux(second, upper, address)),
                word_1.eq(Mux(second, self.upper_word, word)),
            ]
            banks = range(self.config.banks)[half * self.config.lower_lines :]
            for index, bank in product(range(SETS), banks[: self.config.lower_lines]):
                port = writers[index][bank]
                here = (set_1 == index) & (address_1[:bank_bits] == bank)
                m.d.comb += [
                    port.en.eq(enable_1 & here),
                    port.addr.eq(address_1[bank_bits:]),
                    port.data.eq(word_1),
                ]
