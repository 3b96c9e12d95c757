"""Weights on thresholds: the quantizer keeps them away, and sim compares tensor by tensor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from qcompile.compiler.commands.sim import _island_lines
from qcompile.compiler.log_format import LogFormat
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.quantize.layer import layers_of, symmetric_scales
from qcompile.compiler.quantize.log_ties import scales_without_ties
from qcompile.compiler.quantize.options import Options
from qcompile.compiler.quantize.prepare import load_float
from qcompile.compiler.quantize.quantizer import quantize
from qcompile.compiler.simulate import Simulation, reference_of, simulate
from qcompile.runtime.inputs import Samples

CHANNELS = 3


def copying_network(path: Path, gains: list[float]) -> Path:
    """A convolution that copies each channel by a gain, a rectifier, and one with all channels."""
    copy = np.zeros((CHANNELS, CHANNELS, 1, 1), np.float32)
    copy[range(CHANNELS), range(CHANNELS), 0, 0] = gains
    mix = np.linspace(-0.4, 0.9, 4 * CHANNELS, dtype=np.float32).reshape(4, CHANNELS, 1, 1)
    nodes = [
        helper.make_node("Conv", ["image", "copy"], ["copied"], "copied"),
        helper.make_node("Relu", ["copied"], ["p"], "p"),
        helper.make_node("Conv", ["p", "mix"], ["mixed"], "mixed"),
        helper.make_node("Relu", ["mixed"], ["y"], "y"),
    ]
    graph = helper.make_graph(
        nodes,
        "copying",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, CHANNELS, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 4, 4])],
        [numpy_helper.from_array(copy, "copy"), numpy_helper.from_array(mix, "mix")],
    )
    opsets = [helper.make_opsetid("", 17)]
    path.write_bytes(
        helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    )
    return path


def simulated(folder: Path, x: npt.NDArray[np.float32], options: Options) -> Simulation:
    """The copying network with gains that are powers of a root of two, quantized, by golden."""
    network = load_float(copying_network(folder / "float.onnx", [1.0, 0.5, 2**0.5]))
    made = quantize(network, {"image": x}, options)
    path = folder / "log.onnx"
    path.write_bytes(made.model.SerializeToString())
    model = load_model(path)
    samples = Samples(tensors={"image": x}, labels=None, notes=())
    return simulate(model, reference_of(model), samples, progress=lambda text: None)


@pytest.mark.parametrize(("levels", "step"), [(8, 16), (16, 16), (8, 8), (16, 8), (8, 6)])
def test_copies_have_the_codes_of_onnxruntime(
    levels: int, step: int, tmp_path: Path, rng: np.random.Generator
) -> None:
    x = rng.exponential(1, (40, CHANNELS, 4, 4)).astype(np.float32)
    result = simulated(tmp_path, x, Options(activations=f"log:{levels}", log_step=step))
    assert result.failures == ()
    islands = result.record["onnxruntime"]["float_islands"]
    logs = [island for island in islands if island["tensor"].endswith(":codes")]
    assert {island["tensor"] for island in logs} >= {"p/real:codes", "image/real:codes"}
    assert all(island["elements"] == x.size for island in logs)
    copied = [island for island in logs if island["tensor"] in ("p/real:codes", "image/real:codes")]
    assert [island["differing"] for island in copied] == [0, 0]
    if step % 8 == 0:  # other steps have more classes, whose constants have 15 bits
        assert [island["differing"] for island in islands] == [0] * len(islands)


def test_scales_move_only_where_a_weight_meets_a_threshold(tmp_path: Path) -> None:
    network = load_float(copying_network(tmp_path / "float.onnx", [1.0, 0.7, 0.25]))
    copying, mixing = layers_of(network)
    scales = symmetric_scales(copying)
    operand = LogFormat(fsr=-40, step=16, levels=8)
    for fsr, moved in ((-32, True), (-40, False)):  # half a step apart, and none
        result = LogFormat(fsr=fsr, step=16, levels=8)
        found = scales_without_ties(copying, scales, operand, result)
        np.testing.assert_array_equal(found > scales, [moved, False, moved])
        assert (found <= scales * 1.02).all()
    others = symmetric_scales(mixing)
    np.testing.assert_array_equal(
        scales_without_ties(mixing, others, operand, LogFormat(fsr=-32, step=16, levels=8)), others
    )


def test_tensors_that_are_equal_share_a_line() -> None:
    def island(name: str, differing: int | None) -> dict[str, Any]:
        elements = None if differing is None else 1000
        return {"tensor": name, "differing": differing, "elements": elements}

    few = [island("a", 0), island("b", 3)]
    assert len(_island_lines(few)) == 2
    many = [*few, island("c", 0), island("d", 0), island("e", None)]
    first, second, last = _island_lines(many)
    assert "'b', 3 of 1,000 elements apart given its inputs" in first
    assert "'e', not compared by itself" in second
    assert last.endswith("3 tensors more, 0 of 3,000 elements apart given their inputs")


def test_formats_with_more_classes_than_codes_are_read(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    """Step 10 has eight residues of an octave, and four levels have three values."""
    x = rng.exponential(1, (9, CHANNELS, 4, 4)).astype(np.float32)
    result = simulated(tmp_path, x, Options(activations="log:4", log_step=None))
    assert result.failures == ()
    assert onnx.load(tmp_path / "log.onnx").graph.node
