"""Products of two tensors: the array multiplies activations by weights, so one has to be either.

* An operand of one pixel becomes *weights*: copies with tables write them, in parts where they have
  nine bits, into a tensor whose words are the weight words of a depthwise layer, and the program
  recalls them from memory. A tap that lies beyond the picture always reads the pad code, the
  other operand's zero point, and so takes it off.
* Otherwise the codes are cut into nibbles. The residual adder puts a nibble of each operand into
  one code and the table multiplies them; a dense layer adds up the four products by their weights,
  and the operands by the zero points.

Both give the exact product of the codes without their zero points to the requantization, whose
constants are found and proved for all 65,536 pairs of codes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from qcompile.compiler import ir
from qcompile.compiler.add_tables import HALF, AddTables
from qcompile.compiler.golden.numerics import requantize, scale_to_mantissa
from qcompile.compiler.layers import Layer, Region, Shape3
from qcompile.compiler.passes.lowering.layer import (
    copy_layer,
    make_layer,
    operator_of,
)
from qcompile.compiler.passes.lowering.layer import shape3 as shape_of
from qcompile.compiler.passes.lowering.state import Lowering
from qcompile.hw.program import ADD_FRACTION, COORDINATE_BITS

CODES = np.arange(-128, 128)
BOUNDS = {1: -128, 2: -255, 3: 255}
"""Weights of the largest sums, by the parts that they are made of."""
ROWS = 4
"""Weight words from one tap of a depthwise layer to the next: three of zeros follow each."""
MOST_WORDS = 4096
"""Of the tensor of nibbles; more channel groups are done in several rounds."""
NIBBLES = 4
"""Pairs of nibbles."""
ZeroPoints = tuple[int, int, int]
SLACK = 1e-4
"""By which float32 sums of a product and a zero point may miss a code's interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """code = requant((a - zero_points[0]) * (b - zero_points[1]) + bias), proved for all pairs."""

    zero_points: tuple[int, int]
    bias: int
    requant: ir.Requant


def find_product(table: ir.Int8Array, zero_points: ZeroPoints | None = None) -> Product | None:
    """The product that has a table's codes; None where none was found.

    `zero_points` are those of both operands and of the result, where they are known.
    """
    if zero_points is None:
        zero_points = _nearest_zero_points(table)
    if zero_points is None or not all(-128 <= code <= 127 for code in zero_points):
        return None
    products = np.multiply.outer(CODES - zero_points[0], CODES - zero_points[1])
    steps = _Steps.of(table, products)
    scale = steps.scale(0, zero_points[2], slack=SLACK)
    for moved in sorted(range(-128, 128), key=lambda zero: abs(zero - zero_points[2])):
        bias = 0 if scale is None else round((zero_points[2] - moved) / scale)
        requant = steps.proved(bias, moved)
        if requant is not None:
            return Product(zero_points=zero_points[:2], bias=bias, requant=requant)
        if scale is None:
            break
    return None


