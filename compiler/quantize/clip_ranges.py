"""Reads clip ranges of activations that a training tool found, in place of calibration.

The form is that of MQBench's deploy export, `NAME_clip_ranges.json` (ModelTC/MQBench,
mqbench/deploy/deploy_linear.py, `remove_fakequantize_and_collect_params`), by backend:

    {"tensorrt": {"blob_range": {TENSOR: largest magnitude}}}
    {"activation_encodings": {TENSOR: [{"bitwidth": 8, "min": .., "max": ..}]}, ...}      snpe
    {"ppl": {TENSOR: {"min": .., "max": .., "step": .., "zero_point": .., "bit": 8}}}
    {"vitis": {TENSOR: {"scale": ..}}}
    {"ppl-cuda": {TENSOR: largest magnitude}}
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qcompile.compiler.errors import InputError
from qcompile.compiler.quantize.normal_scales import LEAST, MOST, first_odd
from qcompile.compiler.quantize.ranges import Range

FORMS = "MQBench's clip_ranges.json of tensorrt, snpe, ppl, ppl-cuda or vitis"
BITS = 8


def load_ranges(path: Path) -> dict[str, Range]:
    """Ranges by tensor; InputError for everything that is not one of the forms."""
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, IsADirectoryError):
        what = "is a folder" if path.is_dir() else "no such file"
        raise InputError(f"{path}: {what}", help=f"--ranges takes {FORMS}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: not a JSON file ({error})", help=f"--ranges takes {FORMS}"
        ) from error
    tensors = _tensors(content)
    if not tensors:
        raise InputError(f"{path}: holds no clip ranges", help=f"--ranges takes {FORMS}")
    return {
        name: _range(path, name, value) for name, value in tensors.items() if not _of_weights(value)
    }


def _tensors(content: Any) -> Mapping[str, Any]:
    """What stands for each tensor, whichever backend wrote it."""
    if not isinstance(content, dict):
        return {}
    given = content.get("tensorrt", {})
    found = given.get("blob_range") if isinstance(given, dict) else None
    for backend in ("activation_encodings", "ppl", "ppl-cuda", "vitis"):
        found = found or content.get(backend)
    return found if isinstance(found, dict) else {}


def _of_weights(value: Any) -> bool:
    """Whether it is one number a channel, as ppl has them of weights."""
    return isinstance(value, dict) and isinstance(value.get("min"), list)


def _range(path: Path, name: str, value: Any) -> Range:
    try:
        low, high = _ends(value)
    except (AttributeError, KeyError, TypeError, ValueError, IndexError, OverflowError):
        low, high = math.nan, math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low <= 0 <= high and low < high):
        raise InputError(
            f"{path}: tensor '{name}' has no range that holds 0: {json.dumps(value)}",
            help=f"give finite numbers, min <= 0 <= max, in the form of {FORMS}",
        )
    found = Range(low=low, high=high)
    if first_odd([found.scale, max(-low, high)]) is not None:
        raise InputError(
            f"{path}: tensor '{name}' has a range that float32 does not hold: {json.dumps(value)}",
            help=f"give ranges with steps of {LEAST:.3g} or more that end below {MOST:.3g}",
        )
    return found


def _ends(value: Any) -> tuple[float, float]:
    """Real values of codes -128 and 127."""
    if isinstance(value, int | float):  # symmetric: 127 steps up to the largest magnitude
        return -float(value) * 128 / 127, float(value)
    one = value[0] if isinstance(value, list) else value
    if one.get("bitwidth", one.get("bit", BITS)) != BITS:
        raise ValueError("not 8 bits")
    if "scale" in one:
        return -128 * float(one["scale"]), 127 * float(one["scale"])
    return float(one["min"]), float(one["max"])
