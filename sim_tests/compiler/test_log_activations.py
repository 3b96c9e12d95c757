"""Networks with logarithmic activations, in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from qcompile.compiler.errors import UsageError
from qcompile.compiler.frontend.log_quantize import DOMAIN, NAME, is_log_quantize
from qcompile.compiler.quantize.log_activations import LogActivations, LogEncoding
from qcompile.compiler.quantize.observe import observe
from qcompile.compiler.quantize.options import Options
from sim_tests.compiler import float_networks


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
    arrays = {one.name: onnx.numpy_helper.to_array(one) for one in made.model.graph.initializer}
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


@pytest.mark.parametrize("argument", ["", "1", "33", "16,kl", "x"])
def test_other_formats_are_wrong_usage(argument: str) -> None:
    with pytest.raises(UsageError, match=rf"^--activations log:{argument} is not known\n"):
        LogActivations.of(argument, Options())