def _nearest_zero_points(table: ir.Int8Array) -> ZeroPoints | None:
    """Those of the product that is nearest to the codes within limits."""
    rows, columns = np.nonzero((table > table.min()) & (table < table.max()))
    if rows.size < 4:
        return None
    a, b = CODES[rows].astype(np.float64), CODES[columns].astype(np.float64)
    wanted = table[rows, columns].astype(np.float64)
    terms = np.stack([a * b, a, b, np.ones_like(a)], axis=1)
    (scale, by_a, by_b, _), *_ = np.linalg.lstsq(terms, wanted, rcond=None)
    if scale <= 0:
        return None
    zero_a, zero_b = round(-by_b / scale), round(-by_a / scale)
    rest = wanted - scale * (a - zero_a) * (b - zero_b)
    return zero_a, zero_b, round(float(rest.mean()))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Steps:
    """For each code of a table, within its limits, the smallest and the largest product."""

    table: ir.Int8Array
    products: ir.Int64Array
    codes: ir.Int64Array
    ends: ir.Int64Array

    @classmethod
    def of(cls, table: ir.Int8Array, products: ir.Int64Array) -> _Steps:
        """Of all pairs."""
        order = np.argsort(table, axis=None, kind="stable")
        codes, begin = np.unique(table.reshape(-1)[order], return_index=True)
        sorted_ = products.reshape(-1)[order]
        ends = np.stack([f.reduceat(sorted_, begin) for f in (np.minimum, np.maximum)])
        return cls(table=table, products=products, codes=codes.astype(np.int64), ends=ends)

    def scale(self, bias: int, zero_point: int, *, slack: float = 0.0) -> float | None:
        """One in the middle of those that all steps allow, or that miss them by `slack` at most."""
        sums = (self.ends + bias).astype(np.float64)
        wanted = self.codes - zero_point + np.array([[-0.5 - slack], [0.5 + slack]])
        wanted[0, 0], wanted[1, -1] = -np.inf, np.inf  # behind the limits all is well
        positive = sums > 0
        with np.errstate(divide="ignore", invalid="ignore"):
            bounds = wanted / sums
        # sums[0] * scale >= wanted[0] and sums[1] * scale <= wanted[1]
        lower = np.concatenate([bounds[0, positive[0]], bounds[1, sums[1] < 0]])
        upper = np.concatenate([bounds[1, positive[1]], bounds[0, sums[0] < 0]])
        smallest, largest = lower.max(initial=-np.inf), upper.min(initial=np.inf)
        if not 0 < smallest <= largest < np.inf:
            return None
        return float(smallest + largest) / 2

    def proved(self, bias: int, zero_point: int) -> ir.Requant | None:
        """Constants with which all pairs have their code."""
        scale = self.scale(bias, zero_point)
        if scale is None:
            return None
        mantissa, shift = scale_to_mantissa(np.array([scale], np.float32))
        for inside in (True, False):
            requant = ir.Requant(
                mode="exact",
                mantissa=mantissa,
                shift=shift,
                zero_point=zero_point,
                low=int(self.table.min()),
                high=int(self.table.max()),
                zero_point_inside=inside,
            )
            sums = (self.products + bias).reshape(1, -1)
            if np.array_equal(requantize(sums, requant, axis=0)[0], self.table.reshape(-1)):
                return requant
        return None


# ------------------------------------------------------------------ an operand as weights


def as_weights(
    state: Lowering, op: ir.Binary, product: Product, sources: tuple[str, str]
) -> tuple[Layer, ...] | None:
    """Layers whose second operand has one pixel; None where the counters are too short
    or no layer can write weights."""
    shape = shape_of(state.graph, op.name)
    if not state.machine.makes_weights or 2 * shape[1] >= 1 << COORDINATE_BITS:
        return None
    zero_a, zero_b = product.zero_points
    signs = (1, -1) if zero_a else (1,)
    parts = [_parts(sign * (CODES - zero_b)) for sign in signs]
    copies = max(len(part) for part in parts)
    none = np.zeros(256, np.int8)
    tables = [table for part in parts for table in [*part, none, none][:copies]]
    tensor = f"{op.name}:weights"
    whole = (shape[0], 1, ROWS * len(tables))
    layers = []
    for number, table in enumerate(tables):
        copy = copy_layer(
            op,
            state.mode,
            sources[1],
            ((shape[0], 1, 1), (shape[0], 1, ROWS)),
            pad_code=zero_b,  # the words behind the first one: of no weight
        )
        region = Region(shape=whole, start=(0, ROWS * number))
        layers.append(replace(copy, output=tensor, region=region, table=table))
    layer = make_layer(
        op,
        operator=operator_of(op),
        kind="depthwise",
        source=sources[0],
        shapes=(shape, shape),
        weight=np.full((shape[0], len(signs), 1), BOUNDS[copies], np.int16),
        bias=np.full(shape[0], product.bias, np.int64),
        strides=(1, 1),
        dilations=(shape[1] + 1, 1),
        pads=(0, 0, 0, 0),
        input_zero_point=0,
        requant=product.requant,
        macs=0,
    )
    return (*layers, replace(layer, pad_code=zero_a, weight_source=tensor))


def _parts(weights: ir.Int64Array) -> list[ir.Int8Array]:
    """Tables of int8 whose sum is a table of nine bits: one, two, or three where it has 255."""
    parts: list[ir.Int8Array] = []
    rest = weights
    while rest.any():
        part = np.clip(rest, -128, 127)
        parts.append(part.astype(np.int8))
        rest = rest - part
    return parts


