"""Functions of two operands: which of their exact forms is the cheapest.

| operands | forms |
|---|---|
| a constant that is one code | a table |
| a constant for each channel | one tap a channel; copies with tables, and a choice of channels |
| a constant that changes between pixels | these forms for each rectangle of equal constants |
| two tensors, or one and any constant | the residual adder, if two tables add up to all pairs |
| two tensors | a product, where the codes of all pairs are those of one (`lowering.product`) |

An operand that broadcasts is enlarged by copies first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from math import inf

import numpy as np

from qcompile.compiler import ir
from qcompile.compiler.add_tables import solve_add_tables
from qcompile.compiler.errors import UnsupportedError
from qcompile.compiler.layers import Layer, Stored
from qcompile.compiler.machine import Machine
from qcompile.compiler.passes.lowering.affine import affine
from qcompile.compiler.passes.lowering.fuse import add_form, fuse_add, fuse_lookup
from qcompile.compiler.passes.lowering.layer import copy_layer, operator_of, shape3
from qcompile.compiler.passes.lowering.product import (
    Product,
    as_weights,
    by_nibbles,
    find_product,
)
from qcompile.compiler.passes.lowering.select import select
from qcompile.compiler.passes.lowering.state import Lowering
from qcompile.compiler.passes.lowering.tabulated import Window, tables_alone, tables_and_choice

MOST_RECTANGLES = 128
"""Of equal constants; each one is a layer or more."""


def binary(state: Lowering, op: ir.Binary) -> None:
    """The layers of a Binary. UnsupportedError where it has no exact form."""
    constants = {c.name: c.data for c in state.graph.ops if isinstance(c, ir.Constant)}
    known = [name in constants for name in op.inputs]
    if all(known):
        raise UnsupportedError(f"'{op.name}': both operands of this {operator_of(op)} are constant")
    if any(known):
        _with_constant(state, op, known.index(True), constants[op.inputs[known.index(True)]])
        return
    sum_ = add_form(op.table)
    if sum_ is not None:
        fuse_add(state, op, [enlarged(state, op, operand) for operand in (0, 1)], sum_)
        return
    product = find_product(op.table, _zero_points(state.graph, op))
    if product is None or state.mode != "exact":
        raise _no_sum_or_product(op)
    _multiply(state, op, product)


def _zero_points(graph: ir.Graph, op: ir.Binary) -> tuple[int, int, int] | None:
    """Of both operands and of the result; None where one is not known."""
    values = [graph.values[name].quantization for name in (*op.inputs, op.name)]
    a, b, y = (None if value is None else value.zero_point for value in values)
    return None if a is None or b is None or y is None else (a, b, y)


def _multiply(state: Lowering, op: ir.Binary, product: Product) -> None:
    """The second operand as weights where it has one pixel; else nibbles of both."""
    shapes = [shape3(state.graph, name) for name in op.inputs]
    shape = shape3(state.graph, op.name)
    if shapes[0][1:] == (1, 1) and shapes[1][1:] == shape[1:]:
        op = replace(op, inputs=op.inputs[::-1], table=np.ascontiguousarray(op.table.T))
        product = replace(product, zero_points=product.zero_points[::-1])
        shapes = shapes[::-1]
    a = enlarged(state, op, 0)
    if shapes[1][1:] == (1, 1):
        b = enlarged(state, op, 1, (1, shape[0], 1, 1))
        form = as_weights(state, op, product, (a, b))
        if form is not None:
            _append(state, op, form)
            return
    b = enlarged(state, op, 1)
    if state.bank(a) != state.bank(b):
        moved = f"{op.name}:moved"
        layer = copy_layer(op, state.mode, b, (shape, shape))
        state.layers.append(replace(layer, name=moved, output=moved, inner=True))
        b = moved
    _append(state, op, by_nibbles(state, op, product, (a, b)))


def enlarged(
    state: Lowering, op: ir.Binary, operand: int, shape: tuple[int, ...] | None = None
) -> str:
    """A tensor of `shape`, or the output's, that holds an operand: itself or copies of it."""
    name = op.inputs[operand]
    shape = shape or state.graph.values[op.name].shape
    value = state.graph.values[name]
    if value.shape == shape:
        return state.source(name)
    numbers = np.arange(value.elements, dtype=np.int32).reshape(value.shape)
    large = f"{op.name}:operand{operand}"
    move = ir.Select(
        inputs=(name,),
        outputs=(large,),
        origins=op.origins,
        index=np.broadcast_to(numbers, shape),
    )
    moved = replace(state.graph.values[op.name], name=large, shape=shape)
    values = {**state.graph.values, large: moved}
    begin = len(state.layers)
    select(replace(state, graph=replace(state.graph, values=values)), move)
    state.layers[begin:] = [replace(layer, inner=True) for layer in state.layers[begin:]]
    state.uses[large] += 1
    return large


def _with_constant(state: Lowering, op: ir.Binary, operand: int, data: ir.Int8Array) -> None:
    shape = shape3(state.graph, op.name)
    codes = np.broadcast_to(data, state.graph.values[op.name].shape).reshape(shape)
    table = op.table if operand else op.table.T
    source = enlarged(state, op, 1 - operand)
    functions = _Functions(table, codes)
    if bool((functions.of_pixel(0, 0) == functions.of_pixel(0, 0)[0]).all()) and functions.alike:
        lookup = ir.Lookup(
            inputs=(source,),
            outputs=op.outputs,
            origins=op.origins,
            table=functions.of_pixel(0, 0)[0],
        )
        fuse_lookup(state, lookup)
        return
    forms = _forms(state, op, source, functions)
    costs = [_cost(state.machine, form) for form in forms]
    if min(costs, default=inf) > state.machine.sum_cycles(shape):
        forms += _sum_with_constant(state, op, source, table, codes)
    if not forms:
        raise _refusal(state, op, operand, functions)
    _append(state, op, min(forms, key=partial(_cost, state.machine)))


