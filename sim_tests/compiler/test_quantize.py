"""Post-training quantization, against ONNX Runtime and hand-worked numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

from qcompile.compiler.cli import main
from qcompile.compiler.errors import UnsupportedError
from qcompile.compiler.quantize.layer import layers_of, quantize_layer, symmetric_scales
from qcompile.compiler.quantize.prepare import load_float
from qcompile.compiler.quantize.ranges import Range, find_range, parameters_of

DIGITS = Path(__file__).resolve().parents[2] / "examples/digits"


def save_network(path: Path, nodes: list[onnx.NodeProto], **constants: np.ndarray) -> None:
    """A network x [1, 4, 6, 6] to y."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, [1, 4, 6, 6])],
        [helper.make_tensor_value_info("y", 1, ["n", "c", "h", "w"])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    imports = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), path)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("kind", "groups"), [("Conv", 2), ("ConvTranspose", 1), ("ConvTranspose", 2)]
)
def test_batch_normalization_is_folded(tmp_path: Path, kind: str, groups: int, bias: bool) -> None:
    dice = np.random.default_rng(3)
    shape = (6, 4 // groups, 3, 3) if kind == "Conv" else (4, 6 // groups, 3, 3)
    constants = {"w": dice.normal(size=shape), "b": dice.normal(size=6)}
    constants |= {name: dice.uniform(0.5, 2, 6) for name in ("gamma", "beta", "mean", "var")}
    constants["gamma"] *= [1, -1, 1, 1, -1, 1]
    given = ["x", "w", "b"] if bias else ["x", "w"]
    nodes = [
        helper.make_node(kind, given, ["t"], name="layer", group=groups),
        helper.make_node("BatchNormalization", ["t", "gamma", "beta", "mean", "var"], ["y"]),
    ]
    path = tmp_path / "net.onnx"
    save_network(path, nodes, **{k: v.astype(np.float32) for k, v in constants.items()})
    x = dice.normal(size=(1, 4, 6, 6)).astype(np.float32)
    folded = load_float(path)
    assert [node.op_type for node in folded.nodes] == [kind]
    results = [
        np.asarray(ort.InferenceSession(model).run(None, {"x": x})[0])
        for model in (str(path), folded.to_model().SerializeToString())
    ]
    np.testing.assert_allclose(results[1], results[0], rtol=1e-4, atol=1e-4)


def test_range_holds_zero_and_zero_is_exact() -> None:
    found = find_range(np.array([0.5, 3.0], np.float32), "minmax")
    assert found == Range(low=0.0, high=3.0)
    uneven = parameters_of(Range(low=-1.0, high=2.0))
    assert uneven.zero_point == -43  # -128 + 1 / (3 / 255) = -43
    assert uneven.rounded(np.zeros(1))[0] == 0


def test_range_of_nothing_but_zeros_is_usable() -> None:
    assert find_range(np.zeros(9), "mse") == Range(low=0.0, high=1.0)


def test_least_error_cuts_a_lone_outlier_and_percentile_does_too() -> None:
    values = np.append(np.random.default_rng(1).normal(size=50_000), 60.0)
    assert find_range(values, "minmax").high == 60.0
    assert find_range(values, "mse").high < 60.0
    assert find_range(values, "percentile").high < 6.0


def test_weights_are_symmetric_with_a_scale_for_each_channel(tmp_path: Path) -> None:
    weights = np.array([[1.27, -0.635], [0.0, 0.0]], np.float32).reshape(2, 2, 1, 1)
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["y"], name="layer", group=2)]
    bias = np.array([0.0101, -0.003], np.float32)
    save_network(tmp_path / "net.onnx", nodes, w=weights, b=bias)
    (layer,) = layers_of(load_float(tmp_path / "net.onnx"))
    codes = quantize_layer(layer, symmetric_scales(layer), np.float32(0.5))
    np.testing.assert_array_equal(codes.weights.reshape(2, 2), [[127, -64], [0, 0]])
    least = 0.01 / 2**24  # of a channel without weights
    np.testing.assert_allclose(codes.scales, [0.01, least], rtol=1e-6)
    assert codes.bias is not None
    np.testing.assert_allclose(codes.bias, [2, -0.006 / least], rtol=1e-6)  # 0.0101 / (0.5 * 0.01)


def test_unknown_operator_is_named(tmp_path: Path) -> None:
    save_network(tmp_path / "net.onnx", [helper.make_node("Sin", ["x"], ["y"], name="wave")])
    with pytest.raises(UnsupportedError, match=r"^net\.onnx: Sin 'wave' is not quantized\n"):
        load_float(tmp_path / "net.onnx")


def test_digits_keep_their_accuracy_and_golden_equals_onnxruntime(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(DIGITS / "digits_test.npz")
    model = str(tmp_path / "int8.onnx")
    assert main(["quantize", str(DIGITS / "digits_float.onnx"), "--calibration", data,
                 "-o", model]) == 0  # fmt: skip
    words = capsys.readouterr().out.splitlines()[-1].split()
    assert float(words[3]) >= float(words[1]) - 0.01
    assert main(["sim", model, "--inputs", data, "--limit", "20", "--engine", "golden"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["int8.onnx"]


def test_output_is_left_alone_where_the_folder_is_missing(tmp_path: Path) -> None:
    target = tmp_path / "nowhere" / "int8.onnx"
    arguments = ["quantize", "a.onnx", "--calibration", "x.npz", "-o", str(target)]
    assert main(arguments) == 1
    assert not target.parent.exists()
