"""Networks with codebook weights: accuracy, what ONNX Runtime fuses, what the frontend reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from qcompile.compiler.cli import main
from qcompile.compiler.errors import UnsupportedError, UsageError
from qcompile.compiler.ir import Conv
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.quantize.codebook import (
    CodebookWeights,
    codebook_and_scales,
    entropy_codebook,
)
from qcompile.compiler.quantize.layer import Layer, nearest_level, symmetric_scales
from qcompile.compiler.quantize.options import Options
from qcompile.compiler.quantize.recode import with_codebooks
from qcompile.compiler.quantize.squared_error import best_codebook
from qcompile.compiler.reference import REFERENCE_OPTIONS
from sim_tests.compiler import float_networks
from sim_tests.compiler.float_networks import DIGITS


def optimized(path: Path, folder: Path) -> list[str]:
    """Operators of the model that ONNX Runtime makes of a file."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 4
    for name, value in REFERENCE_OPTIONS.items():
        options.add_session_config_entry(name, value)
    ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node]


@pytest.mark.parametrize(("levels", "criterion"), [(16, ""), (9, ",entropy")])
def test_codebook_network_is_fused_and_golden_equals_onnxruntime(
    tmp_path: Path, levels: int, criterion: str
) -> None:
    data, model = str(DIGITS / "digits_test.npz"), tmp_path / "codebook.onnx"
    assert main(["quantize", str(DIGITS / "digits_float.onnx"), "--calibration", data,
                 "--weights", f"codebook:{levels}{criterion}", "-o", str(model)]) == 0  # fmt: skip
    operators = optimized(model, tmp_path)
    assert operators.count("QLinearConv") == 6
    assert not {"Gather", "Cast", "Conv", "Gemm"} & set(operators)
    used = [set(op.weight.reshape(-1).tolist()) for op in load_model(model).graph.ops
            if isinstance(op, Conv)]  # fmt: skip
    assert len(used) == 7
    assert all(len(values | {0}) <= levels for values in used)
    assert max(len(values) for values in used) > levels // 2
    assert main(["sim", str(model), "--inputs", data, "--limit", "40", "--engine", "golden",
                 "--layers"]) == 0  # fmt: skip


def test_indices_and_codebook_are_small_initializers() -> None:
    made = float_networks.digits().quantized(Options(weights="codebook:16"))
    found = {one.name: numpy_helper.to_array(one) for one in made.model.graph.initializer}
    books = {name: array for name, array in found.items() if name.endswith("/codebook")}
    assert len(books) == 7
    for name, book in books.items():
        indices = found[name.replace("/codebook", "/indices")]
        assert book.dtype == np.int8
        assert indices.dtype == np.uint8
        assert len(book) <= 16
        assert 0 in book
        assert indices.max() < len(book)


def test_digits_keep_their_accuracy_with_16_values() -> None:
    subject = float_networks.digits()
    assert subject.loss(subject.quantized(Options(weights="codebook:16"))) <= 1


def test_mnist_keeps_its_accuracy_with_16_values(shared: Path) -> None:
    subject = float_networks.mnist(shared)
    assert subject.loss(subject.quantized(Options(weights="codebook:16"))) <= 1


def test_keyword_spotting_keeps_its_accuracy_with_32_values(shared: Path) -> None:
    subject = float_networks.kws(shared)
    assert subject.loss(subject.quantized(Options(weights="codebook:32"))) <= 1


def test_depthwise_layers_can_stay_int8() -> None:
    made = float_networks.digits().quantized(Options(weights="codebook:4", int8_depthwise=True))
    names = {one.name for one in made.model.graph.initializer}
    assert {name for name in names if name.endswith("weight/codes")} == {
        "separable/depthwise/weight/codes",
        "residual/depthwise/weight/codes",
    }
    assert len([name for name in names if name.endswith("/codebook")]) == 5


def layer_of(weights: np.ndarray) -> Layer:
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"])
    return Layer(node=node, weights=weights, bias=None, axis=0, groups=1, operand="x", result="y")


def test_chosen_scales_have_less_error_than_the_largest_weights(rng: np.random.Generator) -> None:
    spread = rng.uniform(0.1, 3, (12, 1, 1, 1))
    layer = layer_of(rng.laplace(size=(12, 8, 3, 3)) * spread)
    whole = symmetric_scales(layer)
    book, scales = codebook_and_scales(layer, whole, 8)

    def error(steps: np.ndarray, levels: np.ndarray) -> float:
        real = layer.weights / layer.by_channel(steps)
        rounded = nearest_level(real, tuple(levels.tolist())) * layer.by_channel(steps)
        return float(np.sum((rounded - layer.weights) ** 2))

    importance = np.broadcast_to(layer.by_channel(whole) ** 2, layer.weights.shape)
    plain = best_codebook(layer.weights / layer.by_channel(whole), 8, importance)
    assert error(scales, book) < 0.95 * error(whole, plain)


