"""The operations around the accelerator that a host computes, with numpy alone.

A build's manifest lists them as JSON objects, `prologue` before the accelerator and `epilogue`
after it: `{"op": ..., "inputs": [name], "outputs": [name], "attributes": {...}}`, one output each
and one input, but for Select. Every tensor has the batch as its first axis: shapes are written for
one sample, with a leading 1, and hold for N samples. Results are those of ONNX Runtime 1.31 on
x86-64, Softmax in the last bit included.

| op | attributes | result |
|---|---|---|
| ArgMax | axis, keepdims, select_last_index | int64 index of the first or last largest |
| Arithmetic | function, constant, shape, constant_first | Add, Sub, Mul, Div or Prelu, float32 |
| Cast | dtype | as ONNX's Cast: to an integer by truncation toward zero |
| Clip | low, high (null: no bound) | float32 clamp |
| DequantizeLinear | scale, zero_point | float32(code - zero_point) * scale |
| FloatProduct | weight (int16, base64), outputs, zero_point, scale, bias | see `float_product` |
| Function | name, its constants | one of `float_functions.FUNCTIONS` |
| LogDequantize | values | values[code] |
| LogQuantize | thresholds | int8: how many of the ascending thresholds it reaches |
| Lookup | table (256 codes), dtype | table[code - lowest code of the input's type] |
| Offset | offset, dtype | value + offset: uint8 codes to int8 with -128, and back with 128 |
| PixelBlocks | block, start, size, fill | see `_pixel_blocks` |
| QLinearSoftmax | axis, x_scale, y_scale, y_zero_point, dtype | codes of softmax(x_scale * x) |
| QuantizeLinear | scale, zero_point, dtype | rint(clip(x / scale, low - zp, high - zp)) + zp |
| Reshape | shape | row-major, to [N, *shape[1:]] |
| Select | index (flat), shape, fill | entries of the inputs behind one another; -1: fill |
| Softmax | axis | float32 |
| Transpose | permutation (0 first) | as numpy's |
| WindowColumns | kernel, stride, dilation, pad, out_width, fill | see `_window_columns` |
| Windows | kernel, strides, dilations, pads, size, fill | see `_windows` |
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompile.runtime.float_functions import ARITHMETIC, FUNCTIONS, exp

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float32]
Attributes = Mapping[str, Any]

SOFTMAX_LANES = 16
"""Partial sums of a float Softmax: 16 float32 in a register of AVX-512, as MLAS adds them."""


def run_host_ops(ops: Sequence[Mapping[str, Any]], values: Mapping[str, Array]) -> dict[str, Array]:
    """Run operations in order over named tensors; returns `values` with the results added.

    Raises ValueError for an operation that is not of the table above and for a missing tensor.
    """
    functions = _functions()
    known = dict(values)
    for op in ops:
        function = functions.get(op["op"])
        if function is None:
            raise ValueError(f"host operation '{op['op']}' is unknown to this version of qcompile")
        for source in op["inputs"]:
            if source not in known:
                raise ValueError(f"host operation '{op['op']}' needs the tensor '{source}'")
        (target,) = op["outputs"]
        known[target] = function(*(known[source] for source in op["inputs"]), op["attributes"])
    return known


def _functions() -> dict[str, Callable[..., Array]]:
    return {
        "ArgMax": _arg_max,
        "Arithmetic": _arithmetic,
        "Cast": lambda x, a: x.astype(np.dtype(a["dtype"])),
        "Clip": lambda x, a: np.clip(x, _bound(a["low"]), _bound(a["high"])),
        "DequantizeLinear": lambda x, a: dequantize_linear(x, a["scale"], a["zero_point"]),
        "FloatProduct": float_product,
        "Function": _function,
        "LogDequantize": lambda x, a: np.asarray(a["values"], dtype=np.float32)[x],
        "LogQuantize": _log_quantize,
        "Lookup": lambda x, a: _table(a)[x.astype(np.int64) - np.iinfo(x.dtype).min],
        "Offset": lambda x, a: (x.astype(np.int64) + a["offset"]).astype(np.dtype(a["dtype"])),
        "PixelBlocks": _pixel_blocks,
        "QLinearSoftmax": lambda x, a: quantized_softmax(
            x, a["x_scale"], a["y_scale"], a["y_zero_point"], axis=a["axis"]
        ).astype(np.dtype(a["dtype"]), copy=False),
        "QuantizeLinear": lambda x, a: quantize_linear(x, a["scale"], a["zero_point"], a["dtype"]),
        "Reshape": lambda x, a: x.reshape((len(x), *a["shape"][1:])),
        "Select": _select,
        "Softmax": lambda x, a: softmax(x, axis=a["axis"]),
        "Transpose": lambda x, a: np.transpose(x, a["permutation"]),
        "WindowColumns": _window_columns,
        "Windows": _windows,
    }


def _log_quantize(x: Array, attributes: Attributes) -> Array:
    thresholds = np.asarray(attributes["thresholds"], dtype=np.float32)
    return np.searchsorted(thresholds, x, side="right").astype(np.int8)


def _arithmetic(x: Array, attributes: Attributes) -> Array:
    constant = np.asarray(attributes["constant"], dtype=np.float32).reshape(attributes["shape"])
    operands = (constant, x) if attributes["constant_first"] else (x, constant)
    with np.errstate(all="ignore"):
        return np.asarray(ARITHMETIC[attributes["function"]](*operands), dtype=np.float32)


def float_product(x: Array, attributes: Attributes) -> FloatArray:
    """Codes [N, ..., K] times a matrix: float32(sum of (x - zero_point) * weight + bias) * scale.

    As ONNX Runtime's MatMulIntegerToFloat and QGemm; `scale` and `bias` have an entry a column.
    """
    weight = np.frombuffer(base64.b64decode(attributes["weight"]), dtype="<i2")
    matrix = weight.astype(np.float64).reshape(-1, attributes["outputs"])
    centred = x.astype(np.float64) - attributes["zero_point"]  # whole numbers: exact in any order
    acc = centred @ matrix + np.asarray(attributes["bias"], dtype=np.float64)
    scale = np.asarray(attributes["scale"], dtype=np.float32)
    return np.asarray(acc.astype(np.float32) * scale, dtype=np.float32)


def _function(x: Array, attributes: Attributes) -> Array:
    constants = {name: value for name, value in attributes.items() if name != "name"}
    with np.errstate(all="ignore"):
        return np.asarray(FUNCTIONS[attributes["name"]](x, **constants), dtype=np.float32)


def _bound(value: float | None) -> np.float32 | None:
    return None if value is None else np.float32(value)


def _table(attributes: Attributes) -> Array:
    return np.asarray(attributes["table"], dtype=np.dtype(attributes["dtype"]))


def quantize_linear(x: Array, scale: float, zero_point: int, dtype: str) -> Array:
    """Codes of real numbers: rint(clip(x / scale, low - zero_point, high - zero_point)) + it.

    The division is a float32 division and rint rounds ties to even; both are visible in results.
    """
    info = np.iinfo(np.dtype(dtype))
    with np.errstate(over="ignore"):
        ratio = np.asarray(x, dtype=np.float32) / np.float32(scale)
    low, high = (np.float32(bound - zero_point) for bound in (info.min, info.max))
    return np.asarray(np.rint(np.clip(ratio, low, high)).astype(np.int32) + zero_point, dtype)


def dequantize_linear(x: Array, scale: float, zero_point: int) -> FloatArray:
    """Real numbers of codes: float32(x - zero_point) * scale."""
    return (x.astype(np.int32) - zero_point).astype(np.float32) * np.float32(scale)


def quantized_softmax(
    x: Array, x_scale: float, y_scale: float, y_zero_point: int, *, axis: int = -1
) -> Array:
    """Softmax from codes to codes of the same type, as ONNX Runtime's QLinearSoftmax.

    A table of 256 float32 powers, scaled up as far as the sum of a row allows, is indexed with
    the distance from the row's maximum; the sum is sequential in float32.
    """
    codes = np.moveaxis(x, axis, -1).astype(np.int64)
    classes = codes.shape[-1]
    scale = np.float64(np.float32(x_scale))
    room = np.log(np.finfo(np.float32).max / np.float32(classes)) - 5.0  # float32 logarithm
    lift = max(0.0, float(room)) / scale
    with np.errstate(under="ignore"):
        table = np.exp((np.arange(256.0) - 255.0 + lift) * scale).astype(np.float32)
    powers = table[codes - codes.max(axis=-1, keepdims=True) + 255]
    total = np.zeros(codes.shape[:-1], dtype=np.float32)
    for i in range(classes):
        total = total + powers[..., i]
    steps = np.floor(np.float32(1.0) / np.float32(y_scale))
    with np.errstate(over="ignore"):
        shares = np.rint(powers * steps / total[..., np.newaxis])
    # An infinite share (only with y_scale below 1 / 256) becomes what x86 makes of it, and wraps.
    whole = np.where(np.isfinite(shares), shares, np.iinfo(np.int32).min).astype(np.int32)
    moved = whole + np.full(1, y_zero_point, dtype=np.int32)
    capped = np.minimum(moved, np.iinfo(x.dtype).max).astype(x.dtype)
    return np.moveaxis(capped, -1, axis)


def softmax(x: Array, *, axis: int = -1) -> FloatArray:
    """Softmax in float32, bit for bit as ONNX Runtime's CPU provider on x86-64 with AVX-512.

    On a machine with shorter registers ONNX Runtime adds more than 16 classes in another order,
    which shows in the last bit of some results.
    """
    rows = np.moveaxis(np.asarray(x, dtype=np.float32), axis, -1)
    powers = exp(rows - rows.max(axis=-1, keepdims=True))
    classes = powers.shape[-1]
    partial = np.zeros((*powers.shape[:-1], SOFTMAX_LANES), dtype=np.float32)
    for start in range(0, classes, SOFTMAX_LANES):
        block = powers[..., start : start + SOFTMAX_LANES]
        partial[..., : block.shape[-1]] += block
    partial = partial[..., :8] + partial[..., 8:]
    while partial.shape[-1] > 1:
        partial = partial[..., 0::2] + partial[..., 1::2]
    reciprocal = np.asarray(np.float32(1.0) / partial, dtype=np.float32)
    return np.moveaxis(powers * reciprocal, -1, axis)


def _arg_max(x: Array, attributes: Attributes) -> Array:
    axis = attributes["axis"]
    if attributes["select_last_index"]:
        index = x.shape[axis] - 1 - np.argmax(np.flip(x, axis), axis=axis)
    else:
        index = np.argmax(x, axis=axis)
    if attributes["keepdims"]:
        index = np.expand_dims(index, axis)
    return np.asarray(index, dtype=np.int64)


def _select(*operands: Any) -> Array:
    """The inputs' elements of a sample, row-major and one input after the other, by number."""
    *tensors, attributes = operands
    count = len(tensors[0])
    fill = np.full((count, 1), attributes["fill"], dtype=tensors[0].dtype)  # -1: the last entry
    entries = np.concatenate([*(x.reshape(count, -1) for x in tensors), fill], axis=1)
    index = np.asarray(attributes["index"], dtype=np.int64)
    return np.asarray(entries[:, index].reshape(count, *attributes["shape"][1:]))


