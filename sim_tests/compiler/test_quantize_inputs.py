"""What `qcompile quantize` refuses: one message, and nothing written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from qcompile.compiler.cli import main
from qcompile.compiler.errors import InputError
from qcompile.compiler.quantize import Options, load_float, quantize
from qcompile.compiler.quantize.sessions import batches, observe
from sim_tests.compiler.test_quantize import DIGITS, save_network

Array = npt.NDArray[Any]
GOOD = np.linspace(-1, 1, 3 * 144, dtype=np.float32).reshape(3, 4, 6, 6)


def network_file(path: Path, weight: float = 1.0, shape: list[int] | None = None) -> Path:
    weights = np.full((4, 4, 1, 1), weight, np.float32)
    nodes = [helper.make_node("Conv", ["x", "w"], ["t" if shape else "y"], name="layer")]
    constants: dict[str, Array] = {"w": weights}
    if shape:
        nodes.append(helper.make_node("Reshape", ["t", "shape"], ["y"], name="reshape"))
        constants["shape"] = np.array(shape, np.int64)
    save_network(path / "net.onnx", nodes, **constants)
    return path / "net.onnx"


def refused(path: Path, capsys: pytest.CaptureFixture[str], *options: str, **arrays: Array) -> str:
    """Run the command with an npz file; what it says."""
    np.savez(path / "x.npz", **arrays)  # type: ignore[arg-type]  # numpy's stub of **kwds
    target = path / "int8.onnx"
    arguments = ["quantize", str(path / "net.onnx"), "--calibration", str(path / "x.npz"),
                 "-o", str(target), *options]  # fmt: skip
    assert main(arguments) in (1, 2)
    assert not target.exists()
    assert {one.name for one in path.iterdir()} <= {"net.onnx", "x.npz", "r.json"}
    return capsys.readouterr().err


def with_value(value: float) -> Array:
    spoiled = GOOD.copy()
    spoiled[1, 2, 3, 4] = value
    return spoiled


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": with_value(np.nan)}, "input 'x' holds nan at [1, 2, 3, 4]"),
        ({"x": with_value(np.inf)}, "input 'x' holds inf at [1, 2, 3, 4]"),
        ({"x": GOOD[:0]}, "0"),
        ({"x": GOOD, "y": np.zeros(2, np.int64)}, "2"),
        ({"x": GOOD[:, :3]}, "[N,4,6,6]"),
        ({"x": GOOD.astype(np.float64)}, "float64"),
        ({"other": GOOD, "more": GOOD}, "x"),
    ],
)
def test_calibration_that_does_not_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arrays: dict[str, Array], message: str
) -> None:
    network_file(tmp_path)
    assert message in refused(tmp_path, capsys, **arrays)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scheme", "best"], "scheme 'best' is not known"),
        (["--weights", "codes:3"], "--weights codes:3 is not known"),
        (["--activations", "log"], "--activations log"),
        (["--fl", "std"], "--fl has no meaning in scheme affine"),
        (["--scheme", "f8net", "--range", "kl"], "--range kl has no meaning in scheme f8net"),
        (["--relu6-to-relu"], "--relu6-to-relu has no use without --equalize"),
        (["--ranges", "nowhere.json"], "nowhere.json: no such file"),
    ],
)
def test_options_that_make_no_sense(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    network_file(tmp_path)
    assert message in refused(tmp_path, capsys, *options, x=GOOD)


def test_weights_that_are_not_finite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network_file(tmp_path, weight=np.nan)
    assert "net.onnx: Conv 'layer' has NaN or infinity in 'w'" in refused(tmp_path, capsys, x=GOOD)


def test_activations_that_are_not_finite(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network_file(tmp_path, weight=3e38)
    said = refused(tmp_path, capsys, x=GOOD)
    assert "tensor 'y' of the float network, row 0, is not finite" in said


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": GOOD, "z": GOOD}, "calibration has x, z where the network takes x"),
        ({"x": GOOD[:0]}, "calibration has 0 rows"),
        ({"x": GOOD.astype(np.float64)}, r"is float64\[3, 4, 6, 6\]"),
        ({"x": with_value(-np.inf)}, "'x', row 1, is not finite"),
    ],
)
def test_arrays_from_python_that_do_not_fit(
    tmp_path: Path, arrays: dict[str, Array], message: str
) -> None:
    network = load_float(network_file(tmp_path))
    with pytest.raises(InputError, match=message):
        quantize(network, arrays)


@pytest.mark.parametrize("shape", [[1, 144], [-1, 144], [1, 4, 36], [144]])
def test_inputs_run_together_where_that_is_the_same(tmp_path: Path, shape: list[int]) -> None:
    network = load_float(network_file(tmp_path, shape=shape))
    session = ReferenceEvaluator(network.to_model())
    alone = []
    for row in range(3):
        (result,) = session.run(None, {"x": GOOD[row : row + 1]})
        alone.append(np.asarray(result))
    found = observe(network.to_model(), {"x": GOOD}, ["y"])["y"]
    assert batches(network, {"x": GOOD}) == (shape != [144])
    np.testing.assert_allclose(found, np.concatenate(alone), rtol=1e-5, atol=1e-6)


def test_corrections_need_networks_that_take_inputs_together(tmp_path: Path) -> None:
    network = load_float(network_file(tmp_path, shape=[144]))
    with pytest.raises(Exception, match="takes many inputs at once"):
        quantize(network, {"x": GOOD}, Options(bias_correction=True))


def test_grouped_transposed_convolutions_share_scales_between_groups(tmp_path: Path) -> None:
    dice = np.random.default_rng(14)
    weights = dice.normal(size=(4, 3, 2, 2)) * np.array([1, 0.1, 5]).reshape(3, 1, 1)
    constants = {"w": weights.astype(np.float32), "b": dice.normal(size=6).astype(np.float32)}
    node = helper.make_node("ConvTranspose", ["x", "w", "b"], ["y"], name="up", group=2)
    save_network(tmp_path / "net.onnx", [node], **constants)
    result = quantize(load_float(tmp_path / "net.onnx"), {"x": GOOD})
    stored = {one.name: numpy_helper.to_array(one) for one in result.model.graph.initializer}
    np.testing.assert_allclose(
        stored["up/weight/scale"], np.abs(constants["w"]).max(axis=(0, 2, 3)) / 127, rtol=1e-6
    )
    steps = np.tile(stored["up/weight/scale"], 2) * stored["x/scale"]
    np.testing.assert_allclose(stored["up/bias/scale"], steps, rtol=1e-6)
    assert np.all(np.abs(stored["up/bias/codes"] * steps - constants["b"]) <= 0.51 * steps)
    assert result.tensors[-1].sqnr_db > 35


@pytest.mark.parametrize("low_high", [(0, 12), (-1, 9)])
def test_labels_that_are_no_class_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], low_high: tuple[int, int]
) -> None:
    data = np.load(DIGITS / "digits_test.npz")
    low, high = low_high
    labels = np.resize(np.array([low, 3, high]), len(data["x"]))
    inputs, target = tmp_path / "x.npz", tmp_path / "out.onnx"
    np.savez(inputs, x=data["x"], y=labels)
    for verb, model, output, option in (
        ("quantize", "digits_float.onnx", "logits", "--calibration"),
        ("requantize", "digits_int8.onnx", "logits", "--inputs"),
    ):
        arguments = [verb, str(DIGITS / model), option, str(inputs), "-o", str(target)]
        assert main(arguments) == 1
        assert not target.exists()
        assert capsys.readouterr().err.endswith(
            f"{inputs}: labels 'y' go from {low} to {high}, but output '{output}' has the classes"
            " 0 to 9\n  help: store the index of each input's class, or leave 'y' away\n"
        )


def test_labels_of_a_network_without_classes_are_left_aside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network_file(tmp_path)
    np.savez(tmp_path / "x.npz", x=GOOD, y=np.array([0, 7, 800]))
    arguments = ["quantize", str(tmp_path / "net.onnx"), "--calibration", str(tmp_path / "x.npz"),
                 "--rows", "1", "-o", str(tmp_path / "int8.onnx")]  # fmt: skip
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert "labels 'y' are left aside: no output of the model has classes" in captured.err
    assert "accuracy" not in captured.out
