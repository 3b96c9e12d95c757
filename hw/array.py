"""The output-stationary systolic array: R x C multiply-accumulators and their operand registers."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
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


class RowArray(wiring.Component):
    """Rows of operand registers and accumulators; weights hop down, one row a cycle.

    No handshake inside: tags travel with the weights. Latency: a weight word at `weights` in
    cycle t is in the accumulators of row r in cycle t + r + 2; the rows of a tile whose last word
    came in cycle t leave at `o` in cycles t + 2 .. t + rows + 1, row 0 first. Tiles follow each
    other by `rows` cycles or more. What an operand is and how it meets a weight is a subclass's.

    Parameters
    ----------
    rows, columns : int
    operand_bits : int
        Of one column's part of an activation word.
    sum_bits : int
        Of what a column accumulates.

    Attributes
    ----------
    word : operand_bits x columns, in
        Activation word, taken in this cycle by the rows in `load`.
    load : rows, in
    tags : FeedTags, in
        Of the weight word that comes in the next cycle.
    weights : 8 x columns, in
        Signed bytes, byte c for column c; counts only if its tag says valid.
    o : sum_bits x columns, out; o_valid : 1, out
        One row's sums, column 0 lowest.
    """

    word: Signal
    load: Signal
    tags: Any
    weights: Signal
    o: Signal
    o_valid: Signal

    def __init__(self, rows: int, columns: int, *, operand_bits: int, sum_bits: int) -> None:
        self.rows = rows
        self.columns = columns
        self.operand_bits = operand_bits
        super().__init__(
            {
                "word": In(operand_bits * columns),
                "load": In(rows),
                "tags": In(FeedTags),
                "weights": In(8 * columns),
                "o": Out(sum_bits * columns),
                "o_valid": Out(1),
            }
        )

    def row_sums(self, m: Module, r: int, operands: list[Any], weights: Any, tags: Any) -> Value:
        """Row r's sums, column 0 lowest; `tags` come one cycle behind operands and weights."""
        raise NotImplementedError

    def elaborate(self, platform: object) -> Module:
        m = Module()
        weights: Any = self.weights
        tags = Signal(FeedTags, name="tags_row0")
        m.d.sync += tags.eq(self.tags)
        ended = Signal(self.rows)
        sums: list[Value] = []
        for r in range(self.rows):
            operands = self._operand_register(m, r)
            # One cycle in the multiplier: the tags follow.
            tags_product: Any = Signal(FeedTags, name=f"tags_product_row{r}")
            m.d.sync += [tags_product.eq(tags), ended[r].eq(tags_product.valid & tags_product.last)]
            sums.append(self.row_sums(m, r, operands, weights, tags_product))
            if r + 1 < self.rows:
                weights_next = Signal(8 * self.columns, name=f"weights_row{r + 1}", reset_less=True)
                tags_next = Signal(FeedTags, name=f"tags_row{r + 1}")
                m.d.sync += [weights_next.eq(weights), tags_next.eq(tags)]
                weights, tags = weights_next, tags_next
        m.d.comb += self.o_valid.eq(ended.any())
        select = Signal(range(self.rows))
        m.d.comb += [
            select.eq(
                Cat(
                    reduce(or_, [ended[r] for r in range(self.rows) if r >> bit & 1])
                    for bit in range(len(select))
                )
            ),
            self.o.eq(_chosen(sums, select)),
        ]
        return m

    def _operand_register(self, m: Module, r: int) -> list[Any]:
        """A row's operands: loaded with a word, otherwise rotating by one column a cycle."""
        operands = [
            Signal(self.operand_bits, name=f"operand_{r}_{c}", reset_less=True)
            for c in range(self.columns)
        ]
        for c in range(self.columns):
            m.d.sync += operands[c].eq(
                Mux(
                    self.load[r],
                    self.word.word_select(c, self.operand_bits),
                    operands[(c + 1) % self.columns],
                )
            )
        return operands


def _chosen(values: list[Value], select: Signal) -> Value:
    """values[select], as a tree of multiplexers."""
    if len(values) == 1:
        return values[0]
    level = (len(values) - 1).bit_length() - 1
    low, high = values[: 1 << level], values[1 << level :]
    return Mux(select[level], _chosen(high, select), _chosen(low, select))


class SystolicArray(RowArray):
    """The array of int8 codes: V bytes an activation word, a product and a sum a column."""

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        super().__init__(config.rows, config.columns, operand_bits=8, sum_bits=config.acc_width)

    def row_sums(self, m: Module, r: int, operands: list[Any], weights: Any, tags: Any) -> Value:
        """Multipliers and accumulators of row r."""
        sums: list[Value] = []
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
