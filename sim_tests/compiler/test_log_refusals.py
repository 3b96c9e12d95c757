"""What logarithmic networks are refused for, and the advice that goes with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from qcompile.compiler.errors import UnsupportedError
from qcompile.compiler.ir import Conv
from qcompile.compiler.log_format import FEWER_OCTAVES
from qcompile.compiler.passes.lower import lower
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.quantize.options import Options
from qcompile.compiler.quantize.prepare import load_float
from qcompile.compiler.quantize.quantizer import quantize
from sim_tests.compiler.log_networks import SIZE, images, log_network


def test_sums_of_many_octaves_are_advised_to_have_fewer(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    with pytest.raises(UnsupportedError, match=r"its sums reach .*, beyond 32 bits") as refusal:
        load_model(log_network(tmp_path, rng, 32, 16))
    advices = {line for line in refusal.value.render().splitlines() if "help:" in line}
    assert len(advices) == 1 and advices.pop().endswith(f"help: {FEWER_OCTAVES}")


def test_linear_results_beyond_float32_are_advised_fewer_octaves(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    model = load_model(log_network(tmp_path, rng, 16, 16))
    last = next(op for op in reversed(model.graph.ops) if isinstance(op, Conv))
    bias = last.bias + (1 << 24)
    scaled = replace(
        last.requant, mantissa=last.requant.mantissa * 0 + (1 << 23) + 1,
        shift=last.requant.shift * 0 + 42,
    )  # fmt: skip
    ops = [replace(op, bias=bias, requant=scaled) if op is last else op for op in model.graph.ops]
    with pytest.raises(UnsupportedError, match="beyond what float32 holds exactly") as refusal:
        lower(replace(model.graph, ops=tuple(ops)))
    assert refusal.value.render().endswith(f"help: {FEWER_OCTAVES}")


def test_sums_with_a_huge_bias_are_advised_to_check_it_too(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    path = log_network(tmp_path, rng)
    proto = onnx.load(path)
    name = "strided/bias/codes"
    bias = next(one for one in proto.graph.initializer if one.name == name)
    codes = numpy_helper.to_array(bias).copy()
    codes[3] = -(1 << 31)
    bias.CopyFrom(numpy_helper.from_array(codes, name))
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(UnsupportedError, match=r"its sums reach .*, beyond 32 bits") as refusal:
        load_model(path)
    told = "check the bias: a dead channel should have the bias 0"
    assert refusal.value.help == f"{told}; or {FEWER_OCTAVES}"


def test_transposed_convolutions_with_strides_end_in_logarithmic_codes(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    weights = {name: rng.normal(0, 0.5, (1, 1, 2, 2)).astype(np.float32) for name in ("w", "v")}
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["sums"], "first"),
        helper.make_node("Relu", ["sums"], ["x"], "relu"),
        helper.make_node("ConvTranspose", ["x", "v"], ["y"], "wider", strides=[2, 2]),
    ]
    graph = helper.make_graph(
        nodes,
        "wider",
        [helper.make_tensor_value_info("image", 1, [1, 1, SIZE, SIZE])],
        [helper.make_tensor_value_info("y", 1, [1, 1, 10, 10])],
        [numpy_helper.from_array(one, name) for name, one in weights.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "wider.onnx"
    path.write_bytes(proto.SerializeToString())
    options = Options(activations="log:8", log_step=16)
    made = quantize(load_float(path), {"image": images(rng, 20)}, options)
    path.write_bytes(made.model.SerializeToString())
    with pytest.raises(UnsupportedError) as refusal:
        lower(load_model(path).graph)
    assert refusal.value.message == (
        "'y/codes': ConvTranspose with strides puts parts together, which an array of shifts "
        "copies as logarithmic codes only\n"
        "  help: end it in logarithmic codes: with a Relu behind it, and, where its result is an "
        "output of the model, with one layer more"
    )