def test_entropy_codebook_is_symmetric_and_holds_zero(rng: np.random.Generator) -> None:
    for levels in range(3, 33):
        book = entropy_codebook(rng.normal(size=4000) * 30, levels)
        assert book.dtype == np.int8
        assert len(book) == levels - 1 + levels % 2
        np.testing.assert_array_equal(book, -book[::-1])


@pytest.mark.parametrize(("values", "book"), [([64.0], [-64, 0, 64]), ([-3.0, 0], [-3, 0, 3])])
def test_entropy_codebook_keeps_few_magnitudes(values: list[float], book: list[int]) -> None:
    np.testing.assert_array_equal(entropy_codebook(np.array(values * 9), 5), book)


def test_few_levels_are_stored_as_they_are() -> None:
    plain, stored = (
        float_networks.digits().quantized(Options(scheme="ternary", weights=form))
        for form in ("int8", "codebook:16")
    )
    arrays = [
        {one.name: numpy_helper.to_array(one) for one in made.model.graph.initializer}
        for made in (plain, stored)
    ]
    books = [name for name, array in arrays[1].items() if array.shape == (3,) and "book" in name]
    assert len(books) == 5
    for name in books:
        indices = arrays[1][name.replace("/codebook", "/indices")]
        codes = arrays[0][name.replace("/codebook", "/codes")]
        np.testing.assert_array_equal(arrays[1][name][indices], codes)


@pytest.mark.parametrize("argument", ["", "1", "33", "2,entropy", "16,kl", "x", "-4"])
def test_other_codebooks_are_wrong_usage(argument: str) -> None:
    with pytest.raises(UsageError, match=rf"^--weights codebook:{argument} is not known\n"):
        CodebookWeights.of(argument, Options())


def test_int8_model_gets_codebooks(shared: Path, tmp_path: Path) -> None:
    source = onnx.load(shared / "models/mlpt_ad_toycar.onnx")
    made, rows = with_codebooks(source, 16)
    onnx.checker.check_model(made)
    onnx.save(made, tmp_path / "codebook.onnx")
    assert len(rows) == 10
    assert all(len(row.levels) == 16 and 0 in row.levels for row in rows)
    before = load_model(shared / "models/mlpt_ad_toycar.onnx")
    after = load_model(tmp_path / "codebook.onnx")
    layers = [[op for op in one.graph.ops if isinstance(op, Conv)] for one in (before, after)]
    assert len(layers[0]) == 10
    for old, new in zip(*layers, strict=True):
        values = np.unique(new.weight)
        assert len(values) <= 16
        assert np.abs(new.weight - old.weight).max() <= np.max(np.diff([-128, *values, 128]))
        np.testing.assert_array_equal(new.bias, old.bias)
    x = np.random.default_rng(2).integers(-128, 128, (8, 640)).astype(np.int8)
    np.savez(tmp_path / "x.npz", x=x)
    assert main(["sim", str(tmp_path / "codebook.onnx"), "--inputs", str(tmp_path / "x.npz"),
                 "--engine", "golden", "--layers"]) == 0  # fmt: skip


def test_model_without_int8_weights_gets_none() -> None:
    with pytest.raises(UnsupportedError, match=r"^the model has no int8 weights"):
        with_codebooks(onnx.load(DIGITS / "digits_float.onnx"), 16)


@pytest.mark.parametrize("scheme", [[], ["--scheme", "shift"]])
def test_requantize_gives_an_int8_model_codebooks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], scheme: list[str]
) -> None:
    source, data = DIGITS / "digits_int8.onnx", str(DIGITS / "digits_test.npz")
    made = tmp_path / "codebook.onnx"
    assert main(["requantize", str(source), "--weights", "codebook:16", *scheme,
                 "--inputs", data, "-o", str(made)]) == 0  # fmt: skip
    last = capsys.readouterr().out.splitlines()[-1].split()
    assert float(last[3]) >= float(last[1]) - 0.02
    layers = [op for op in load_model(made).graph.ops if isinstance(op, Conv)]
    assert len(layers) == 7
    assert all(len({*op.weight.reshape(-1).tolist(), 0}) <= 16 for op in layers)
    assert main(["sim", str(made), "--inputs", data, "--limit", "40", "--engine", "golden",
                 "--layers"]) == 0  # fmt: skip
    assert main(["requantize", str(source), "--weights", "codebook:99", "--inputs", data,
                 "-o", str(made)]) == 2  # fmt: skip
