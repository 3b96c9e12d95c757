"""The local function LogQuantize: what ONNX Runtime makes of it, and what is read of it."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

from qcompile.compiler.errors import ModelError, UnsupportedError
from qcompile.compiler.frontend.log_quantize import (
    DOMAIN,
    NAME,
    call_attributes,
    is_log_quantize,
    log_quantize_function,
    read_log_quantize,
)
from qcompile.compiler.frontend.node_reader import NodeReader, Refusal
from qcompile.compiler.log_format import LogFormat
from qcompile.compiler.pipeline import load_model

FORMAT = LogFormat(fsr=-53, step=6, levels=16)


def call(**attributes: Any) -> onnx.NodeProto:
    inputs = ["x", "thresholds", "values"]
    return helper.make_node(NAME, inputs, ["y"], name="log", domain=DOMAIN, **attributes)


def save(path: Path, found: LogFormat, function: onnx.FunctionProto) -> None:
    constants = {"thresholds": found.thresholds, "values": found.values}
    graph = helper.make_graph(
        [call(**call_attributes(found))],
        "g",
        [helper.make_tensor_value_info("x", 1, [1, 4, 6, 6])],
        [helper.make_tensor_value_info("y", 1, [1, 4, 6, 6])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=8, functions=[function])
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


@pytest.mark.parametrize(("fsr", "step", "levels"), [(-53, 6, 16), (-160, 16, 8), (3, 32, 2)])
def test_onnxruntime_rounds_as_the_format_does(
    tmp_path: Path, fsr: int, step: int, levels: int
) -> None:
    found = LogFormat(fsr=fsr, step=step, levels=levels)
    save(tmp_path / "log.onnx", found, log_quantize_function())
    session = ort.InferenceSession(tmp_path / "log.onnx", providers=["CPUExecutionProvider"])
    dice = np.random.default_rng(0)
    at = found.thresholds
    edges = [
        at,
        np.nextafter(at, np.float32(0)),
        np.nextafter(at, np.float32(9)),
        -at,
        found.values,
    ]
    for _ in range(20):
        spread = np.exp2(dice.uniform(fsr / 16 - 2, (fsr + step * levels) / 16 + 2, 144))
        x = (spread * dice.choice([-1, 1, 1, 1], 144)).astype(np.float32)
        chosen = np.concatenate(edges)
        x[: len(chosen)] = chosen
        y = np.asarray(session.run(None, {"x": x.reshape(1, 4, 6, 6)})[0]).reshape(-1)
        np.testing.assert_array_equal(y, found.rounded(x))
        nearest = [(np.sum(Fraction(float(one)) ** 32 >= t) if one > 0 else 0) for one in x
                   for t in [exact_thresholds(found)]]  # fmt: skip
        np.testing.assert_array_equal(found.codes(x), nearest)


def exact_thresholds(found: LogFormat) -> np.ndarray[Any, Any]:
    """Thresholds to the power of 32, as fractions: whole powers of two."""
    exponents = [2 * found.fsr - found.step + 2 * i * found.step for i in range(found.levels - 1)]
    return np.array([Fraction(2) ** exponent for exponent in exponents], object)


def reader(constants: dict[str, np.ndarray[Any, Any]], **attributes: int) -> NodeReader:
    return NodeReader(
        call(**attributes), 0, opset=17, values={}, constants=constants, read=numpy_helper.to_array
    )


def test_format_is_read() -> None:
    constants = {"thresholds": FORMAT.thresholds, "values": FORMAT.values}
    node = reader(constants, **call_attributes(FORMAT))
    assert read_log_quantize(node) == FORMAT
    assert node.unread_attributes() == ()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"step": 7}, "has a format that is not supported: step must be even and 2 to 32, not 7"),
        ({"levels": 33}, "has a format that is not supported: levels must be 2 to 32, not 33"),
        (
            {"fsr": -2020},
            "has a format that is not supported: values of fsr -2020 and step 6 are beyond float32",
        ),
        ({"levels": 15}, "thresholds are no float32 [14]"),
        ({"fsr": -52}, "thresholds are not those of its fsr, step and levels"),
    ],
)
def test_other_formats_are_refused(changed: dict[str, int], message: str) -> None:
    constants = {"thresholds": FORMAT.thresholds, "values": FORMAT.values}
    with pytest.raises(Refusal) as refusal:
        read_log_quantize(reader(constants, **{**call_attributes(FORMAT), **changed}))
    assert refusal.value.message == message


def test_values_in_the_file_must_be_the_formats() -> None:
    constants = {"thresholds": FORMAT.thresholds, "values": FORMAT.values * np.float32(1.001)}
    with pytest.raises(Refusal, match=r"^values are not those of its fsr, step and levels$"):
        read_log_quantize(reader(constants, **call_attributes(FORMAT)))
    with pytest.raises(Refusal, match=r"^lacks fsr, step or levels$"):
        read_log_quantize(reader(constants, fsr=-53, step=6))


def test_function_with_another_body_is_no_log_quantize(tmp_path: Path) -> None:
    other = log_quantize_function()
    other.node[2].op_type = "Greater"
    assert not is_log_quantize(other)
    renamed = log_quantize_function()
    renamed.node[2].name, renamed.doc_string = "compare", "rounds"
    assert is_log_quantize(renamed)
    save(tmp_path / "log.onnx", FORMAT, other)
    message = (
        r"^log\.onnx: local function 'LogQuantize' has another body than the one that qcompile "
        r"writes\n  help: quantize the model again with `qcompile quantize`$"
    )
    with pytest.raises(UnsupportedError, match=message):
        load_model(tmp_path / "log.onnx")


def twice(model: onnx.ModelProto) -> None:
    model.functions.append(model.functions[0])


def without_function(model: onnx.ModelProto) -> None:
    model.ClearField("functions")


def other_overload(model: onnx.ModelProto) -> None:
    model.graph.node[0].overload = "other"


def without_import(model: onnx.ModelProto) -> None:
    model.opset_import.pop()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (twice, "holds the local function 'LogQuantize' twice"),
        (without_function, "calls 'LogQuantize', whose local function it lacks"),
        (other_overload, "calls 'LogQuantize', whose local function it lacks"),
        (without_import, "calls 'LogQuantize' and imports no version of its domain 'qcompile'"),
    ],
)
def test_files_that_onnxruntime_cannot_load_are_broken(
    tmp_path: Path, damage: Callable[[onnx.ModelProto], None], message: str
) -> None:
    path = tmp_path / "log.onnx"
    save(path, FORMAT, log_quantize_function())
    model = onnx.load(path)
    damage(model)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(Exception, match="LogQuantize"):  # ONNX Runtime's have no common base
        ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    with pytest.raises(ModelError) as refusal:
        load_model(path)
    assert refusal.value.message == f"log.onnx: {message}"
    assert refusal.value.help == "quantize the model again with `qcompile quantize`"


@pytest.mark.parametrize(
    ("levels", "step", "octaves", "most"), [(32, 28, 52, 19), (32, 18, 33, 29), (18, 32, 32, 17)]
)
def test_formats_beyond_the_sums_bits_are_refused(
    tmp_path: Path, levels: int, step: int, octaves: int, most: int
) -> None:
    path = tmp_path / "log.onnx"
    save(path, LogFormat(fsr=-300, step=step, levels=levels), log_quantize_function())
    with pytest.raises(UnsupportedError) as refusal:
        load_model(path)
    assert refusal.value.message == (
        f"log.onnx: LogQuantize 'log' (node 0): codes of {levels} levels, {step} sixteenths of an "
        f"octave apart, span {octaves} octaves, more than 30"
    )
    assert refusal.value.help == (
        f"quantize again with fewer levels or a smaller step: --activations log:{most}, or less, "
        f"with --log-step {step}"
    )
    save(path, LogFormat(fsr=-300, step=step, levels=most), log_quantize_function())
    with pytest.raises(UnsupportedError, match=r"^log\.onnx: has no operator for the accelerator"):
        load_model(path)