class _Functions:
    """The function [256] of each element: `table` by the element's constant code.

    Attributes
    ----------
    rectangles : list of Window
        Pixels whose channels have the same functions; None: more than `MOST_RECTANGLES`.
    alike : bool
        All pixels are.
    """

    def __init__(self, table: ir.Int8Array, codes: ir.Int8Array) -> None:
        self.shape = codes.shape
        self._table = table
        used = np.unique(codes).astype(np.int64) + 128
        _, kinds = np.unique(table[:, used], axis=1, return_inverse=True)
        kind_of = np.zeros(256, np.int64)
        kind_of[used] = kinds.reshape(-1)
        self._codes = codes.astype(np.int64) + 128
        _, pixels = np.unique(
            kind_of[self._codes].reshape(codes.shape[0], -1), axis=1, return_inverse=True
        )
        self.pixels = pixels.reshape(codes.shape[1:])
        self.alike = bool((self.pixels == self.pixels[0, 0]).all())
        self.rectangles = _rectangles(self.pixels)

    def of_pixel(self, y: int, x: int) -> ir.Int8Array:
        """The functions of its channels, int8 [channels, 256]."""
        functions: ir.Int8Array = self._table[:, self._codes[:, y, x]].T
        return functions


def _rectangles(pixels: ir.Int64Array) -> list[Window] | None:
    """Rectangles of equal numbers that cover all pixels."""
    height, width = pixels.shape
    covered = np.zeros(pixels.shape, np.bool_)
    found: list[Window] = []
    for y, x in np.ndindex(height, width):
        if covered[y, x]:
            continue
        if len(found) == MOST_RECTANGLES:
            return None
        wanted = (pixels == pixels[y, x]) & ~covered
        across = int(np.argmin(np.append(wanted[y, x:], False)))
        down = int(np.argmin(np.append(wanted[y:, x : x + across].all(axis=1), False)))
        covered[y : y + down, x : x + across] = True
        found.append(Window(start=(y, x), size=(down, across)))
    return found


def _forms(
    state: Lowering, op: ir.Binary, source: str, functions: _Functions
) -> list[tuple[Layer, ...]]:
    """Rectangle by rectangle, all in one step or all in two: a tensor is written from one bank."""
    cost = partial(_cost, state.machine)
    direct: list[Layer] | None = []
    chosen: list[Layer] = []
    if functions.rectangles is None:
        return []
    for window in functions.rectangles:
        wanted = functions.of_pixel(*window.start)
        chosen += tables_and_choice(state, op, source, wanted, window)
        alone = tables_alone(state, op, source, wanted, window)
        line = None if direct is None else affine(state, op, source, wanted, window)
        ways = [form for form in (alone, (line,) if line else None) if form is not None]
        direct = None if direct is None or not ways else [*direct, *min(ways, key=cost)]
    return [tuple(form) for form in (direct, chosen) if form is not None]


def _sum_with_constant(
    state: Lowering, op: ir.Binary, source: str, table: ir.Int8Array, codes: ir.Int8Array
) -> list[tuple[Layer, ...]]:
    """The constant as a tensor that the program stores, and the residual adder, if that can."""
    used = np.unique(codes).astype(np.int64) + 128
    nearest = used[np.abs(np.arange(256)[:, np.newaxis] - used).argmin(axis=1)]
    sum_ = add_form(table[:, nearest])
    if sum_ is None:
        return []
    stored = Stored(name=f"{op.name}:constant", codes=codes)
    copy = copy_layer(op, state.mode, source, (codes.shape, codes.shape))
    tables, clamp = sum_
    layer = replace(copy, residual=stored.name, add_tables=tables, table=clamp, stored=(stored,))
    return [(layer,)]


def _cost(machine: Machine, form: Sequence[Layer]) -> float:
    """Cycles of a form and of the stores of its constants; infinite where it fits no loop nest."""
    cost = machine.estimate(form)
    return inf if cost is None else cost


def _append(state: Lowering, op: ir.Op, form: tuple[Layer, ...]) -> None:
    """The last layer completes the tensor that the model names."""
    for number, layer in enumerate(form):
        last = number == len(form) - 1
        name = op.name if last else f"{op.name}:part{number}"
        state.layers.append(replace(layer, name=name, inner=not last))


def _no_sum_or_product(op: ir.Binary) -> UnsupportedError:
    differing = len(solve_add_tables(op.table).differing)
    return UnsupportedError(
        f"'{op.name}': {differing:,} of 65,536 operand pairs of this {operator_of(op)} have no "
        "exact form as a sum of two tables, and no product has all their codes",
        help="two tensors can only be added, subtracted or multiplied; with --requant exact, and "
        "scales of the operands near to the output's",
    )


def _refusal(
    state: Lowering, op: ir.Binary, operand: int, functions: _Functions
) -> UnsupportedError:
    other = op.inputs[1 - operand]
    shapes = [list(state.graph.values[name].shape) for name in op.inputs]
    kinds = len(np.unique(functions.pixels))
    return UnsupportedError(
        f"'{op.name}': {operator_of(op)} with a constant of {kinds:,} different pixels, in more "
        f"than {MOST_RECTANGLES} rectangles, has no exact form as a sum of two tables",
        context=[
            f"operand '{other}' {shapes[1 - operand]}",
            f"constant '{op.inputs[operand]}' {shapes[operand]}",
        ],
        help="use one constant for the tensor or for each channel",
    )
