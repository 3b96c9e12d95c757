"""Host operations against ONNX Runtime, on data that covers whole types and every axis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from qcompile.runtime import host_ops

Array = npt.NDArray[Any]


def run_onnxruntime(
    operator: str,
    x: Array,
    constants: Mapping[str, npt.ArrayLike] | None = None,
    attributes: Mapping[str, Any] | None = None,
    *,
    output: str = "float32",
) -> Array:
    """One operator of ONNX Runtime's CPU provider with x as its first input."""
    values = {name: np.asarray(value) for name, value in (constants or {}).items()}
    domain = "com.microsoft" if operator.startswith("QLinear") else ""
    node = helper.make_node(operator, ["x", *values], ["y"], domain=domain, **(attributes or {}))
    types = {
        name: helper.np_dtype_to_tensor_dtype(np.dtype(name)) for name in (str(x.dtype), output)
    }
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", types[str(x.dtype)], x.shape)],
        [helper.make_tensor_value_info("y", types[output], None)],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result = session.run(None, {"x": x})[0]
    assert isinstance(result, np.ndarray)
    return result


def run_one(op: str, x: Array, **attributes: Any) -> Array:
    """One host operation through the public entry, from a manifest's JSON object."""
    record = {"op": op, "inputs": ["x"], "outputs": ["y"], "attributes": attributes}
    return host_ops.run_host_ops([record], {"x": x})["y"]


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("classes", [2, 4, 10, 12, 40, 100, 1000])
@pytest.mark.parametrize("x_scale", [0.013, 0.0625, 1.0])
def test_quantized_softmax_equals_onnxruntime(
    dtype: str, classes: int, x_scale: float, rng: np.random.Generator
) -> None:
    info = np.iinfo(dtype)
    for y_scale in (1 / 256, 1 / 255, 1e-3):
        x = rng.integers(info.min, info.max + 1, (80_000 // classes, classes)).astype(dtype)
        x[:4], x[:2, 0] = info.min, info.max  # one certain class, then all classes equal
        constants: dict[str, npt.ArrayLike] = {
            "x_scale": np.float32(x_scale),
            "x_zero_point": np.array(3, dtype),
            "y_scale": np.float32(y_scale),
            "y_zero_point": np.array(info.min, dtype),
        }
        expected = run_onnxruntime(
            "QLinearSoftmax", x, constants, {"axis": -1, "opset": 13}, output=dtype
        )
        scales = {"x_scale": x_scale, "y_scale": y_scale, "y_zero_point": int(info.min)}
        kind = {"axis": -1, "dtype": dtype}
        np.testing.assert_array_equal(run_one("QLinearSoftmax", x, **scales, **kind), expected)


def test_softmax_works_along_any_axis(rng: np.random.Generator) -> None:
    x = rng.integers(-128, 128, (3, 7, 5)).astype(np.int8)
    scales = {"x_scale": 0.05, "y_scale": 1 / 256, "y_zero_point": -128, "dtype": "int8"}
    last = run_one("QLinearSoftmax", x, axis=-1, **scales)
    middle = run_one("QLinearSoftmax", np.moveaxis(x, 2, 1), axis=1, **scales)
    np.testing.assert_array_equal(np.moveaxis(middle, 1, 2), last)
    real = rng.standard_normal((2, 5, 3)).astype(np.float32)
    expected = run_onnxruntime("Softmax", real, attributes={"axis": 1})
    np.testing.assert_array_equal(run_one("Softmax", real, axis=1), expected)


@pytest.mark.parametrize("classes", [1, 2, 3, 10, 16, 17, 40, 1000])
def test_float_softmax_is_within_an_ulp_of_onnxruntime(
    classes: int, rng: np.random.Generator
) -> None:
    x = (rng.standard_normal((500, classes)) * 6).astype(np.float32)
    expected = run_onnxruntime("Softmax", x, attributes={"axis": -1})
    got = run_one("Softmax", x, axis=-1)
    if "avx512f" in cpu_flags() or classes <= 8:
        np.testing.assert_array_equal(got, expected)
    np.testing.assert_allclose(got, expected, rtol=3e-7, atol=0)


def cpu_flags() -> list[str]:
    """Instruction sets of this machine, empty where Linux does not tell."""
    try:
        with open("/proc/cpuinfo") as file:
            return file.read().split("flags", 1)[1].split("\n", 1)[0].split()
    except (OSError, IndexError):
        return []


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("zero_point", [0, 127, 3])
def test_quantize_equals_onnxruntime_also_at_ties_and_beyond_the_range(
    dtype: str, zero_point: int, rng: np.random.Generator
) -> None:
    scale = 0.0371
    ties = (np.arange(-300, 300) + 0.5) * np.float32(scale)
    x = np.concatenate([ties, rng.standard_normal(20_000) * 4, [1e30, -1e30, 0.0, -0.0]])
    x = x.astype(np.float32)
    constants: dict[str, npt.ArrayLike] = {
        "scale": np.float32(scale),
        "zero_point": np.array(zero_point, dtype),
    }
    expected = run_onnxruntime("QuantizeLinear", x, constants, output=dtype)
    got = run_one("QuantizeLinear", x, scale=scale, zero_point=zero_point, dtype=dtype)
    assert got.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_dequantize_equals_onnxruntime_for_every_code(dtype: str) -> None:
    x = np.arange(256, dtype=np.uint8).view(dtype)
    constants: dict[str, npt.ArrayLike] = {
        "scale": np.float32(0.0371),
        "zero_point": np.array(5, dtype),
    }
    expected = run_onnxruntime("DequantizeLinear", x, constants)
    np.testing.assert_array_equal(
        run_one("DequantizeLinear", x, scale=0.0371, zero_point=5), expected
    )


@pytest.mark.parametrize(("low", "high"), [(0.0, None), (0.0, 6.0), (None, 1.5), (-1.0, 1.0)])
def test_clip_equals_onnxruntime_with_and_without_bounds(
    low: float | None, high: float | None, rng: np.random.Generator
) -> None:
    x = (rng.standard_normal((3, 50)) * 8).astype(np.float32)
    infinity = float("inf")
    constants: dict[str, npt.ArrayLike] = {
        "low": np.float32(-infinity if low is None else low),
        "high": np.float32(infinity if high is None else high),
    }
    expected = run_onnxruntime("Clip", x, constants)
    np.testing.assert_array_equal(run_one("Clip", x, low=low, high=high), expected)


def test_shape_operations_take_one_sample_or_many(rng: np.random.Generator) -> None:
    x = rng.standard_normal((2, 3, 4, 5)).astype(np.float32)
    expected = run_onnxruntime("Transpose", x, attributes={"perm": [0, 3, 1, 2]})
    np.testing.assert_array_equal(run_one("Transpose", x, permutation=[0, 3, 1, 2]), expected)
    flat = run_one("Reshape", x, shape=[1, 60])
    np.testing.assert_array_equal(flat, x.reshape(2, 60))
    np.testing.assert_array_equal(run_one("Reshape", x[:1], shape=[1, 60]), flat[:1])


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_lookup_starts_at_the_lowest_code(dtype: str) -> None:
    codes = np.arange(256, dtype=np.uint8).view(dtype)
    negated = [255 - i for i in range(256)]
    got = run_one("Lookup", codes, table=negated, dtype="uint8")
    np.testing.assert_array_equal(got, 255 - (codes.astype(int) - np.iinfo(dtype).min))


@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_arg_max_equals_onnxruntime_on_ties(last: int, keepdims: int) -> None:
    x = np.array([[1, 5, 5, 2], [7, 7, 7, 7]], "float32")
    attributes = {"axis": 1, "keepdims": keepdims, "select_last_index": last}
    expected = run_onnxruntime("ArgMax", x, attributes=attributes, output="int64")
    got = run_one("ArgMax", x, **attributes)
    assert got.dtype == np.int64
    np.testing.assert_array_equal(got, expected)


def test_cast_truncates_as_onnxruntime() -> None:
    x = np.array([-1.7, -0.2, 0.9, 2.5], "float32")
    expected = run_onnxruntime("Cast", x, attributes={"to": TensorProto.INT32}, output="int32")
    np.testing.assert_array_equal(run_one("Cast", x, dtype="int32"), expected)


def test_offset_moves_uint8_codes_to_int8_and_back() -> None:
    x = np.arange(256, dtype=np.uint8)
    moved = run_one("Offset", x, offset=-128, dtype="int8")
    assert moved.dtype == np.int8
    np.testing.assert_array_equal(moved.astype(int), x.astype(int) - 128)
    np.testing.assert_array_equal(run_one("Offset", moved, offset=128, dtype="uint8"), x)


def test_operations_run_in_order_over_named_tensors() -> None:
    quantize = {"scale": 1 / 256, "zero_point": -128, "dtype": "int8"}
    ops = [
        {"op": "Reshape", "inputs": ["a"], "outputs": ["b"], "attributes": {"shape": [1, 4]}},
        {"op": "Softmax", "inputs": ["b"], "outputs": ["b"], "attributes": {"axis": 1}},
        {"op": "QuantizeLinear", "inputs": ["b"], "outputs": ["c"], "attributes": quantize},
    ]
    values = host_ops.run_host_ops(ops, {"a": np.array([[[0, 90], [0, 90]]], "float32")})
    np.testing.assert_array_equal(values["c"], [[-128, 0, -128, 0]])


def test_unknown_operation_is_refused() -> None:
    ops = [{"op": "Gelu", "inputs": ["a"], "outputs": ["b"], "attributes": {}}]
    expected = r"^host operation 'Gelu' is unknown to this version of qcompile$"
    with pytest.raises(ValueError, match=expected):
        host_ops.run_host_ops(ops, {"a": np.zeros(1)})


def test_missing_tensor_is_named() -> None:
    ops = [{"op": "Cast", "inputs": ["a"], "outputs": ["b"], "attributes": {}}]
    with pytest.raises(ValueError, match=r"^host operation 'Cast' needs the tensor 'a'$"):
        host_ops.run_host_ops(ops, {})


def test_select_takes_entries_of_all_inputs_by_number() -> None:
    a = np.array([[[1, 2], [3, 4]], [[5, 6], [7, 8]]], np.uint8)  # [2, 2, 2]
    b = np.array([[9], [10]], np.uint8)
    op = {
        "op": "Select",
        "inputs": ["a", "b"],
        "outputs": ["y"],
        "attributes": {"index": [4, -1, 3, 0], "shape": [1, 2, 2], "fill": 200},
    }
    y = host_ops.run_host_ops([op], {"a": a, "b": b})["y"]
    assert y.dtype == np.uint8
    assert y.tolist() == [[[9, 200], [4, 1]], [[10, 200], [8, 5]]]
