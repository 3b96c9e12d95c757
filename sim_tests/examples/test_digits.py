"""The committed digits network is what its README says, and ONNX Runtime runs it as integers."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper


@pytest.fixture(scope="module")
def digits(project: Path) -> Path:
    """The example's folder."""
    return project / "examples/digits"


@pytest.fixture(scope="module")
def held_out(digits: Path) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Held-out images and labels."""
    data = np.load(digits / "digits_test.npz")
    return data["x"], data["y"]


def reference_options() -> onnxruntime.SessionOptions:
    """The session options of the reference (numerics contract)."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "0")
    options.log_severity_level = 3
    return options


def accuracy(model: Path, held_out: tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]) -> float:
    """Share of the held-out images that ONNX Runtime classifies rightly."""
    session = onnxruntime.InferenceSession(model, reference_options(), ["CPUExecutionProvider"])
    images, labels = held_out
    logits = [np.asarray(session.run(None, {"image": image[np.newaxis]})[0]) for image in images]
    return float((np.concatenate(logits).argmax(axis=1) == labels).mean())


def test_held_out_inputs_are_360_images_of_pixels_in_ten_classes(
    held_out: tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]],
) -> None:
    images, labels = held_out
    assert (images.shape, images.dtype) == ((360, 1, 8, 8), np.dtype(np.float32))
    assert (images.min(), images.max()) == (0, 16)
    assert (labels.shape, set(labels.tolist())) == ((360,), set(range(10)))


def test_accuracies_are_those_of_the_readme(
    digits: Path, held_out: tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]
) -> None:
    readme = (digits / "README.md").read_text()
    stated = dict(re.findall(r"^    (digits_\w+\.onnx): ([\d.]+)% of 360", readme, re.MULTILINE))
    measured = {name: f"{accuracy(digits / name, held_out):.2%}"[:-1] for name in stated}
    assert measured == stated
    assert set(stated) == {"digits_float.onnx", "digits_int8.onnx", "digits_plain_float.onnx"}
    assert (
        min(float(stated[name]) for name in ("digits_float.onnx", "digits_plain_float.onnx")) >= 97
    )
    assert abs(float(stated["digits_float.onnx"]) - float(stated["digits_int8.onnx"])) <= 0.5


def test_onnxruntime_fuses_every_layer_to_an_integer_operator(digits: Path, tmp_path: Path) -> None:
    options = reference_options()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(digits / "digits_int8.onnx", options, ["CPUExecutionProvider"])
    nodes = onnx.load(tmp_path / "optimized.onnx").graph.node
    layers = [node.op_type for node in nodes if node.op_type not in ("Transpose", "Reshape")]
    assert layers == [
        "QuantizeLinear",
        *["QLinearConv"] * 6,
        "QLinearAdd",
        "QLinearGlobalAveragePool",
        "QGemm",
        "DequantizeLinear",
    ]


def test_channels_are_multiples_of_four_and_weights_symmetric(digits: Path) -> None:
    model = onnx.load(digits / "digits_int8.onnx")
    constants = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    weights = {name: value for name, value in constants.items() if value.ndim == 4}
    assert len(weights) == 6
    for name, weight in weights.items():
        assert weight.dtype == np.int8, name
        assert weight.shape[0] % 4 == 0, name
        assert weight.min() >= -127, name
