"""Importer of Resize; with mode nearest each output position reads one input position.

Coordinates are computed in float32, step by step as ONNX Runtime's CPU provider does, because its
roundings decide which of two neighbours is read.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from qcompile.compiler.frontend.node_reader import Imported, NodeReader, Refusal, resolved_axis
from qcompile.compiler.frontend.operators import REAL_OR_CODES, Operator
from qcompile.compiler.frontend.resize_linear import Axis, interpolated
from qcompile.compiler.frontend.selection import numbered, selected, small_shape
from qcompile.compiler.ir import Int64Array, Value

FloatArray = npt.NDArray[np.float32]

HALF, ONE = np.float32(0.5), np.float32(1)


def _half_pixel(x: FloatArray, axis: Axis) -> FloatArray:
    return (x + HALF) / axis.scale - HALF


def _symmetric(x: FloatArray, axis: Axis) -> FloatArray:
    """half_pixel, with what a fractional output length leaves over on both sides alike."""
    adjustment = np.float32(axis.after) / (axis.scale * np.float32(axis.before))
    offset = np.float32(axis.before) / np.float32(2) * (ONE - adjustment)
    exact = np.float64(offset) + (x.astype(np.float64) + 0.5) / np.float64(axis.scale) - 0.5
    return exact.astype(np.float32)


def _align_corners(x: FloatArray, axis: Axis) -> FloatArray:
    if axis.after == 1:
        return np.zeros_like(x)
    return x * np.float32(axis.before - 1) / np.float32(axis.after - 1)


def _crop(x: FloatArray, axis: Axis) -> FloatArray:
    last = np.float32(axis.before - 1)
    if axis.after == 1:
        return np.full_like(x, HALF * (axis.start + axis.end) * last)
    step = x * (axis.end - axis.start) * last / np.float32(axis.after - 1)
    return axis.start * last + step


COORDINATES: dict[str, Callable[[FloatArray, Axis], FloatArray]] = {
    "align_corners": _align_corners,
    "asymmetric": lambda x, axis: x / axis.scale,
    "half_pixel": _half_pixel,
    "half_pixel_symmetric": _symmetric,
    "pytorch_half_pixel": lambda x, axis: (
        _half_pixel(x, axis) if axis.after > 1 else np.zeros_like(x)
    ),
    "tf_crop_and_resize": _crop,
    "tf_half_pixel_for_nn": lambda x, axis: (x + HALF) / axis.scale,
}


HALFWAY = np.float32(1e-6)
"""How far from a half a coordinate still counts as one: as much as division by a scale loses."""


def _round(x: FloatArray, halves: Callable[[FloatArray], FloatArray]) -> FloatArray:
    """To the nearest whole number; halves as told."""
    down = np.floor(x)
    is_half = np.abs(x - down - HALF) < HALFWAY
    return np.where(is_half, halves(x), np.where(x - down < HALF, down, down + ONE))


NEAREST: dict[str, Callable[[FloatArray], FloatArray]] = {
    "ceil": np.ceil,
    "floor": np.floor,
    "round_prefer_ceil": lambda x: _round(x, np.ceil),
    "round_prefer_floor": lambda x: _round(x, np.floor),
}


def resize(node: NodeReader) -> Imported:
    """Resize to constant scales or sizes, mode nearest or linear."""
    x = node.value(0)
    mode = node.attribute("mode", "nearest")
    if mode not in ("nearest", "linear"):
        raise Refusal(f"mode={mode} is not supported", help="only nearest and linear")
    coordinates = node.attribute("coordinate_transformation_mode", "half_pixel")
    nearest = node.attribute("nearest_mode", "round_prefer_floor")
    if mode == "linear":
        node.expect("antialias", 0)
    for unused in ("cubic_coeff_a", "exclude_outside", "antialias", "extrapolation_value"):
        node.attribute(unused)  # speak of other modes; what would be extrapolated is refused
    if node.opset < 11:
        coordinates, nearest = "asymmetric", "simple"
    if coordinates not in COORDINATES or nearest not in (*NEAREST, "simple"):
        raise Refusal(f"{coordinates} with {nearest} is unknown", broken=True)
    if mode == "linear":
        return _linear(node, x, coordinates)
    axes = read_axes(node, x, crop=coordinates == "tf_crop_and_resize")
    small_shape([axis.after for axis in axes])
    index = numbered(x)
    if all(axis.after == axis.before for axis in axes):
        return selected(node, index)  # ONNX Runtime copies, whatever the scales and the region
    for place, axis in enumerate(axes):
        index = np.take(index, _positions(axis, coordinates, nearest), axis=place)
    return selected(node, index)


def _linear(node: NodeReader, x: Value, coordinates: str) -> Imported:
    if coordinates == "tf_crop_and_resize":
        raise Refusal(
            "tf_crop_and_resize with mode=linear is not supported", help="use Slice, then Resize"
        )
    if x.dtype != "float32":
        raise Refusal(
            "mode=linear of codes is not supported, because ONNX Runtime truncates its means",
            help="add DequantizeLinear in front of it and QuantizeLinear behind",
        )
    return interpolated(node, coordinates, read_axes(node, x, crop=False))


def _positions(axis: Axis, coordinates: str, nearest: str) -> Int64Array:
    """The input position that each output position of an axis reads."""
    if axis.scale == 1:
        return np.arange(axis.after)
    original = COORDINATES[coordinates](np.arange(axis.after, dtype=np.float32), axis)
    outside = (original < 0) | (original > axis.before - 1)
    if coordinates == "tf_crop_and_resize" and np.any(outside):
        raise Refusal(
            "reads beyond the image, where ONNX Runtime fills codes with a real number",
            help="give a region inside the image, or use Pad",
        )
    if nearest == "simple":
        rounded = np.ceil(original) if axis.scale < 1 else np.trunc(original)
    else:
        rounded = NEAREST[nearest](original)
    return rounded.astype(np.int64).clip(0, axis.before - 1)


def read_axes(node: NodeReader, x: Value, *, crop: bool) -> list[Axis]:
    """All axes of the input, those that are not named with scale 1."""
    rank = len(x.shape)
    listed = node.attribute("axes", kind=list) if node.opset >= 18 else None
    places = [resolved_axis(int(axis), rank) for axis in listed] if listed else list(range(rank))
    first = 1 if node.opset < 11 else 2
    scales = node.constant(first, "scales")
    sizes = node.integers(3, "sizes") if node.opset >= 11 else None
    if len(set(places)) != len(places) or (scales is None or not scales.size) == (not sizes):
        raise Refusal("needs either scales or sizes, for different axes", broken=True)
    regions = _regions(node, len(places)) if crop else [(0.0, 1.0)] * len(places)
    if sizes:
        resized = _by_sizes(node, [x.shape[place] for place in places], sizes)
    else:
        assert scales is not None
        resized = _by_scales([x.shape[place] for place in places], scales)
    axes = [_axis(d, d, ONE, (0.0, 1.0)) for d in x.shape]
    for place, (after, scale), region in zip(places, resized, regions, strict=True):
        axes[place] = _axis(x.shape[place], after, scale, region)
    return axes


def _axis(before: int, after: int, scale: np.float32, region: tuple[float, float]) -> Axis:
    if after < 1:
        raise Refusal(f"makes an axis of {after} values from {before}", broken=True)
    start, end = (np.float32(bound) for bound in region)
    return Axis(before=before, after=after, scale=scale, start=start, end=end)


def _regions(node: NodeReader, count: int) -> list[tuple[float, float]]:
    roi = node.constant(1, "roi")
    if roi is None or roi.size != 2 * count:
        raise Refusal("has no roi for tf_crop_and_resize", broken=True)
    bounds = [float(bound) for bound in roi.reshape(-1)]
    return list(zip(bounds[:count], bounds[count:], strict=True))


def _by_scales(lengths: list[int], scales: npt.NDArray[np.generic]) -> list[tuple[int, np.float32]]:
    factors = scales.astype(np.float32).reshape(-1)
    if len(factors) != len(lengths) or not np.all(np.isfinite(factors)) or np.any(factors <= 0):
        raise Refusal(f"scales={factors.tolist()} do not fit {lengths}", broken=True)
    pairs = zip(lengths, factors, strict=True)
    return [(int(np.float32(length) * factor), factor) for length, factor in pairs]


def _by_sizes(
    node: NodeReader, lengths: list[int], sizes: tuple[int, ...]
) -> list[tuple[int, np.float32]]:
    policy = node.attribute("keep_aspect_ratio_policy", "stretch")
    if len(sizes) != len(lengths) or min(sizes) < 1:
        raise Refusal(f"sizes={list(sizes)} do not fit {lengths}", broken=True)
    scales = [np.float32(s) / np.float32(d) for s, d in zip(sizes, lengths, strict=True)]
    if policy == "stretch":
        return list(zip(sizes, scales, strict=True))
    if policy not in ("not_larger", "not_smaller"):
        raise Refusal(f"keep_aspect_ratio_policy={policy} is unknown", broken=True)
    scale = min(scales) if policy == "not_larger" else max(scales)
    return [(int(np.floor(scale * np.float32(d) + HALF)), scale) for d in lengths]


OPERATORS: dict[str, Operator] = {
    "Resize": Operator(
        read=resize,
        runs=("accelerator", "host"),
        agreement="1 step",
        types=REAL_OR_CODES,
        attributes={
            "antialias": "0 with mode linear",
            "axes": "",
            "coordinate_transformation_mode": "",
            "cubic_coeff_a": "",
            "exclude_outside": "",
            "extrapolation_value": "",
            "keep_aspect_ratio_policy": "",
            "mode": "nearest, linear",
            "nearest_mode": "",
        },
        remark="constant scales or sizes; nearest is equal: [moves](#moves); "
        "[linear](#linear-interpolation) on real numbers of images and lines",
    )
}
