"""One line of the array: operands, pairs of multiply-accumulators, and the captured tile."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.feeder import FeedTags
from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.lines.operands import LineOperands


class PairMac(wiring.Component):
    """Two multiply-accumulators that share a weight, in plain arithmetic.

    acc0 gains a0 * b and acc1 gains a1 * b in a cycle with `valid`; with `first` too they become
    the products. Operands and tags of one cycle are in the sums `LATENCY` cycles later.

    Attributes
    ----------
    LATENCY : int
    a0, a1, b : signed(8), in
    valid, first : 1, in
    acc0, acc1 : signed(acc_width), out
    """

    LATENCY = 2

    a0: Signal
    a1: Signal
    b: Signal
    valid: Signal
    first: Signal
    acc0: Signal
    acc1: Signal

    def __init__(self, acc_width: int) -> None:
        self.acc_width = acc_width
        operands = {name: In(signed(8)) for name in ("a0", "a1", "b")}
        sums = {name: Out(signed(acc_width)) for name in ("acc0", "acc1")}
        super().__init__({**operands, "valid": In(1), "first": In(1), **sums})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        valid, first = Signal(), Signal()
        m.d.sync += [valid.eq(self.valid), first.eq(self.first)]
        for lane, (a, acc) in enumerate(((self.a0, self.acc0), (self.a1, self.acc1))):
            product = Signal(signed(16), name=f"product{lane}", reset_less=True)
            total = Signal(signed(self.acc_width), name=f"sum{lane}", reset_less=True)
            m.d.comb += acc.eq(total)
            # Cycle 0: multiplier.
            m.d.sync += product.eq(a * self.b)
            # Cycle 1: accumulator.
            with m.If(valid):
                m.d.sync += total.eq(product)
                with m.If(~first):
                    m.d.sync += total.eq(total + product)
        return m


def pair_mac(config: LinesConfig, in_dsp: bool) -> PairMac:
    """The multiply-accumulators of a column of two rows."""
    return PairMac(config.acc_width)


def dsp_pairs_of_line(config: LinesConfig, line: int) -> int:
    """Pairs of a line that are in DSPs: pair p of the machine belongs to line p mod lines."""
    if config.dsp == "none":
        return 0
    pairs_in_dsp = min(config.dsp_pairs, config.pairs)
    return (pairs_in_dsp + config.lines - 1 - line) // config.lines


class LineArray(wiring.Component):
    """One line: 4 x V multiply-accumulators, their operands, and the sums of the tile before.

    All inputs belong to a *step* and come in one cycle: what the operand registers do (`load`, or
    rotate), and the weights and tags of the product of what they hold then. `shift` is ahead: the
    last word that a `load` uses is shifted in in the cycle before. Steps follow each other in any
    way, with or without `valid`; a sum may start in the step after the last one ended, and may be
    one product long. The tile of a sum whose `last` came in cycle t stands from cycle
    t + `LATENCY` on until the next sum's, with `captured` in its first cycle. No backpressure: who
    reads the tile is done before the next. Reset drops the steps that are under way; before the
    first `captured` the tile is undefined.

    Weights and tags pass a register of the line's own. A bit of them then drives 2 (weights) or
    all 2V pairs (tags); the copy of a tag that captures enables all of the tile's registers.

    Parameters
    ----------
    pairs_in_dsp : int
        The line's first so many pairs are in DSPs (see `dsp_pairs_of_line`), the rest is logic.

    Attributes
    ----------
    LATENCY : int
        Cycles from a step to its sums in the tile.
    word : 8V, in; shift, load, apart : 1, in
        As in `LineOperands`.
    weights : 8V, in
        Byte c for column c of all rows.
    tags : FeedTags, in
        `first` and `last` count only with `valid`.
    tile : acc_width x V x rows, out
        Sum of row r and column c, signed, at bit acc_width * (r * V + c).
    captured : 1, out
        The tile is a new one since this cycle.
    """

    word: Signal
    shift: Signal
    load: Signal
    apart: Signal
    weights: Signal
    tags: Any
    tile: Signal
    captured: Signal

    def __init__(self, config: LinesConfig, *, pairs_in_dsp: int) -> None:
        pairs = config.rows // 2 * config.columns
        self.config = config
        self.pairs = [pair_mac(config, index < pairs_in_dsp) for index in range(pairs)]
        self.pair_latency = self.pairs[0].LATENCY
        self.LATENCY = LineOperands.LATENCY + self.pair_latency + 1
        super().__init__(
            {
                "word": In(config.word_bits),
                "shift": In(1),
                "load": In(1),
                "apart": In(1),
                "weights": In(config.word_bits),
                "tags": In(FeedTags),
                "tile": Out(config.acc_width * config.columns * config.rows),
                "captured": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.operands = operands = LineOperands(self.config)
        m.d.comb += [
            operands.word.eq(self.word),
            operands.shift.eq(self.shift),
            operands.load.eq(self.load),
            operands.apart.eq(self.apart),
        ]
        # Cycle 0: operands, weights and tags into registers.
        weights = Signal(self.config.word_bits, reset_less=True)
        tags: Any = Signal(FeedTags)
        m.d.sync += [weights.eq(self.weights), tags.eq(self.tags)]
        # Cycles 1 .. pair_latency: products and sums.
        ended = Signal(self.pair_latency)
        m.d.sync += ended.eq(Cat(tags.valid & tags.last, ended))
        sums = self._sums(m, operands.operands, weights, tags)
        # Cycle pair_latency + 1: the sums are whole, and stand for a cycle at least.
        tile = Signal(len(self.tile), reset_less=True)
        m.d.sync += self.captured.eq(ended[-1])
        with m.If(ended[-1]):
            m.d.sync += tile.eq(Cat(sums))
        m.d.comb += self.tile.eq(tile)
        return m

    def _sums(self, m: Module, operands: Signal, weights: Signal, tags: Any) -> list[Signal]:
        """The accumulators, all columns of row 0 first."""
        columns = self.config.columns
        sums: dict[int, Signal] = {}
        for index, mac in enumerate(self.pairs):
            upper_row, column = divmod(index, columns)
            place = 2 * upper_row * columns + column
            m.submodules[f"pair_{2 * upper_row}_{column}"] = mac
            m.d.comb += [
                mac.a0.eq(operands.word_select(place, 8)),
                mac.a1.eq(operands.word_select(place + columns, 8)),
                mac.b.eq(weights.word_select(column, 8)),
                mac.valid.eq(tags.valid),
                mac.first.eq(tags.first),
            ]
            sums[place], sums[place + columns] = mac.acc0, mac.acc1
        return [sums[place] for place in sorted(sums)]
