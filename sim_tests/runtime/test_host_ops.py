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
        np.testing.assert_array_equal(run_one("QLinearSoftmax", x, **scales), expected)


def test_quantized_softmax_works_along_any_axis(rng: np.random.Generator) -> None:
    x = rng.integers(-128, 128, (3, 7, 5)).astype(np.int8)
    along_last = run_one("QLinearSoftmax", x, x_scale=0.05, y_scale=1 / 256, y_zero_point=-128)
    moved = run_one(
        "QLinearSoftmax",
        np.moveaxis(x, 2, 1),
        x_scale=0.05,
        y_scale=1 / 256,
        y_zero_point=-128,
        axis=1,
    )
    np.testing.assert_array_equal(np.moveaxis(moved, 1, 2), along_last)


@pytest.mark.parametrize("classes", [1, 2, 3, 10, 16, 17, 40, 1000])
def test_float_softmax_is_within_an_ulp_of_onnxruntime(
    classes: int, rng: np.random.Generator
) -> None:
    x = (rng.standard_normal((500, classes)) * 6).astype(np.float32)
    expected = run_onnxruntime("Softmax", x, attributes={"axis": -1})
    got = run_one("Softmax", x)
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


def test_per_channel_quantization_follows_its_axis(rng: np.random.Generator) -> None:
    x = rng.standard_normal((1, 3, 4)).astype(np.float32)
    scales, zeros = [0.1, 0.02, 0.5], [0, -3, 7]
    constants: dict[str, npt.ArrayLike] = {
        "scale": np.array(scales, "float32"),
        "zero_point": np.array(zeros, "int8"),
    }
    codes = run_onnxruntime("QuantizeLinear", x, constants, {"axis": 1}, output="int8")
    got = run_one("QuantizeLinear", x, scale=scales, zero_point=zeros, dtype="int8", axis=1)
    np.testing.assert_array_equal(got, codes)
    expected = run_onnxruntime("DequantizeLinear", codes, constants, {"axis": 1})
    real = run_one("DequantizeLinear", codes, scale=scales, zero_point=zeros, axis=1)
    np.testing.assert_array_equal(real, expected)


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("Transpose", {"perm": [0, 3, 1, 2]}),
        ("Flatten", {"axis": 1}),
        ("Flatten", {"axis": -1}),
        ("Flatten", {"axis": 0}),
        ("Identity", {}),
        ("Softmax", {"axis": 1}),
    ],
)
def test_shape_operations_equal_onnxruntime(
    op: str, attributes: dict[str, Any], rng: np.random.Generator
) -> None:
    x = rng.standard_normal((2, 3, 4, 5)).astype(np.float32)
    expected = run_onnxruntime(op, x, attributes=attributes)
    np.testing.assert_array_equal(run_one(op, x, **attributes), expected)


@pytest.mark.parametrize(
    ("op", "key", "constant"),
    [
        ("Reshape", "shape", [0, -1]),
        ("Reshape", "shape", [5, 4, 3, 2]),
        ("Squeeze", "axes", [1, -1]),
        ("Unsqueeze", "axes", [0, 2]),
    ],
)
def test_reshaping_equals_onnxruntime(op: str, key: str, constant: list[int]) -> None:
    shape = (2, 1, 60, 1) if op == "Squeeze" else (2, 3, 4, 5)
    x = np.arange(120, dtype=np.float32).reshape(shape)
    expected = run_onnxruntime(op, x, {key: np.array(constant, "int64")})
    np.testing.assert_array_equal(run_one(op, x, **{key: constant}), expected)


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


def test_moved_codes_come_back_and_differ_by_128() -> None:
    x = np.arange(256, dtype=np.uint8)
    moved = run_one("MoveCode", x, dtype="int8")
    np.testing.assert_array_equal(moved.astype(int), x.astype(int) - 128)
    np.testing.assert_array_equal(run_one("MoveCode", moved, dtype="uint8"), x)


def test_operations_run_in_order_over_named_tensors() -> None:
    ops = [
        {"op": "Reshape", "inputs": ["a"], "outputs": ["b"], "attributes": {"shape": [1, 4]}},
        {"op": "ArgMax", "inputs": ["b"], "outputs": ["c"], "attributes": {"axis": 1}},
    ]
    values = host_ops.run_host_ops(ops, {"a": np.array([[1, 4], [3, 2]], "float32")})
    assert values["b"].shape == (1, 4)
    np.testing.assert_array_equal(values["c"], [[1]])


def test_unknown_operation_is_refused() -> None:
    ops = [{"op": "Gelu", "inputs": ["a"], "outputs": ["b"]}]
    expected = r"^host operation 'Gelu' is unknown to this version of qcompile$"
    with pytest.raises(ValueError, match=expected):
        host_ops.run_host_ops(ops, {"a": np.zeros(1)})


def test_missing_tensor_is_named() -> None:
    ops = [{"op": "Identity", "inputs": ["a"], "outputs": ["b"]}]
    with pytest.raises(ValueError, match=r"^host operation 'Identity' needs the tensor 'a'$"):
        host_ops.run_host_ops(ops, {})
