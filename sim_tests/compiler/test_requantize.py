"""An int8 model with the scales of scheme shift: same inputs and outputs, exact, cost measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from qcompile.compiler.cli import main
from qcompile.compiler.errors import InputError, UnsupportedError
from qcompile.compiler.golden.interpreter import run_model
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.quantize.dequantize import dequantize
from qcompile.compiler.quantize.quantizer import save
from qcompile.compiler.quantize.requantizer import requantize
from qcompile.compiler.reference import Reference
from qcompile.compiler.shift_cost import shift_cost
from sim_tests.compiler.log_networks import images, log_network
from sim_tests.compiler.networks import Network, Parameters
from sim_tests.compiler.qoperator_networks import MICROSOFT, random_weight, single, tensor
from sim_tests.compiler.quantized_models import EXAMPLES, digits, quantized, shift_graph

Array = npt.NDArray[Any]
INT8 = EXAMPLES / "digits/digits_int8.onnx"


def run(model: onnx.ModelProto, inputs: dict[str, Array]) -> list[Array]:
    """Outputs of a model for one input, in float or as codes; nothing fused."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return [np.asarray(result) for result in session.run(None, inputs)]


def assert_shifts_equal_onnxruntime(path: Path, inputs: dict[str, Array]) -> None:
    """Every output of golden with one shift a requantization is ONNX Runtime's."""
    expected = Reference(path, ()).run(inputs).outputs
    found = run_model(load_model(path, requant="shift"), inputs)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
    assert shift_cost(*shift_graph(path)).changed == 0


def test_float_network_of_an_int8_model_has_its_weights_and_ranges() -> None:
    path, images, _ = digits()
    model = quantized(path, images[:50]).model
    found = dequantize(model)
    assert {node.op_type for node in found.model.graph.node}.isdisjoint(
        {"QuantizeLinear", "DequantizeLinear"}
    )
    given = {"image": images[:1]}
    (exact,), (coded,) = (run(one, given) for one in (found.model, model))
    assert np.abs(exact - coded).max() < 0.05 * np.abs(coded).max()
    first = next(node for node in model.graph.node if node.op_type == "QuantizeLinear")
    constants = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    scale, zero = (constants[name] for name in first.input[1:])
    ends = found.ranges["image"]
    assert ends.low == (-128 - int(zero)) * float(scale)
    assert ends.high == (127 - int(zero)) * float(scale)


def test_digits_keep_their_classes_and_cost_is_what_onnxruntime_says(tmp_path: Path) -> None:
    data = np.load(EXAMPLES / "digits/digits_test.npz")
    inputs = {"image": data["x"]}
    found = requantize(INT8, inputs, data["y"])
    save(found.model, tmp_path / "shift.onnx")
    assert_shifts_equal_onnxruntime(tmp_path / "shift.onnx", inputs)
    before, after = (
        Reference(path, ()).run(inputs).outputs["logits"].reshape(len(data["y"]), -1)
        for path in (INT8, tmp_path / "shift.onnx")
    )
    (cost,) = found.costs
    assert (cost.elements, cost.differing) == (before.size, int(np.count_nonzero(before != after)))
    assert cost.largest == pytest.approx(np.abs(before - after).max())
    assert cost.agreement == float(np.mean(before.argmax(axis=1) == after.argmax(axis=1)))
    shares = [float(np.mean(one.argmax(axis=1) == data["y"])) for one in (before, after)]
    assert found.accuracies == tuple(shares)
    assert shares[1] >= shares[0] - 0.005


@pytest.mark.parametrize(
    ("name", "moved"),
    [("mlpt_kws_dscnn", False), ("alibaba_kws_qoperator_u8s8", True)],
)
def test_models_of_others_keep_inputs_outputs_and_accuracy(
    tmp_path: Path, shared: Path, name: str, moved: bool
) -> None:
    data = np.load(shared / "data/kws01.npz")
    path = shared / f"models/{name}.onnx"
    codes = data["x"][:200]
    values = (codes.astype(np.float32) - 83) * np.float32(0.5847029089927673) if moved else codes
    original = onnx.load(path)
    inputs = {original.graph.input[0].name: values}
    found = requantize(path, inputs, data["y"][:200])
    assert list(found.model.graph.input) == [original.graph.input[0]]
    assert list(found.model.graph.output) == list(original.graph.output)
    assert found.accuracies is not None and found.accuracies[1] >= found.accuracies[0] - 0.015
    save(found.model, tmp_path / "shift.onnx")
    assert_shifts_equal_onnxruntime(tmp_path / "shift.onnx", inputs)


X: Parameters = (0.05, 117, "uint8")
Y: Parameters = (0.09, 3, "uint8")


