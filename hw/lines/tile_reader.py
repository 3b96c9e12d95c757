"""The way from a line's captured tile to its lanes: one sum a lane and cycle."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.vendor.xilinx_dsp import sum_of_upper


class TileReader(wiring.Component):
    """Selects the sums that the lanes of a line take, and completes those of odd rows.

    `index` counts a lane's sums: V/L columns of row 0, then those of row 1, ... The sums of the
    tile and index of cycle t stand at `sums` in cycle t + `LATENCY`. A new index may come every
    cycle; no backpressure, no reset.

    Parameters
    ----------
    pairs_in_dsp : int
        As of the `LineArray`.

    Attributes
    ----------
    LATENCY : int
        2.
    tile, uppers, in
        As of the `LineArray`; odd rows of the tile are not used.
    index : log2(4 * V/L), in
        Row * V/L + column of the lane.
    sums : acc_width x lanes, out
        Of columns l * V/L + column, signed, lane 0 lowest.
    """

    LATENCY = 2

    tile: Signal
    uppers: Signal
    index: Signal
    sums: Signal

    def __init__(self, config: LinesConfig, *, pairs_in_dsp: int) -> None:
        self.config = config
        self.pairs_in_dsp = 0 if config.dsp == "none" else pairs_in_dsp
        self.lane_columns = config.columns // config.lanes
        tile_bits = config.acc_width * config.columns * config.rows
        super().__init__(
            {
                "tile": In(tile_bits),
                "uppers": In(tile_bits // 2),
                "index": In(range(config.rows * self.lane_columns)),
                "sums": Out(config.acc_width * config.lanes),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        sums = [self._lane(m, lane) for lane in range(self.config.lanes)]
        m.d.comb += self.sums.eq(Cat(sums))
        return m

    def _lane(self, m: Module, lane: int) -> Signal:
        """A lane's sum, behind its register."""
        width = self.config.acc_width
        columns = range(lane * self.lane_columns, (lane + 1) * self.lane_columns)
        values, lowers, in_dsp = [], [], []
        for pair_of_rows in range(self.config.rows // 2):
            lower = [
                self.tile.word_select(2 * pair_of_rows * self.config.columns + column, width)
                for column in columns
            ]
            pairs = [pair_of_rows * self.config.columns + column for column in columns]
            values += [*lower, *(self.uppers.word_select(pair, width) for pair in pairs)]
            # An even row's sum is complete: as if what its pair's lower row spills were nothing.
            lowers += [*[Const(0, width)] * len(lower), *lower]
            in_dsp += [Const(0)] * len(lower) + [Const(pair < self.pairs_in_dsp) for pair in pairs]
        # Cycle 0: select.
        value = Signal(width, name=f"value_{lane}", reset_less=True)
        lower_sum = Signal(width, name=f"lower_{lane}", reset_less=True)
        m.d.sync += [
            value.eq(_select(self.index, values)),
            lower_sum.eq(Mux(_select(self.index, in_dsp), _select(self.index, lowers), 0)),
        ]
        # Cycle 1: subtract.
        total = Signal(width, name=f"sum_{lane}", reset_less=True)
        m.d.sync += total.eq(sum_of_upper(value, lower_sum))
        return total


def _select(index: Value, values: Sequence[Value]) -> Value:
    """values[index] as a tree of multiplexers; as many values as the index has codes."""
    if len(values) == 1:
        return values[0]
    return Mux(index[0], _select(index[1:], values[1::2]), _select(index[1:], values[::2]))
