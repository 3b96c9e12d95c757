"""Golden against ONNX Runtime on real networks: every layer that it runs on codes, every output."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qcompile.compiler.compare import as_int8, compare_layer
from qcompile.compiler.golden.float_rules import quantize_linear
from qcompile.compiler.golden.interpreter import run_graph, run_model, run_op
from qcompile.compiler.ir import Select
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.reference import Reference
from qcompile.runtime.host_ops import run_host_ops
from sim_tests.compiler.agreement import assert_equal_everywhere, random_inputs

NETWORKS = {
    "mlpt_ic_resnet8": 14,
    "mlpt_vww_mbv1_025": 29,
    "mlpt_ad_toycar": 10,
    "tinymaix_mnist_dw_q": 6,
    "cfu_magic_wand": 6,
    "ort_mnist_qdq_u8u8": 5,
    "st_miniresnet_1s": 10,
    "coral_mobilenet_v1_0.25_128_quant": 29,
}
"""Name and number of layers on the accelerator; tinymaix_mnist_dw_q has a channel multiplier,
the last is uint8 with 28 weight zero points."""

MORE_NETWORKS = {
    "tflm_person_detect": 29,
    "tflm_micro_speech": 2,
    "tflm_hello_world": 3,
    "tinymaix_cifar10_q": 4,
    "tinymaix_mnist_rect_q": 5,
    "tinymaix_mnist_valid_q": 5,
    "tinymaix_mbnet96_0.25_q": 29,
    "coral_mobilenet_v2_1.0_224_quant": 64,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_of_a_real_network_equals_onnxruntime(
    shared: Path, rng: np.random.Generator, name: str
) -> None:
    path = shared / "models" / f"{name}.onnx"
    model = load_model(path)
    assert len(model.graph.ops) == NETWORKS[name]
    assert_equal_everywhere(path, model, random_inputs(model, rng, 20))


@pytest.mark.full
@pytest.mark.parametrize("name", MORE_NETWORKS)
def test_every_layer_of_more_real_networks_equals_onnxruntime(
    shared: Path, rng: np.random.Generator, name: str
) -> None:
    path = shared / "models" / f"{name}.onnx"
    model = load_model(path)
    assert len(model.graph.ops) == MORE_NETWORKS[name]
    assert_equal_everywhere(path, model, random_inputs(model, rng, 5))


def test_network_whose_transposes_onnxruntime_moves_equals_it(
    shared: Path, rng: np.random.Generator
) -> None:
    path = shared / "models" / "st_miniresnetv2_1s.onnx"
    model = load_model(path)
    assert len(model.graph.ops) == 29
    assert_equal_everywhere(path, model, random_inputs(model, rng, 5), renamed=8)


@pytest.mark.full
def test_network_of_float_islands_finds_the_same_classes(shared: Path) -> None:
    # A Clip that the next QuantizeLinear does not make redundant leaves 35 convolutions in float.
    path = shared / "models" / "tflm_xtensa_mbv2_224.onnx"
    data = np.load(shared / "data" / "coral4_224.npz")
    model = load_model(path)
    assert [op.name for op in model.graph.ops if isinstance(op, Select)] == []
    real = (data["x"] / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    quantization = model.inputs[0].quantization
    assert quantization is not None
    codes = quantize_linear(real.astype(np.float32), quantization, "int8").astype(np.int8)
    inputs = {"input.5": np.ascontiguousarray(codes.transpose(0, 3, 1, 2))}
    reference = Reference(path, ())
    operators = [island.operators[0] for island in reference.islands]
    assert len(operators) == 35
    assert all(operator.startswith("FusedConv ") for operator in operators)
    (expected,) = reference.run(inputs).outputs.values()
    (got,) = run_model(model, inputs).values()
    classes = got.argmax(axis=1)
    assert np.array_equal(classes, expected.argmax(axis=1))
    assert np.array_equal(classes + 1, data["imagenet1001"])


def test_keyword_spotting_equals_onnxruntime_on_500_clips(shared: Path) -> None:
    path = shared / "models" / "mlpt_kws_dscnn.onnx"
    data = np.load(shared / "data" / "kws01.npz")
    model = load_model(path)
    inputs = {"input_1": data["x"]}
    assert_equal_everywhere(path, model, inputs)
    classes = run_model(model, inputs)["Identity"].argmax(axis=1)
    assert np.count_nonzero(classes == data["y"]) == 453


def test_float_network_agrees_up_to_the_ties_of_its_pool_of_windows(
    shared: Path, rng: np.random.Generator
) -> None:
    # Its AveragePool covers 24 of 25 rows, so ONNX Runtime adds it in float32 (see fuse_requant).
    path = shared / "models" / "alibaba_kws_qdq_s8s8_pc.onnx"
    model = load_model(path)
    inputs = {"x:0": (rng.normal(size=(20, 49, 10, 1)) * 60).astype(np.float32)}
    layers = [op.name for op in model.graph.ops]
    run = Reference(path, layers).run(inputs)
    entered = run_host_ops(model.prologue, inputs)
    codes = run_graph(model.graph, {name: entered[name] for name in model.graph.inputs})
    for name in layers[:9]:
        assert compare_layer(name, codes[name], run.layers[name]).mismatches == 0
    pool = compare_layer(layers[9], codes[layers[9]], run.layers[layers[9]])
    assert pool.max_steps <= 1
    assert pool.mismatches < 0.01 * pool.elements


NARROW = {
    "qonnx_kws_mlp_w3a3_v07_qcdq": "kws_finn400",
    "qonnx_TFC_2W2A_qcdq": "mnist2k",
}


@pytest.mark.parametrize("name", NARROW)
def test_networks_of_two_and_three_bits_equal_onnxruntime(shared: Path, name: str) -> None:
    path = shared / "models" / f"{name}.onnx"
    model = load_model(path)
    data = np.load(shared / "data" / f"{NARROW[name]}.npz")["x"].astype(np.float32)
    shape = model.inputs[0].shape[1:]
    x = data.reshape(len(data), *shape) / (255 if "mnist" in NARROW[name] else 1)
    inputs = {"global_in": x[:400].astype(np.float32)}
    layers = [op.name for op in model.graph.ops]
    assert len(layers) == 3
    run = Reference(path, layers).run(inputs)
    entered = run_host_ops(model.prologue, inputs)
    codes = run_graph(model.graph, {name: entered[name] for name in model.graph.inputs})
    for layer in layers:  # sums of codes, and real numbers between them and the next codes
        assert compare_layer(layer, codes[layer], run.layers[layer]).mismatches == 0
    assert np.array_equal(run_model(model, inputs)["global_out"], run.outputs["global_out"])


def test_super_resolution_is_at_most_a_step_off_in_each_layer(
    shared: Path, rng: np.random.Generator
) -> None:
    # Its convolutions have float biases and batch normalization: ONNX Runtime multiplies reals.
    path = shared / "models" / "qonnx_espcn_nnresize_qcdq.onnx"
    model = load_model(path)
    inputs = {"global_in": rng.uniform(size=(1, 3, 128, 128)).astype(np.float32)}
    run = Reference(path, [op.name for op in model.graph.ops]).run(inputs)
    entered = run_host_ops(model.prologue, inputs)
    values = {name: entered[name] for name in model.graph.inputs}
    for op in model.graph.ops:
        values[op.name] = run_op(op, [values[name] for name in op.inputs])
        if op.name not in run.layers:
            continue
        record = compare_layer(op.name, values[op.name], run.layers[op.name])
        assert record.max_steps <= 1
        assert record.mismatches <= 1e-3 * record.elements
        values[op.name] = as_int8(run.layers[op.name])  # the next layer starts from the same codes
