"""Conv, ConvTranspose, MatMul and Gemm of random chains, and the windows that pools share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sim_tests.compiler.qoperator_networks import MICROSOFT, tensor
from sim_tests.compiler.random_chains import (
    MAX_ELEMENTS,
    Chain,
    random_parameters,
    random_weight,
)


def random_window(chain: Chain, *, pool: bool, dilations: bool = True) -> dict[str, Any] | None:
    """Kernel, strides, dilations and pads that leave at least one window; None where none does."""
    dice, sizes = chain.dice, chain.shape[2:]
    kernel = [dice.whole(1, min(4, size + 1)) for size in sizes]
    strides = [dice.pick((1, 1, 2, 3)) for _ in sizes]
    stretch = [dice.pick((1, 1, 1, 2)) if dilations else 1 for _ in sizes]
    window: dict[str, Any] = {"kernel_shape": kernel, "strides": strides}
    if dice.whole(0, 3) == 3 and max(stretch, default=1) == 1:
        return window | {"auto_pad": dice.pick(("SAME_UPPER", "SAME_LOWER"))}
    spans = [d * (k - 1) + 1 for d, k in zip(stretch, kernel, strict=True)]
    most = [(k if pool else span) - 1 for k, span in zip(kernel, spans, strict=True)]
    pads = [dice.whole(0, m) for m in (*most, *most)]
    room = [
        size + pads[i] + pads[i + len(sizes)] - span
        for i, (size, span) in enumerate(zip(sizes, spans, strict=True))
    ]
    return window | {"dilations": stretch, "pads": pads} if min(room) >= 0 else None


def window_sizes(chain: Chain, window: dict[str, Any]) -> tuple[int, ...]:
    """Numbers of windows, by ONNX's rule of floors."""
    sizes = []
    for i, size in enumerate(chain.shape[2:]):
        stride = window["strides"][i]
        if "auto_pad" in window:
            sizes.append(-(-size // stride))
            continue
        pads = window["pads"][i] + window["pads"][i + len(chain.shape) - 2]
        span = window["dilations"][i] * (window["kernel_shape"][i] - 1) + 1
        sizes.append((size + pads - span) // stride + 1)
    return tuple(sizes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A product with a constant weight.

    `channels` is the weight's axis of output channels; `shape` the result's.
    """

    operator: str
    weight: tuple[npt.NDArray[np.integer], npt.NDArray[np.float32], int]
    channels: int
    shape: tuple[int, ...]
    attributes: dict[str, Any]


def conv(chain: Chain) -> None:
    """Conv or QLinearConv with groups; perhaps Relu or Clip."""
    dice, channels = chain.dice, chain.shape[1]
    window = random_window(chain, pool=False) if len(chain.shape) in (3, 4) else None
    if window is None:
        return
    group = dice.pick([1, *(g for g in range(1, channels + 1) if channels % g == 0)])
    outputs = group * dice.whole(1, max(1, 12 // group))
    shape = (outputs, channels // group, *window["kernel_shape"])
    depth = math.prod(shape[1:])
    product = Product(
        operator="Conv",
        weight=random_weight(chain, shape, 0, depth),
        channels=0,
        shape=(1, outputs, *window_sizes(chain, window)),
        attributes=window | {"group": group},
    )
    _add(chain, product)


def conv_transpose(chain: Chain) -> None:
    """ConvTranspose with groups, of QDQ form; perhaps Relu or Clip."""
    dice, channels = chain.dice, chain.shape[1]
    axes = len(chain.shape) - 2
    if axes not in (1, 2):
        return
    group = dice.pick([g for g in range(1, channels + 1) if channels % g == 0])
    outputs = dice.whole(1, max(1, 8 // group))
    kernel, strides, dilations = (
        [dice.pick(among) for _ in range(axes)] for among in ((1, 2, 3, 4), (1, 2, 2, 3), (1, 1, 2))
    )
    more = [dice.whole(0, stride - 1) for stride in strides]
    spans = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    pads = [dice.whole(0, span - 1) for span in (*spans, *spans)]
    sizes = [
        (size - 1) * strides[i] + more[i] + spans[i] - pads[i] - pads[i + axes]
        for i, size in enumerate(chain.shape[2:])
    ]
    shape = (1, group * outputs, *sizes)
    if min(sizes) < 1 or math.prod(shape) > MAX_ELEMENTS:
        return
    weights = (channels, outputs, *kernel)
    depth = max(1, channels // group * math.prod(kernel) // math.prod(strides))
    product = Product(
        operator="ConvTranspose",
        weight=random_weight(chain, weights, 1, depth),
        channels=1,
        shape=shape,
        attributes={
            "strides": strides,
            "dilations": dilations,
            "pads": pads,
            "output_padding": more,
            "group": group,
        },
    )
    _quantized_floats(chain, product)


def same_size(chain: Chain) -> None:
    """A layer whose result has the operand's shape."""
    rank = len(chain.shape)
    if rank == 2 or chain.dice.whole(0, 1):
        return _matmul(chain, chain.shape[-1])
    kernel = [3] * (rank - 2)
    product = Product(
        operator="Conv",
        weight=random_weight(chain, (chain.shape[1], 1, *kernel), 0, 3 ** len(kernel)),
        channels=0,
        shape=chain.shape,
        attributes={"kernel_shape": kernel, "auto_pad": "SAME_UPPER", "group": chain.shape[1]},
    )
    return _add(chain, product)


def matmul(chain: Chain) -> None:
    """MatMul, QLinearMatMul, MatMulInteger, Gemm or QGemm with a constant."""
    _matmul(chain, chain.dice.whole(1, 10))


def _matmul(chain: Chain, outputs: int) -> None:
    depth = chain.shape[-1]
    product = Product(
        operator="MatMul",
        weight=random_weight(chain, (depth, outputs), 1, depth),
        channels=1,
        shape=(*chain.shape[:-1], outputs),
        attributes={},
    )
    _add(chain, product)


def _add(chain: Chain, product: Product) -> None:
    """In QDQ form, in QOperator form, or as sums of codes that are scaled behind."""
    chain.dice.pick((_quantized_floats, _quantized_floats, _operator, _integers))(chain, product)


def _bias(chain: Chain, product: Product) -> npt.NDArray[np.int32] | None:
    if not chain.dice.whole(0, 2):
        return None
    count = product.weight[0].shape[product.channels]
    return np.asarray(chain.rng.integers(-2000, 2001, count), np.int32)


def _operator(chain: Chain, product: Product) -> None:
    """QLinearConv, QLinearMatMul or QGemm."""
    dice, network = chain.dice, chain.network
    codes, scale, zero = product.weight
    after = random_parameters(dice, chain.dtype, chain.spread)
    gemm = product.operator == "MatMul" and len(chain.shape) == 2 and dice.whole(0, 1)
    operands = [
        *tensor(network, chain.codes, chain.parameters),
        network.constant(codes, codes.dtype.name),
        network.constant(scale, "float32"),
        network.constant(np.broadcast_to(zero, scale.shape), codes.dtype.name),
    ]
    bias = _bias(chain, product)
    ends = tensor(network, "", after)
    if gemm:
        name = "" if bias is None else network.constant(bias, "int32")
        made = network.node("QGemm", *operands, name, *ends, domain=MICROSOFT, alpha=1.0)
    else:
        operands += ends
        if bias is not None and product.operator == "Conv":
            operands.append(network.constant(bias, "int32"))
        made = network.node(f"QLinear{product.operator}", *operands, **product.attributes)
    chain.become(made, product.shape, after, chain.spread)


def _integers(chain: Chain, product: Product) -> None:
    """ConvInteger or MatMulInteger, Cast, Mul by the scales, QuantizeLinear."""
    network = chain.network
    codes, scale, zero = product.weight
    zero_point = network.constant(chain.parameters[1], chain.dtype)
    total = np.float32(chain.parameters[0]) * scale
    if product.operator == "Conv" and total.ndim:
        total = total.reshape(-1, *(1 for _ in chain.shape[2:]))
    names = [network.constant(codes, codes.dtype.name), zero_point]
    if zero or chain.dice.whole(0, 1):
        names.append(network.constant(zero, codes.dtype.name))
    sums = network.node(f"{product.operator}Integer", chain.codes, *names, **product.attributes)
    real = network.node("Mul", network.node("Cast", sums, to=1), network.constant(total, "float32"))
    chain.end(real, product.shape, chain.spread)


def _quantized_floats(chain: Chain, product: Product) -> None:
    """DequantizeLinear, Conv, MatMul or Gemm, perhaps a bias, Relu or Clip, QuantizeLinear."""
    dice, network = chain.dice, chain.network
    codes, scale, zero = product.weight
    operands = [
        chain.real(),
        network.weight(codes, scale, zero, **({"axis": product.channels} if scale.ndim else {})),
    ]
    bias, addend = _bias(chain, product), ""
    total = np.float32(chain.parameters[0]) * scale
    if product.operator == "ConvTranspose":
        group = product.attributes["group"]
        bias = None if bias is None else np.tile(bias, group)
        total = np.tile(total, group) if total.ndim else total
    if bias is not None and (dice.whole(0, 1) or product.operator == "MatMul"):
        addend = network.constant(bias * total, "float32")
    elif bias is not None:
        addend = network.weight(bias, total, **({"axis": 0} if total.ndim else {}))
    third = [addend] if addend else []
    if product.operator.startswith("Conv"):
        value = network.node(product.operator, *operands, *third, **product.attributes)
    elif len(chain.shape) == 2 and dice.whole(0, 1):
        value = network.node("Gemm", *operands, *third)
    else:
        value = network.node("MatMul", *operands)
        value = network.node("Add", value, addend) if addend else value
    chain.end(clipped(chain, value), product.shape, chain.spread)


def clipped(chain: Chain, value: str) -> str:
    """Mostly the value itself; else behind a Relu or Clip."""
    network = chain.network
    kind = chain.dice.pick(("none", "none", "Relu", "Clip"))
    if kind == "Relu":
        return network.node("Relu", value)
    if kind == "Clip":
        bounds = [network.constant(factor * chain.spread, "float32") for factor in (-0.5, 1.5)]
        return network.node("Clip", value, *bounds)
    return value
