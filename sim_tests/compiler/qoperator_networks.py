"""Builds networks of the QOperator form for the compiler's tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sim_tests.compiler.networks import Network, Parameters

MICROSOFT = "com.microsoft"

TYPE_PAIRS = (("uint8", "int8"), ("uint8", "uint8"), ("int8", "int8"))
"""Types of activations and weights that ONNX Runtime multiplies."""


def tensor(network: Network, codes: str, parameters: Parameters) -> list[str]:
    """Codes, scale and zero point, as quantized operators list them."""
    scale, zero_point, dtype = parameters
    return [
        *([codes] if codes else []),
        network.constant(scale, "float32"),
        network.constant(zero_point, dtype),
    ]


def random_parameters(rng: np.random.Generator, dtype: str, scale: float = 0.05) -> Parameters:
    """A scale near the given one; often a zero point at one of the type's ends."""
    info = np.iinfo(dtype)
    zero = int(rng.choice([info.min, info.max, int(rng.integers(info.min, info.max + 1))]))
    return float(np.float32(scale * rng.uniform(0.7, 1.4))), zero, dtype


def random_weight(
    network: Network,
    rng: np.random.Generator,
    shape: tuple[int, ...],
    dtype: str,
    *,
    channels: int | None = None,
    depth: int | None = None,
    zero_point: int | None = None,
) -> tuple[list[str], npt.NDArray[np.float32]]:
    """Codes, scale and zero point of a constant, and the scale; along `channels` where given.

    Scales are such that sums of `depth` products keep the size of an activation.
    """
    info = np.iinfo(dtype)
    codes = rng.integers(info.min, info.max + 1, shape)
    count = () if channels is None else (shape[channels],)
    depth = depth or int(np.prod(shape[1:]))
    scale = np.float32(rng.uniform(0.4, 1.6, count) / (74 * depth**0.5))
    middle = (info.min + info.max + 1) // 2
    zero = middle + int(rng.integers(-12, 13)) if zero_point is None else zero_point
    names = [
        network.constant(codes, dtype),
        network.constant(scale, "float32"),
        network.constant(np.full(count, zero), dtype),
    ]
    return names, np.asarray(scale)


def single(
    network: Network,
    operator: str,
    inputs: list[str],
    dtype: str,
    *,
    domain: str = "",
    **attributes: Any,
) -> Network:
    """The network ends with one quantized operator 'q' that makes the output 'y'."""
    made = network.node(operator, *inputs, name="q", output="y", domain=domain, **attributes)
    network.output(made, dtype)
    return network
