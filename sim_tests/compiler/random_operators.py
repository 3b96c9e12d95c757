"""Pools and elementwise operators of random chains, and all operators by kind.

An operator does nothing where the shape is no good for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from onnx import helper

from sim_tests.compiler.qoperator_networks import MICROSOFT, tensor
from sim_tests.compiler.random_chains import Chain, Operator, random_parameters
from sim_tests.compiler.random_layers import (
    clipped,
    conv,
    conv_transpose,
    matmul,
    random_window,
    same_size,
    window_sizes,
)
from sim_tests.compiler.random_moves import move, resize


def pool(chain: Chain) -> None:
    """MaxPool or AveragePool, of codes or of real numbers."""
    if len(chain.shape) not in (3, 4):
        return
    dice, network = chain.dice, chain.network
    kind = dice.pick(("MaxPool", "MaxPool", "AveragePool"))
    window = random_window(chain, pool=True, dilations=kind == "MaxPool")
    if window is None:
        return
    if kind == "AveragePool":
        window.pop("dilations", None)
        window["count_include_pad"] = dice.whole(0, 1)
    sizes = window_sizes(chain, window | {"dilations": window.get("dilations", [1] * 2)})
    if "auto_pad" not in window and dice.whole(0, 2) == 2:
        window["ceil_mode"] = 1
        return _ceiled(chain, kind, window)
    shape = (*chain.shape[:2], *sizes)
    if kind == "MaxPool" and network.opset >= 12 and dice.whole(0, 1):
        made = network.node(kind, chain.codes, **window)
        return chain.become(made, shape, chain.parameters, chain.spread)
    made = network.node(kind, chain.real(), **window)
    return chain.end(made, shape, chain.spread, same=kind == "MaxPool")


def _ceiled(chain: Chain, kind: str, window: dict[str, Any]) -> None:
    """The last operator: nobody asks for its shape."""
    made = chain.network.node(kind, chain.real(), **window)
    chain.end(made, (1, 1), chain.spread, same=True)


def reduce(chain: Chain) -> None:
    """GlobalAveragePool, GlobalMaxPool, ReduceMean or ReduceMax over the image."""
    if len(chain.shape) not in (3, 4):
        return
    dice, network = chain.dice, chain.network
    kind = dice.pick(("GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax"))
    shape = (*chain.shape[:2], *(1 for _ in chain.shape[2:]))
    if kind == "GlobalAveragePool" and dice.whole(0, 1):
        after = random_parameters(dice, chain.dtype, chain.spread)
        operands = [*tensor(network, chain.codes, chain.parameters), *tensor(network, "", after)]
        made = network.node("QLinearGlobalAveragePool", *operands, domain=MICROSOFT)
        return chain.become(made, shape, after, chain.spread)
    axes = list(range(2, len(chain.shape)))
    if not kind.startswith("Reduce"):
        made = network.node(kind, chain.real())
    elif network.opset < 18:
        made = network.node(kind, chain.real(), axes=axes)
    else:
        made = network.node(kind, chain.real(), network.constant(axes, "int64"))
    return chain.end(made, shape, chain.spread, same=kind.endswith(("MaxPool", "Max")))


def binary(chain: Chain) -> None:
    """Two activations, the second a table, a smaller part or the value itself; or a constant."""
    dice, network = chain.dice, chain.network
    kind = dice.pick(("Add", "Add", "Mul", "Sub"))
    first, shape, before, spread = chain.codes, chain.shape, chain.parameters, chain.spread
    other = dice.pick(("layer", "table", "part", "constant", "itself"))
    if other == "constant":
        size = dice.pick(((), (1, shape[1], *(1 for _ in shape[2:]))))
        constant = network.constant(chain.rng.normal(size=size) * spread, "float32")
        made = network.node(kind, chain.real(), constant)
        scale = spread if kind == "Mul" else 1.5
        return chain.end(made, shape, spread * scale)
    if other == "table":
        unary(chain)
    elif other == "layer":
        same_size(chain)
    elif other == "part" and len(shape) > 2:
        axes = [axis for axis in range(2, len(shape)) if dice.whole(0, 1)]
        chain.codes = _first_of(chain, axes)
        chain.shape = tuple(1 if axis in axes else d for axis, d in enumerate(shape))
    pair = [(first, before), (chain.codes, chain.parameters)]
    spread = spread * chain.spread if kind == "Mul" else math.hypot(spread, chain.spread)
    chain.shape = shape
    if kind != "Sub" and before[2] == chain.dtype and dice.whole(0, 1):
        after = random_parameters(dice, chain.dtype, spread)
        operands = [name for codes, p in pair for name in tensor(network, codes, p)]
        made = network.node(
            f"QLinear{kind}", *operands, *tensor(network, "", after), domain=MICROSOFT
        )
        return chain.become(made, shape, after, spread)
    made = network.node(kind, *(network.dequantize(codes, p) for codes, p in pair))
    return chain.end(clipped(chain, made), shape, spread)


def _first_of(chain: Chain, axes: Sequence[int]) -> str:
    if not axes:
        return chain.codes
    lists = [[0] * len(axes), [1] * len(axes), list(axes)]
    names = [chain.network.constant(values, "int64") for values in lists]
    made = chain.network.node("Slice", chain.real(), *names)
    return chain.network.quantize(made, chain.parameters)


FUNCTIONS: dict[str, dict[str, Any]] = {
    "Abs": {},
    "Elu": {"alpha": 0.8},
    "HardSigmoid": {"alpha": 0.21},
    "LeakyRelu": {"alpha": 0.1},
    "Neg": {},
    "PRelu": {},
    "Relu": {},
    "Sigmoid": {},
    "Softsign": {},
    "Tanh": {},
}


def unary(chain: Chain) -> None:
    """A table: one function of a value, or two; LeakyRelu and Sigmoid of QOperator form too."""
    dice, network = chain.dice, chain.network
    name = dice.pick(list(FUNCTIONS))
    bounded = name in ("HardSigmoid", "Sigmoid", "Softsign", "Tanh")
    spread = min(chain.spread, 1.0) if bounded else chain.spread
    if name in ("LeakyRelu", "Sigmoid") and dice.whole(0, 1):
        after = random_parameters(dice, chain.dtype, spread)
        operands = [*tensor(network, chain.codes, chain.parameters), *tensor(network, "", after)]
        made = network.node(f"QLinear{name}", *operands, domain=MICROSOFT, **FUNCTIONS[name])
        return chain.become(made, chain.shape, after, spread)
    more = [network.constant(-0.3, "float32")] if name == "PRelu" else []
    made = network.node(name, chain.real(), *more, **FUNCTIONS[name])
    if dice.whole(0, 3) == 3:
        made = network.node("Neg", made)
    return chain.end(made, chain.shape, spread)


def concat(chain: Chain) -> None:
    """The value, a table of it with other parameters, along any axis but the batch."""
    dice, network = chain.dice, chain.network
    first, before, shape, spread = chain.codes, chain.parameters, chain.shape, chain.spread
    unary(chain)
    axis = dice.whole(1, len(shape) - 1)
    pair = [(first, before), (chain.codes, chain.parameters)]
    longer = (*shape[:axis], 2 * shape[axis], *shape[axis + 1 :])
    spread = max(spread, chain.spread)
    if before[2] == chain.dtype and dice.whole(0, 1):
        after = random_parameters(dice, chain.dtype, spread)
        operands = [name for codes, p in pair for name in tensor(network, codes, p)]
        ends = tensor(network, "", after)
        made = network.node("QLinearConcat", *ends, *operands, domain=MICROSOFT, axis=axis)
        return chain.become(made, longer, after, spread)
    made = network.node("Concat", *(network.dequantize(c, p) for c, p in pair), axis=axis)
    return chain.end(made, longer, spread)


def split(chain: Chain) -> None:
    """Both parts of a Split, added where they are equally long."""
    network = chain.network
    axis = len(chain.shape) - 1
    half, odd = divmod(chain.shape[axis], 2)
    if odd:
        return None
    parts = [network.fresh("part"), network.fresh("part")]
    made = helper.make_node("Split", [chain.real()], parts, name=parts[0], axis=axis)
    if network.opset >= 18:
        made.attribute.append(helper.make_attribute("num_outputs", 2))
    network.nodes.append(made)
    codes = [network.quantize(part, chain.parameters) for part in parts]
    total = network.node("Add", *(network.dequantize(c, chain.parameters) for c in codes))
    return chain.end(total, (*chain.shape[:axis], half), chain.spread * 1.5)


LAYERS: tuple[Operator, ...] = (conv, conv_transpose, matmul)
WINDOWS: tuple[Operator, ...] = (pool, reduce)
ELEMENTWISE: tuple[Operator, ...] = (binary, unary)
MOVES: tuple[Operator, ...] = (move, move, move, concat, split, resize)
ALL = (*LAYERS, *LAYERS, *WINDOWS, *ELEMENTWISE, *MOVES)
