"""The output-stationary systolic array: R x C multiply-accumulators and their operand registers."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.config import AcceleratorConfig
from qcompile.hw.feeder import FeedTags
from qcompile.hw.vendor import multiplier


class ProcessingElement(wiring.Component):
    """One accumulator: `acc` becomes or gains the product while `valid`.

    The first product of a tile replaces the sum of the tile before, so tiles follow each other
    without a bubble. Products and tags arrive together; `acc` holds the sum one cycle later.
    """

    product: Signal
    valid: Signal
    first: Signal
    acc: Signal

    def __init__(self, acc_width: int) -> None:
        super().__init__(
            {
                "product": In(signed(16)),
                "valid": In(1),
                "first": In(1),
                "acc": Out(signed(acc_width)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        acc = Signal(signed(len(self.acc)), reset_less=True)
        total = Signal(signed(len(self.acc)))
        m.d.comb += [total.eq(acc + self.product), self.acc.eq(acc)]
        with m.If(self.valid):
            m.d.sync += acc.eq(Mux(self.first, self.product, total))
        return m


class SystolicArray(wiring.Component):
    """Rows of operand registers and processing elements; weights hop down, one row a cycle.

    No handshake inside: tags travel with the weights. Latency: a weight word at `weights` in
    cycle t is in the accumulators of row r in cycle t + r + 2; the rows of a tile whose last word
    came in cycle t leave at `o` in cycles t + 2 .. t + 5, row 0 first.

    Attributes
    ----------
    word : 32, in
        Activation word, taken in this cycle by the rows in `load`.
    load : 4, in
    tags : FeedTags, in
        Of the weight word that comes in the next cycle.
    weights : 32, in
        Four signed bytes, byte c for column c; counts only if its tag says valid.
    o : acc_width x columns, out; o_valid : 1, out
        One row's accumulators, column 0 lowest.
    """

    word: Signal
    load: Signal
    tags: Any
    weights: Signal
    o: Signal
    o_valid: Signal

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        super().__init__(
            {
                "word": In(8 * config.columns),
                "load": In(config.rows),
                "tags": In(FeedTags),
                "weights": In(8 * config.columns),
                "o": Out(config.acc_width * config.columns),
                "o_valid": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        rows = self.config.rows
        weights: Any = self.weights
        tags = Signal(FeedTags, name="tags_row0")
        m.d.sync += tags.eq(self.tags)
        ended = Signal(rows)
        sums = []
        for r in range(rows):
            bytes_ = self._operand_register(m, r)
            # One cycle in the multiplier: the tags follow.
            tags_product: Any = Signal(FeedTags, name=f"tags_product_row{r}")
            m.d.sync += [tags_product.eq(tags), ended[r].eq(tags_product.valid & tags_product.last)]
            sums.append(self._row(m, r, bytes_, weights, tags_product))
            if r + 1 < rows:
                weights_next = Signal(
                    8 * self.config.columns, name=f"weights_row{r + 1}", reset_less=True
                )
                tags_next = Signal(FeedTags, name=f"tags_row{r + 1}")
                m.d.sync += [weights_next.eq(weights), tags_next.eq(tags)]
                weights, tags = weights_next, tags_next
        m.d.comb += self.o_valid.eq(ended.any())
        select = Signal(range(rows))
        m.d.comb += [
            select.eq(Cat(ended[1] | ended[3], ended[2] | ended[3])),
            self.o.eq(
                Mux(select[1], Mux(select[0], sums[3], sums[2]), Mux(select[0], sums[1], sums[0]))
            ),
        ]
        return m

    def _operand_register(self, m: Module, r: int) -> list[Any]:
        """A row's V bytes: loaded with a word, otherwise rotating by one byte a cycle."""
        columns = self.config.columns
        operands = [Signal(8, name=f"operand_{r}_{c}", reset_less=True) for c in range(columns)]
        for c in range(columns):
            m.d.sync += operands[c].eq(
                Mux(self.load[r], self.word.word_select(c, 8), operands[(c + 1) % columns])
            )
        return operands

    def _row(self, m: Module, r: int, operands: list[Any], weights: Any, tags: Any) -> Any:
        """Multipliers and accumulators of row r; returns the accumulators, column 0 lowest."""
        sums = []
        for pair in range(self.config.columns // 2):
            m.submodules[f"multiplier_{r}_{pair}"] = mul = multiplier(self.config)
            for half, product in ((0, mul.p0), (1, mul.p1)):
                c = 2 * pair + half
                a, b = (mul.a0, mul.b0) if half == 0 else (mul.a1, mul.b1)
                m.submodules[f"pe_{r}_{c}"] = pe = ProcessingElement(self.config.acc_width)
                m.d.comb += [
                    a.eq(operands[c].as_signed()),
                    b.eq(weights[8 * c : 8 * c + 8].as_signed()),
                    pe.product.eq(product),
                    pe.valid.eq(tags.valid),
                    pe.first.eq(tags.first),
                ]
                sums.append(pe.acc)
        return Cat(sums)
