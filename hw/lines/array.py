"""One line of the array: operands, pairs of multiply-accumulators, and the captured tile."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.feeder import FeedTags
from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.lines.operands import LineOperands
from qcompile.hw.vendor import dual_mac
from qcompile.hw.vendor.xilinx_dsp import DualMac, sum_of_upper


def dsp_pairs_of_line(config: LinesConfig, line: int) -> int:
    """Pairs of a line that are in DSPs: pair p of the machine belongs to line p mod lines."""
    return (config.pairs_in_dsp + config.lines - 1 - line) // config.lines


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
    all 2V pairs (tags). The end of a sum enables the tile's registers: 1,536 of 24 bits at V = 16.

    Pair i serves rows 2q, 2q + 1 of column c with i = q * V + c. Of a pair in a DSP `uppers` has
    row 2q + 1's sum plus floor(row 2q's sum / 2**16), of one in logic the sum. `TileReader` takes
    that back with a subtractor for each lane; reading odd rows of `tile` instead costs one a pair.

    Parameters
    ----------
    pairs_in_dsp : int
        The line's first so many pairs are in DSPs (see `dsp_pairs_of_line`), the rest is logic.

    Attributes
    ----------
    LATENCY : int
        Cycles from a step to its sums in the tile.
    word : 8V, in; in_picture, shift, load, apart : 1, in; pad : 8, in
        As in `LineOperands`.
    weights : 8V, in
        Byte c for column c of all rows.
    tags : FeedTags, in
        `first` and `last` count only with `valid`.
    tile : acc_width x V x rows, out
        Sum of row r and column c, signed, at bit acc_width * (r * V + c).
    uppers : acc_width x V x rows/2, out
        Of pair i at bit acc_width * i.
    captured : 1, out
        The tile is a new one since this cycle.
    """

    LATENCY = LineOperands.LATENCY + DualMac.LATENCY + 1

    word: Signal
    in_picture: Signal
    pad: Signal
    shift: Signal
    load: Signal
    apart: Signal
    weights: Signal
    tags: Any
    tile: Signal
    uppers: Signal
    captured: Signal

    def __init__(self, config: LinesConfig, *, pairs_in_dsp: int) -> None:
        self.config = config
        self.pairs_in_dsp = pairs_in_dsp
        self.pairs = [
            dual_mac(config.dsp if index < pairs_in_dsp else "none", config.acc_width)
            for index in range(config.pairs // config.lines)
        ]
        if any(mac.LATENCY != DualMac.LATENCY for mac in self.pairs):
            raise ValueError("pairs of one array must have one latency")
        tile_bits = config.acc_width * config.columns * config.rows
        super().__init__(
            {
                "word": In(config.word_bits),
                "in_picture": In(1),
                "pad": In(8),
                "shift": In(1),
                "load": In(1),
                "apart": In(1),
                "weights": In(config.word_bits),
                "tags": In(FeedTags),
                "tile": Out(tile_bits),
                "uppers": Out(tile_bits // 2),
                "captured": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.operands = operands = LineOperands(self.config)
        m.d.comb += [
            operands.word.eq(self.word),
            operands.in_picture.eq(self.in_picture),
            operands.pad.eq(self.pad),
            operands.shift.eq(self.shift),
            operands.load.eq(self.load),
            operands.apart.eq(self.apart),
        ]
        # Cycle 0: operands, weights and tags into registers.
        weights = Signal(self.config.word_bits, reset_less=True)
        tags: Any = Signal(FeedTags)
        m.d.sync += [weights.eq(self.weights), tags.eq(self.tags)]
        # Cycles 1 .. DualMac.LATENCY: products and sums.
        ended = Signal(DualMac.LATENCY)
        m.d.sync += [
            ended.eq(Cat(tags.valid & tags.last, ended)),
            self.captured.eq(ended[-1]),
        ]
        rows: list[list[Value]] = [[] for _ in range(self.config.rows)]
        uppers = []
        for index, mac in enumerate(self.pairs):
            self._connect(m, index, operands.operands, weights, tags)
            sum0, sum1, upper = self._captured_sums(m, index, ended[-1])
            pair_of_rows = index // self.config.columns
            rows[2 * pair_of_rows].append(sum0)
            rows[2 * pair_of_rows + 1].append(sum1)
            uppers.append(upper)
            m.submodules[f"pair_{index}"] = mac
        m.d.comb += [self.tile.eq(Cat(rows)), self.uppers.eq(Cat(uppers))]
        return m

    def _connect(self, m: Module, index: int, operands: Signal, weights: Signal, tags: Any) -> None:
        """A pair's inputs."""
        columns = self.config.columns
        mac = self.pairs[index]
        column = index % columns
        row = index // columns * 2
        m.d.comb += [
            mac.a0.eq(operands.word_select(row * columns + column, 8)),
            mac.a1.eq(operands.word_select((row + 1) * columns + column, 8)),
            mac.b.eq(weights.word_select(column, 8)),
            mac.valid.eq(tags.valid),
            mac.first.eq(tags.first),
        ]

    def _captured_sums(self, m: Module, index: int, capture: Value) -> tuple[Value, Value, Value]:
        """Row 2q's sum, row 2q + 1's, and what `uppers` shows, from registers."""
        mac = self.pairs[index]
        in_dsp = self.config.dsp != "none" and index < self.pairs_in_dsp
        # Cycle DualMac.LATENCY + 1: the sums are whole, and stand for a cycle at least.
        lower = Signal.like(mac.acc0, name=f"lower_{index}", reset_less=True)
        upper = Signal.like(mac.acc1, name=f"upper_{index}", reset_less=True)
        with m.If(capture):
            m.d.sync += [lower.eq(mac.acc0), upper.eq(mac.upper if in_dsp else mac.acc1)]
        return lower, sum_of_upper(upper, lower) if in_dsp else upper, upper