# ------------------------------------------------------------------ nibbles


def by_nibbles(
    state: Lowering, op: ir.Binary, product: Product, sources: tuple[str, str]
) -> tuple[Layer, ...]:
    """Layers of two operands of the output's shape that lie in one bank."""
    shape = shape_of(state.graph, op.name)
    word = state.machine.word_channels
    groups = -(-shape[0] // word)
    taken = _slots(product)
    most = max(1, MOST_WORDS // (len(taken) * shape[1] * shape[2]))
    layers: list[Layer] = []
    for first in range(0, groups, most):
        count = min(most, groups - first)
        channels = range(first * word, min(shape[0], (first + count) * word))
        layers += _round(state, op, product, sources, channels, shape, first)
    return tuple(layers)


def _slots(product: Product) -> list[tuple[str, int]]:
    """What the words of a group hold, and the factor of each: nibbles, then operands."""
    zero_a, zero_b = (zero + 128 for zero in product.zero_points)
    operands = [("a", -zero_b), ("b", -zero_a)]
    nibbles = [("hh", 256), ("hl", 16), ("ll", 1), ("lh", 16)]
    return [*nibbles, *((name, factor) for name, factor in operands if factor)]


def _round(
    state: Lowering,
    op: ir.Binary,
    product: Product,
    sources: tuple[str, str],
    channels: range,
    shape: Shape3,
    number: int,
) -> list[Layer]:
    """Some channels: copies of the operands, nibbles in place of four of them, and the sum."""
    word = state.machine.word_channels
    slots = _slots(product)
    step = len(slots) * word
    groups = -(-len(channels) // word)
    tensor, whole = f"{op.name}:nibbles{number}", (step * groups, *shape[1:])

    def copy(source: str, slot: int) -> Layer:
        layer = copy_layer(op, state.mode, source, (shape, (len(channels), *shape[1:])))
        region = Region(shape=whole, channel=slot * word, channel_step=step)
        return replace(layer, output=tensor, input_channel=channels.start, region=region)

    layers = [copy(sources[0 if name == "a" else 1], slot) for slot, (name, _) in enumerate(slots)]
    layers += [
        replace(
            copy(sources[0], slot),
            residual=tensor,
            add_tables=_nibble_tables(slots[slot][0]),
            table=_nibble_products(),
        )
        for slot in range(NIBBLES)
    ]
    weight = np.zeros((len(channels), step, 1, 1), np.int16)
    lanes = np.arange(len(channels))
    for slot, (_, factor) in enumerate(slots):
        weight[lanes, slot * word + lanes % word] = factor
    sum_ = make_layer(
        op,
        operator=operator_of(op),
        kind="dense",
        source=tensor,
        shapes=(whole, (len(channels), *shape[1:])),
        weight=weight,
        bias=np.full(len(channels), _offset(product), np.int64),
        strides=(1, 1),
        dilations=(1, 1),
        pads=(0, 0, 0, 0),
        input_zero_point=0,
        requant=product.requant,
        macs=0,
    )
    region = Region(shape=shape, channel=channels.start)
    return [*layers, replace(sum_, input_channel_step=step, region=region)]


def _offset(product: Product) -> int:
    """What the sum of the slots' codes lacks: every slot holds its number less 128."""
    zero_a, zero_b = (zero + 128 for zero in product.zero_points)
    lacking = 128 * sum(factor for _, factor in _slots(product))
    return lacking + zero_a * zero_b + product.bias


def _nibble_tables(names: str) -> AddTables:
    """For the adder: nibble a * 16 + nibble b - 128; `names` are h or l for each."""
    number = np.arange(256)
    a, b = (number >> 4 if name == "h" else number & 15 for name in names)
    return AddTables(
        a=((16 * a - 128 << ADD_FRACTION) + HALF).astype(np.int32),
        b=(b << ADD_FRACTION).astype(np.int32),
        differing=np.zeros((0, 2), np.int64),
    )


def _nibble_products() -> ir.Int8Array:
    number = np.arange(256)
    products: ir.Int8Array = ((number >> 4) * (number & 15) - 128).astype(np.int8)
    return products
