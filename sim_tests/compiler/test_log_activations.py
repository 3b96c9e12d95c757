"""Networks with logarithmic activations, in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from qcompile.compiler.errors import UsageError
from qcompile.compiler.frontend.log_quantize import DOMAIN, NAME, is_log_quantize
from qcompile.compiler.quantize.encoding import Parameters
from qcompile.compiler.quantize.log_activations import Choice, LogActivations, LogEncoding
from qcompile.compiler.quantize.observe import Observations
from qcompile.compiler.quantize.options import Options
from qcompile.compiler.quantize.prepare import load_float
from qcompile.compiler.quantize.quantizer import quantize
from qcompile.compiler.quantize.registry import activation_form_of
from qcompile.compiler.quantize.sessions import observe
from qcompile.compiler.quantize.signs import part_signs
from sim_tests.compiler import float_networks
from sim_tests.compiler.log_networks import float_network, images


def formats(model: onnx.ModelProto) -> dict[str, dict[str, int]]:
    """Attributes of each LogQuantize, by its operand."""
    return {
        node.input[0]: {one.name: one.i for one in node.attribute}
        for node in model.graph.node
        if (node.domain, node.op_type) == (DOMAIN, NAME)
    }


def test_every_tensor_behind_a_relu_is_logarithmic(tmp_path: Path) -> None:
    subject = float_networks.digits()
    made = subject.quantized(Options(activations="log:16", log_step=8))
    onnx.checker.check_model(made.model, full_check=True)
    assert [is_log_quantize(one) for one in made.model.functions] == [True]
    found = formats(made.model)
    assert {"image", "stem/relu/float", "residual/relu/float"} <= set(found)
    assert not {"logits/float", "residual/pointwise/conv/float"} & set(found)
    assert all(one["step"] == 8 and one["levels"] == 16 for one in found.values())
    for row in made.tensors:
        real = row.name if row.name in subject.network.outputs else f"{row.name}/real"
        values = observe(made.model, subject.part(slice(20)), [real])[real]
        np.testing.assert_array_equal(row.encoding.rounded(values), values)
        if isinstance(row.encoding, LogEncoding):
            assert set(np.unique(values)) <= set(row.encoding.format.values)


def test_bias_counts_in_steps_of_the_least_value() -> None:
    made = float_networks.digits().quantized(Options(activations="log:16"))
    arrays = {one.name: numpy_helper.to_array(one) for one in made.model.graph.initializer}
    fsr = formats(made.model)["stem/relu/float"]["fsr"]
    weight = arrays["separable/depthwise/weight/scale"]
    expected = weight * np.float32(2 ** (fsr / 16))
    np.testing.assert_allclose(arrays["separable/depthwise/bias/scale"], expected, rtol=1e-6)


def test_digits_keep_their_accuracy_with_16_levels() -> None:
    subject = float_networks.digits()
    assert subject.loss(subject.quantized(Options(activations="log:16"))) <= 1


def test_mnist_keeps_its_accuracy_with_16_levels(shared: Path) -> None:
    subject = float_networks.mnist(shared)
    assert subject.loss(subject.quantized(Options(activations="log:16"))) <= 1


def test_keyword_spotting_keeps_its_accuracy_with_32_levels(shared: Path) -> None:
    subject = float_networks.kws(shared)
    made = subject.quantized(Options(activations="log:32"))
    assert "x:0" not in formats(made.model)  # its features have a sign: they stay int8
    assert subject.loss(made) <= 1.5


@pytest.mark.parametrize("kind", ["Conv", "Gemm", "Gemm transposed"])
def test_parted_signs_make_the_same_network(
    tmp_path: Path, rng: np.random.Generator, kind: str
) -> None:
    """Reshape, then a layer of x: the rewritten one reads max([x, -x], 0)."""
    size = [1, 3, 4, 5] if kind == "Conv" else [1, 60]
    result = [1, 4, 3, 4] if kind == "Conv" else [1, 4]
    attributes: dict[str, Any] = {"transB": 1} if kind == "Gemm transposed" else {}
    shapes = {"Conv": (4, 3, 2, 2), "Gemm": (60, 4), "Gemm transposed": (4, 60)}
    nodes = [
        helper.make_node("Reshape", ["x", "size"], ["t"]),
        helper.make_node(kind.split()[0], ["t", "w", "b"], ["y"], name="layer", **attributes),
    ]
    constants = {
        "size": np.array(size),
        "w": rng.normal(size=shapes[kind]).astype(np.float32),
        "b": rng.normal(size=4).astype(np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, [1, 60])],
        [helper.make_tensor_value_info("y", 1, result)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    imports = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), tmp_path / "n.onnx")
    network = load_float(tmp_path / "n.onnx")
    x = {"x": rng.normal(size=(3, 60)).astype(np.float32)}
    before = observe(network.to_model(), x, ["y"])["y"]
    raw = part_signs(network, Observations(network, x))
    assert raw == {"x", "t", "t/negative", "t/signs"}
    after = observe(network.to_model(), x, ["y", "t/parts"])
    np.testing.assert_allclose(after["y"], before, rtol=1e-4, atol=1e-4)
    assert after["t/parts"].min() == 0


def test_inputs_without_a_sign_are_not_parted() -> None:
    subject = float_networks.digits()
    network = subject.network.copy()
    assert part_signs(network, Observations(network, subject.part(slice(5)))) == set()


def test_a_parted_input_is_logarithmic(shared: Path) -> None:
    subject = float_networks.kws(shared)
    made = subject.quantized(Options(activations="log:16", part_signs=True))
    found = formats(made.model)
    assert len(found) == 12  # both signs, nine layers, their average, its Reshape
    operators = [node.op_type for node in made.model.graph.node]
    assert operators.count("QuantizeLinear") == 1  # of the network's result


def test_output_takes_the_format_that_layers_behind_mind_least() -> None:
    subject = float_networks.digits()
    network = subject.network
    observations = Observations(network, subject.part(slice(float_networks.CALIBRATION)))
    encoding = Parameters(scale=np.float32(1), zero_point=0)
    names = ["stem/relu", "down/relu", "residual/relu"]
    errors = {
        choice: [
            observations.readers.error(name, one)
            for name, one in LogActivations(8, choice)
            .encodings(network, observations, dict.fromkeys(names, encoding))
            .items()
        ]
        for choice in get_args(Choice)
    }
    assert all(a <= b for a, b in zip(errors["output"], errors["mse"], strict=True))
    assert sum(errors["output"]) < sum(errors["mse"])
    assert sum(errors["mse"]) < sum(errors["entropy"])


def test_keyword_spotting_recovers_with_16_levels(shared: Path) -> None:
    """By the error of the layers behind and bias correction: 2 points more than by mse alone."""
    subject = float_networks.kws(shared)
    options = Options(activations="log:16,output", bias_correction=True)
    assert subject.loss(subject.quantized(options)) <= 1.5


def test_options_of_logarithms_need_them() -> None:
    with pytest.raises(UsageError, match=r"^--log-step has no meaning with int8 activations\n"):
        activation_form_of(Options(log_step=16))
    with pytest.raises(UsageError, match=r"^--activations log has no meaning in scheme shift\n"):
        activation_form_of(Options(activations="log:16", scheme="shift"))


def test_formats_are_reported() -> None:
    made = float_networks.digits().quantized(Options(activations="log:16", scheme="ternary"))
    *table, array = made.notes
    head, *rows = (line.split() for line in table)
    assert array == (
        "no array is built for these steps: for a board add --log-step 8 or --log-step 16"
    )
    assert head[:4] == ["tensor", "levels", "fsr", "step"]
    found = formats(made.model)
    assert {(name, fsr, step) for name, _, fsr, step in rows} <= {
        (name.removesuffix("/float"), str(one["fsr"]), str(one["step"]))
        for name, one in found.items()
    }
    assert len(rows) == 7


@pytest.mark.parametrize(
    ("activations", "step", "told"),
    [
        ("log:16", 8, None),
        ("log:32", 16, "no array is built for these steps: for a board add --log-step 8"),
        ("log:12", 16, "no array is built for 12 levels, but for 8, 16, 32"),
    ],
)
def test_codes_without_an_array_are_told_of(activations: str, step: int, told: str | None) -> None:
    made = float_networks.digits().quantized(Options(activations=activations, log_step=step))
    rows = [line for line in made.notes if line.startswith("no array")]
    assert rows == ([told] if told else [])


@pytest.mark.parametrize("signs", [False, True])
def test_input_with_a_sign_is_told_of(
    signs: bool, tmp_path: Path, rng: np.random.Generator
) -> None:
    path = tmp_path / "float.onnx"
    path.write_bytes(float_network(rng).SerializeToString())
    options = Options(activations="log:8", log_step=16, part_signs=signs)
    made = quantize(load_float(path), {"image": images(rng, 9) - 1}, options)
    told = [line for line in made.notes if line.startswith("input image has a sign")]
    assert len(told) == (0 if signs else 1)


@pytest.mark.parametrize("argument", ["", "1", "33", "16,kl", "x"])
def test_other_formats_are_wrong_usage(argument: str) -> None:
    with pytest.raises(UsageError, match=rf"^--activations log:{argument} is not known\n"):
        LogActivations.of(argument, Options())
