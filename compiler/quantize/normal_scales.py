"""Scales that float32 has in full: others would be stored as 0, as infinity, or with fewer digits.

`qcompile` refuses models with such scales, and ONNX Runtime computes them in other ways elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompile.compiler.errors import InputError
from qcompile.compiler.quantize.encoding import Encoding
from qcompile.compiler.quantize.layer import Layer, LayerCodes, bias_scales

LEAST, MOST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)


def first_odd(scales: npt.ArrayLike) -> float | None:
    """The first of some positive numbers that is no normal float32; None where all are."""
    values: npt.NDArray[Any] = np.asarray(scales, np.float64).reshape(-1)
    odd = values[~((values >= LEAST) & (values <= MOST))]
    return float(odd[0]) if len(odd) else None


def check_scales(
    layers: Iterable[Layer], encodings: Mapping[str, Encoding], codes: Mapping[str, LayerCodes]
) -> None:
    """InputError that names the first tensor, or layer, with a scale that is no normal float32."""
    for name, encoding in encodings.items():
        _check(f"tensor '{name}'", encoding.scale)
    for layer in layers:
        name, found = layer.node.name, codes[layer.node.name]
        _check(f"{layer.node.op_type} '{name}': the weights", found.scales)
        if found.bias is not None:
            scales = bias_scales(layer, found.scales, encodings[layer.operand].scale)
            _check(f"{layer.node.op_type} '{name}': the bias", scales)


def _check(what: str, scales: npt.ArrayLike) -> None:
    odd = first_odd(scales)
    if odd is not None:
        raise InputError(
            f"{what}: a scale of {odd:.4g} is no normal float32",
            help=f"scale inputs or weights so that it is between {LEAST:.3g} and {MOST:.3g}",
        )