QLINEAR = ("QLinearConv", "QGemm", "QLinearMatMul", "QLinearAdd", "QLinearGlobalAveragePool",
           "QLinearAveragePool")  # fmt: skip


@pytest.mark.parametrize("operator", QLINEAR)
def test_qlinear_operators_become_float_ones(
    tmp_path: Path, rng: np.random.Generator, operator: str
) -> None:
    """Within a step of the quantized operator's real result, before its codes saturate."""
    network = Network()

    def bias() -> str:
        return network.constant(rng.integers(-300, 300, 5), "int32")

    vector = operator in ("QGemm", "QLinearMatMul")
    shape = (1, 12) if vector else (1, 4, 6, 6)
    x = network.input("x", "uint8", shape)
    operand, result = tensor(network, x, X), tensor(network, "", Y)
    if operator == "QLinearConv":
        weight, _ = random_weight(network, rng, (5, 4, 3, 3), "int8", channels=0, zero_point=0)
        single(network, operator, [*operand, *weight, *result, bias()], "uint8")
    elif operator == "QGemm":
        weight, _ = random_weight(network, rng, (5, 12), "int8", channels=0, zero_point=0)
        single(network, operator, [*operand, *weight, bias(), *result], "uint8", domain=MICROSOFT,
               transB=1)  # fmt: skip
    elif operator == "QLinearMatMul":
        weight, _ = random_weight(network, rng, (12, 5), "uint8", depth=12)
        single(network, operator, [*operand, *weight, *result], "uint8")
    elif operator == "QLinearAdd":
        single(network, operator, [*operand, *tensor(network, x, X), *result], "uint8",
               domain=MICROSOFT)  # fmt: skip
    elif operator == "QLinearGlobalAveragePool":
        single(network, operator, [*operand, *result], "uint8", domain=MICROSOFT)
    else:
        single(network, operator, [*operand, *result], "uint8", domain=MICROSOFT,
               kernel_shape=[3, 2])  # fmt: skip
    path = network.save(tmp_path / "q.onnx")
    found = dequantize(onnx.load(path))
    codes = rng.integers(100, 135, shape).astype(np.uint8)
    (coded,) = run(onnx.load(path), {"x": codes})
    (real,) = run(found.model, found.values({"x": codes}))
    expected = np.clip(np.rint(real / np.float32(Y[0])) + Y[1], 0, 255)
    assert np.abs(coded.astype(int) - expected).max() <= 1
    assert len(np.unique(coded)) > 2 or operator == "QLinearGlobalAveragePool"


def test_command_prints_the_cost_before_it_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = []

    def save_later(model: onnx.ModelProto, path: Path) -> None:
        printed.append(capsys.readouterr().out)
        save(model, path)

    monkeypatch.setattr("qcompile.compiler.commands.requantize.save", save_later)
    target = tmp_path / "shift.onnx"
    data = str(EXAMPLES / "digits/digits_test.npz")
    assert main(["requantize", str(INT8), "--inputs", data, "--limit", "50",
                 "-o", str(target)]) == 0  # fmt: skip
    lines = printed[0].splitlines()
    assert [line.split()[0] for line in lines] == ["output", "same", "accuracy"]
    assert lines[2].endswith("after, of 50 inputs")
    assert target.is_file()


def test_logarithmic_model_has_no_scheme_shift(tmp_path: Path, rng: np.random.Generator) -> None:
    path, inputs = log_network(tmp_path, rng), {"image": images(rng, 9)}
    with pytest.raises(UnsupportedError) as refusal:
        requantize(path, inputs)
    assert refusal.value.message == (
        f"{path}: its activations are logarithmic: they have no scales of scheme shift"
    )
    assert refusal.value.help == (
        "quantize the float model with --scheme shift and without --activations log; "
        "--weights codebook:16 alone keeps logarithmic activations"
    )
    assert requantize(path, inputs, scheme=None, weights="codebook:16").recoded


def test_float_model_is_refused(tmp_path: Path) -> None:
    path = EXAMPLES / "digits/digits_float.onnx"
    with pytest.raises(InputError, match=r"holds no QuantizeLinear or QLinear operator\n"):
        requantize(path, {"image": np.zeros((1, 1, 8, 8), np.float32)})


def test_codes_of_other_types_are_refused(tmp_path: Path) -> None:
    network = Network(opset=21)
    wide: Parameters = (0.05, 0, "int16")
    x = network.input("x", "float32", (1, 4, 6, 6))
    network.output(network.dequantize(network.quantize(x, wide), wide), "float32")
    message = r"^QuantizeLinear '.*': only int8 and uint8 codes with one constant scale are "
    with pytest.raises(UnsupportedError, match=message):
        dequantize(network.model())