def _window_columns(x: Array, attributes: Attributes) -> Array:
    """[N, C, H, W] -> [N, kernel * C, H, out_width]: each window's columns become channels.

    Channel j * C + c at (y, x) is channel c at (y, x * stride + j * dilation - pad), or `fill`
    outside. It lets a convolution of few channels use every lane of the accelerator.
    """
    return _windows(
        x,
        {
            "kernel": [1, attributes["kernel"]],
            "strides": [1, attributes["stride"]],
            "dilations": [1, attributes["dilation"]],
            "pads": [0, attributes["pad"]],
            "size": [x.shape[2], attributes["out_width"]],
            "fill": attributes["fill"],
        },
    )


def _windows(x: Array, attributes: Attributes) -> Array:
    """[N, C, H, W] -> [N, kh * kw * C, *size]: each window becomes one pixel.

    Channel (i * kw + j) * C + c at (y, x) is channel c at (y * strides[0] + i * dilations[0] -
    pads[0], x * strides[1] + j * dilations[1] - pads[1]), or `fill` outside.
    """
    count, channels, *size = x.shape
    (kh, kw), out = attributes["kernel"], attributes["size"]
    padded = np.full((count, channels, size[0] + 2, size[1] + 2), attributes["fill"], x.dtype)
    padded[:, :, 1:-1, 1:-1] = x  # row and column 0, and the last ones, stand for all outside
    result = np.empty((count, kh * kw, channels, *out), x.dtype)
    for tap, offset in enumerate(np.ndindex(kh, kw)):
        y, x_ = (
            np.clip(
                np.arange(out[axis]) * attributes["strides"][axis]
                + offset[axis] * attributes["dilations"][axis]
                - attributes["pads"][axis],
                -1,
                size[axis],
            )
            + 1
            for axis in range(2)
        )
        result[:, tap] = padded[:, :, y[:, np.newaxis], x_]
    return result.reshape(count, -1, *out)


def _pixel_blocks(x: Array, attributes: Attributes) -> Array:
    """[N, C, H, W] -> [N, sy * sx * C, *size]: each block of sy x sx pixels becomes one pixel.

    Channel (dy * sx + dx) * C + c at (y, x) is channel c at (start[0] + y * sy + dy,
    start[1] + x * sx + dx), or `fill` outside. No pixel is sent twice.
    """
    (sy, sx), (height, width) = attributes["block"], attributes["size"]
    count, channels, *size = x.shape
    whole = np.full((count, channels, height * sy, width * sx), attributes["fill"], dtype=x.dtype)
    rows, columns = (
        (range(max(0, start), min(full, start + sent)), start)
        for full, start, sent in zip(size, attributes["start"], whole.shape[2:], strict=True)
    )
    inside = tuple(slice(r.start - start, r.stop - start) for r, start in (rows, columns))
    whole[:, :, *inside] = x[:, :, rows[0].start : rows[0].stop, columns[0].start : columns[0].stop]
    blocks = whole.reshape(count, channels, height, sy, width, sx).transpose(0, 3, 5, 1, 2, 4)
    return np.ascontiguousarray(blocks.reshape(count, -1, height, width))
