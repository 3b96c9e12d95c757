"""The weight memory of the array of lines, and the addresses that a layer's passes take."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Cat, Module, Mux, Signal, Value, ValueLike
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.lines.ram import LinesRam
from qcompile.hw.lines.select import select


class WeightMemory(wiring.Component):
    """Rows of P words of V weights; docs/lines.md section 3.

    A read with `enable` in cycle t stands at `o` from cycle t + `LATENCY` until the next one's:
    block RAM, mux, register. A word written in cycle t is read from cycle t + 1 on. There is no
    backpressure. For the numbers of words see `LinesConfig.weight_address`.

    Parameters
    ----------
    init : int8 [words, V]
        The first words' contents; without, all are undefined until written.

    Attributes
    ----------
    LATENCY : int
        Cycles from a read to its weights.
    enable : 1, in
    address : in
        Of a word; of a row's first with `own`.
    own : 1, in
        Line j gets word j of the row; otherwise all get the one word.
    o : 8V x P, out
        Line j's weights at bit 8 * V * j.
    write : 1, in; write_address : in; write_word : 8V, in
    """

    LATENCY = 2

    enable: Signal
    address: Signal
    own: Signal
    o: Signal
    write: Signal
    write_address: Signal
    write_word: Signal

    def __init__(self, config: LinesConfig, *, init: npt.NDArray[np.int8] | None = None) -> None:
        self.config = config
        self.init = np.zeros((0, config.columns), np.int8) if init is None else init
        words, columns = self.init.shape
        if columns != config.columns:
            raise ValueError(f"a weight word has {config.columns} weights, not {columns}")
        if words > config.lines * config.weight_rows:
            raise ValueError(
                f"the weight memory has {config.lines * config.weight_rows} words, not {words}"
            )
        super().__init__(
            {
                "enable": In(1),
                "address": In(config.weight_address_bits),
                "own": In(1),
                "o": Out(config.word_bits * config.lines),
                "write": In(1),
                "write_address": In(config.weight_address_bits),
                "write_word": In(config.word_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bank_bits, width = self.config.bank_bits, self.config.word_bits
        # Cycle 0: all words of the row are read.
        words = []
        for line in range(self.config.lines):
            ram = LinesRam(width, self.config.weight_rows, init=self._contents(line))
            m.submodules[f"line{line}"] = ram
            writer, reader = ram.writer, ram.reader
            m.d.comb += [
                reader.en.eq(self.enable),
                reader.addr.eq(self.address[bank_bits:]),
                writer.en.eq(self.write & (self.write_address[:bank_bits] == line)),
                writer.addr.eq(self.write_address[bank_bits:]),
                writer.data.eq(self.write_word),
            ]
            words.append(reader.data)

        # Cycle 1: one of them for all lines, or each line its own, into each line's register.
        enable_1 = Signal()
        own_1 = Signal(reset_less=True)
        word_1 = Signal(bank_bits, reset_less=True)
        shared = Signal(width)
        m.d.sync += [
            enable_1.eq(self.enable),
            own_1.eq(self.own),
            word_1.eq(self.address[:bank_bits]),
        ]
        m.d.comb += shared.eq(select(words, word_1))
        for line, word in enumerate(words):
            out = Signal(width, name=f"line{line}_weights", reset_less=True)
            with m.If(enable_1):
                m.d.sync += out.eq(Mux(own_1, word, shared))
            m.d.comb += self.o.word_select(line, width).eq(out)
        return m

    def _contents(self, line: int) -> list[int]:
        """Initial words of a line's memory."""
        words = np.ascontiguousarray(self.init[line :: self.config.lines])
        return [int.from_bytes(word.tobytes(), "little") for word in words]


class WeightReader(wiring.Component):
    """Addresses of a layer's weights: a group's words once for each of its tiles, then the next's.

    `address` is the word that `take` takes in this cycle; with `own` a row is taken. After a take
    with `tile_end` it goes back to the group's first word, or with `last_tile` on to the next
    group's. `load` starts a layer, also in the cycle of the last take of the one before. There is
    no backpressure.

    Attributes
    ----------
    load : 1, in; base : in
        `base` is the layer's first word; that of a row with `own`.
    take : 1, in; tile_end : 1, in; last_tile : 1, in
    own : 1, in
        As the memory's; of the layer that takes.
    address : out
    """

    load: Signal
    base: Signal
    take: Signal
    tile_end: Signal
    last_tile: Signal
    own: Signal
    address: Signal

    def __init__(self, config: LinesConfig) -> None:
        self.config = config
        bits = config.weight_address_bits
        super().__init__(
            {
                "load": In(1),
                "base": In(bits),
                "take": In(1),
                "tile_end": In(1),
                "last_tile": In(1),
                "own": In(1),
                "address": Out(bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        group = Signal.like(self.address, reset_less=True)
        after = Signal.like(self.address)
        m.d.comb += after.eq(following(self.config, self.address, self.own))
        with m.If(self.take):
            m.d.sync += self.address.eq(Mux(self.tile_end & ~self.last_tile, group, after))
            with m.If(self.tile_end & self.last_tile):
                m.d.sync += group.eq(after)
        with m.If(self.load):
            m.d.sync += [self.address.eq(self.base), group.eq(self.base)]
        return m


def following(config: LinesConfig, address: Signal, own: ValueLike = 0) -> Value:
    """The address of the next word of the weight memory, or of the next row with `own`."""
    bank_bits = config.bank_bits
    word, row = address[:bank_bits], address[bank_bits:]
    row_end = Value.cast(own) | (word == config.lines - 1)
    return Cat(Mux(row_end, 0, word + 1)[:bank_bits], (row + row_end)[: len(row)])
