"""Average pools as depthwise convolutions, whose result has a scale of its own.

ONNX Runtime adds the windows of an AveragePool in float32, which decides ties, and its mean of n
codes is a shift for a power of two n alone. As a convolution whose weights are all 1 / n the sum is
a whole number, and with the result's scale s_x * 2**k / n the mean is a shift by k.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, helper

from qcompile.compiler.errors import QcompileError, UnsupportedError
from qcompile.compiler.quantize.prepare import POOLS, Network, attributes

KEPT = ("kernel_shape", "strides", "pads", "auto_pad")
"""Attributes that AveragePool and Conv share."""


Factor = Callable[[tuple[int, ...]], float]
"""What a sum over a window, of the kernel's sizes, is multiplied by to be its mean."""


def exact_factor(kernel: tuple[int, ...]) -> float:
    """1 / n."""
    return 1 / math.prod(kernel)


def pools_to_layers(network: Network, factor: Factor = exact_factor) -> frozenset[str]:
    """Replace average pools; names of the convolutions.

    A mean over a whole image of 2**n pixels stays: it is a shift as it is. UnsupportedError where
    windows at the border have fewer taps.
    """
    shapes = _shapes(network)
    problems, made = [], set()
    for node in network.nodes:
        if node.op_type not in POOLS:
            continue
        image = shapes[node.input[0]][2:]
        if node.op_type == "GlobalAveragePool" and math.prod(image) & (math.prod(image) - 1) == 0:
            continue
        problem = _problem(node)
        if problem is not None:
            problems.append(problem)
            continue
        _to_layer(network, node, shapes[node.input[0]][1:], factor)
        made.add(node.name)
    if problems:
        raise UnsupportedError("\n".join(one.render() for one in problems), problems=problems)
    return frozenset(made)


def _shapes(network: Network) -> dict[str, list[int]]:
    graph = onnx.shape_inference.infer_shapes(network.to_model(), data_prop=True).graph
    return {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.value_info, *graph.output)
    }


def _problem(node: NodeProto) -> QcompileError | None:
    """Why the mean's divisor is not the same everywhere, if it is not."""
    found = attributes(node)
    padded = any(found.get("pads", ())) or found.get("auto_pad", b"NOTSET") not in (
        b"NOTSET",
        b"VALID",
    )
    if not found.get("ceil_mode", 0) and (not padded or found.get("count_include_pad", 0)):
        return None
    return QcompileError(
        f"{node.op_type} '{node.name}' divides by fewer taps at the border, which no shift does",
        help="set count_include_pad=1 and ceil_mode=0, or take scheme affine",
    )


def _to_layer(network: Network, node: NodeProto, sizes: list[int], factor: Factor) -> None:
    """`sizes` are the operand's channels and those of its image."""
    found = attributes(node)
    kernel = list(found.get("kernel_shape", sizes[1:]))
    kept: dict[str, Any] = {name: found[name] for name in KEPT if name in found}
    weight = f"{node.name}/weight"
    shape = (sizes[0], 1, *kernel)
    network.constants[weight] = np.full(shape, factor(tuple(kernel)), np.float32)
    kept |= {"kernel_shape": kernel, "group": sizes[0]}
    layer = helper.make_node(
        "Conv", [node.input[0], weight], [node.output[0]], name=node.name, **kept
    )
    node.CopyFrom(layer)
