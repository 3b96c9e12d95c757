"""What joins tensors in logarithmic networks: Concat, and pools whose windows have parts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from qcompile.compiler.errors import UnsupportedError
from qcompile.compiler.flow import Options as FlowOptions
from qcompile.compiler.frontend.log_quantize import NAME
from qcompile.compiler.golden.interpreter import run_graph, run_model
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.quantize.options import Options
from qcompile.compiler.quantize.prepare import load_float
from qcompile.compiler.quantize.quantizer import quantize
from qcompile.compiler.quantize.sessions import observe
from qcompile.compiler.small_flow import SmallFlow
from qcompile.hw.boards.ice40_hx8k_b_evn import ICE40_HX8K_B_EVN
from qcompile.runtime.host_ops import run_host_ops


def quantized(
    folder: Path, rng: np.random.Generator, middle: onnx.NodeProto, channels: int, step: int
) -> tuple[Path, dict[str, Any]]:
    """Two layers 'left' and 'right' of far ranges, `middle` from them to 'joined', a last one.

    The quantizer gets a sum of two layers in the middle's place, as it knows no Concat.
    """
    constants = {
        "left/weight": rng.normal(0, 0.5, (4, 2, 3, 3)),
        "right/weight": rng.normal(0, 3.0, (3, 2, 3, 3)),
        "first/weight": rng.normal(0, 0.2, (channels, 4, 1, 1)),
        "second/weight": rng.normal(0, 0.04, (channels, 3, 1, 1)),
        "last/weight": rng.normal(0, 0.5, (5, channels, 1, 1)),
    }
    nodes = []
    for name in ("left", "right"):
        operands = ["image", f"{name}/weight"]
        nodes.append(helper.make_node("Conv", operands, [f"{name}/sum"], name, pads=[1] * 4))
        nodes.append(helper.make_node("Relu", [f"{name}/sum"], [name], f"{name}/relu"))
    nodes.append(helper.make_node("Conv", ["left", "first/weight"], ["first"], "first"))
    nodes.append(helper.make_node("Conv", ["right", "second/weight"], ["second"], "second"))
    nodes.append(helper.make_node("Add", ["first", "second"], ["sum"], "sum"))
    nodes.append(helper.make_node("Relu", ["sum"], ["joined"], "join"))
    nodes.append(helper.make_node("Conv", ["joined", "last/weight"], ["y"], "last"))
    sides = ["height", "width"]
    graph = helper.make_graph(
        nodes,
        "joins",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 2, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5, *sides])],
        [numpy_helper.from_array(one.astype(np.float32), name) for name, one in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (folder / "float.onnx").write_bytes(model.SerializeToString())
    inputs = {"image": np.abs(rng.normal(0, 1, (40, 2, 6, 6))).astype(np.float32)}
    options = Options(activations="log:8", log_step=step)
    made = quantize(load_float(folder / "float.onnx"), inputs, options).model
    exchange(made.graph, middle)
    constant = np.abs(rng.normal(0, 0.5, (1, 2, 6, 6))).astype(np.float32)
    made.graph.initializer.append(numpy_helper.from_array(constant, "constant"))
    path = folder / "log.onnx"
    path.write_bytes(made.SerializeToString())
    return path, inputs


def exchange(graph: onnx.GraphProto, middle: onnx.NodeProto) -> None:
    """Put `middle` into the place of 'join', from the logarithmic tensors that it names."""
    log = {
        node.input[0].removesuffix("/float"): node.output[0]
        for node in graph.node
        if node.op_type == NAME
    }
    place = next(node for node in graph.node if node.name == "join")
    result = place.output[0]
    place.CopyFrom(middle)
    place.input[:] = [log.get(name, name) for name in middle.input]
    place.output[:] = [result]
    del graph.value_info[:]


def pool(**attributes: Any) -> onnx.NodeProto:
    return helper.make_node("AveragePool", ["left"], ["joined"], "middle", **attributes)


def concat(*names: str) -> onnx.NodeProto:
    return helper.make_node("Concat", [*names], ["joined"], "middle", axis=1)


JOINS = [
    (pool(kernel_shape=[3, 3], pads=[1, 1, 1, 1]), 4),
    (pool(kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]), 4),
    (pool(kernel_shape=[2, 1], pads=[0, 0, 1, 0]), 4),
    (pool(kernel_shape=[3, 2], pads=[1, 1, 1, 0], strides=[3, 2], ceil_mode=1), 4),
    (concat("left", "right"), 7),
    (concat("right", "constant", "left"), 9),
]


@pytest.mark.parametrize(("middle", "channels"), JOINS)
@pytest.mark.parametrize("step", [16, 8])
def test_joined_tensors_have_the_codes_of_onnxruntime(
    tmp_path: Path, rng: np.random.Generator, middle: onnx.NodeProto, channels: int, step: int
) -> None:
    path, inputs = quantized(tmp_path, rng, middle, channels, step)
    proto = onnx.load(path)
    made = next(
        node.output[0]
        for node in proto.graph.node
        if node.op_type == NAME and node.input[0] == "joined/float"
    )
    expected = observe(proto, inputs, [made, "y"])
    model = load_model(path)
    sent = run_host_ops(model.prologue, dict(inputs))
    found = run_graph(model.graph, {name: sent[name] for name in model.graph.inputs})
    value = model.graph.values[f"{made}:codes"]
    assert value.log is not None
    wanted = value.log.codes(expected[made]).astype(int)
    off = np.abs(found[value.name] - wanted)
    assert off.max() <= (step != 16) and off.mean() <= 1e-3 and len(np.unique(wanted)) > 4
    differing = run_model(model, inputs)["y"] != expected["y"]
    assert differing.mean() <= (2e-4 if step == 16 else 0.02)  # ties of the linear result


def test_softmax_in_the_middle_is_refused_by_name(tmp_path: Path, rng: np.random.Generator) -> None:
    middle = helper.make_node("Softmax", ["left"], ["joined"], "shares", axis=1)
    path, _ = quantized(tmp_path, rng, middle, 4, 16)
    with pytest.raises(UnsupportedError) as refusal:
        load_model(path)
    assert re.fullmatch(
        r"log\.onnx: Softmax 'shares' \(node \d+\): has no form that ends in logarithmic codes",
        refusal.value.message,
    )
    assert refusal.value.help == (
        "quantize the model without --activations log, or leave the Softmax out"
    )


@pytest.mark.parametrize(("middle", "channels"), [JOINS[0], JOINS[4]])
def test_parted_pools_and_joins_have_a_machine(
    tmp_path: Path, rng: np.random.Generator, middle: onnx.NodeProto, channels: int
) -> None:
    path, _ = quantized(tmp_path, rng, middle, channels, 16)
    assert SmallFlow(ICE40_HX8K_B_EVN).check(load_model(path), FlowOptions()).rows
