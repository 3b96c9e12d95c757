"""`--softmax chip`: Softmax anywhere in a network, by layers that give golden's codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from qcompile.compiler import ir
from qcompile.compiler.backend import compile_model, for_accelerator
from qcompile.compiler.cli import main
from qcompile.compiler.errors import UnsupportedError
from qcompile.compiler.golden.interpreter import run_graph, run_model
from qcompile.compiler.golden.log_functions import log_tables
from qcompile.compiler.lines.machine import LinesMachine
from qcompile.compiler.passes.lower import lower
from qcompile.compiler.passes.softmax_layers import softmax_layers
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.reference import Reference
from qcompile.compiler.simulate import reference_of, simulate
from qcompile.compiler.verify import verify
from qcompile.hw.boards import BOARDS
from qcompile.hw.lines.config import LinesConfig
from qcompile.runtime.inputs import Samples
from sim_tests.compiler.compiled_runs import check_compiled
from sim_tests.compiler.integer_graphs import model_of
from sim_tests.compiler.networks import Network, Parameters, random_codes, random_conv

SHARES: Parameters = (1 / 256, -128, "int8")
CODES: Parameters = (0.083, -7, "int8")
SHAPES = [(1, 1, 1), (2, 1, 1), (3, 2, 2), (10, 1, 1), (12, 1, 1), (16, 3, 1), (32, 1, 1)]
IMAGES = [(33, 1, 1), (100, 1, 1), (528, 1, 1), (1024, 1, 1)]
"""Classes that become an image."""


def softmax_graph(
    shape: tuple[int, int, int], scale: float = 0.083, mode: Any = "exact", steps: int = 256
) -> ir.Graph:
    powers, logs = log_tables(scale)
    op = ir.Softmax(
        inputs=("x",),
        outputs=("y",),
        origins=(ir.Origin(node="s", operator="Softmax", index=0),),
        mode=mode,
        axis=1,
        steps=steps,
        powers=powers,
        logs=logs,
    )
    values = {name: ir.Value(name=name, shape=(1, *shape), dtype="int8") for name in "xy"}
    return ir.Graph(name="softmax", inputs=("x",), outputs=("y",), values=values, ops=(op,))


def codes_of(rng: np.random.Generator, shape: tuple[int, int, int], count: int) -> ir.Int8Array:
    """Codes over their whole range, and near to one another at the top."""
    uniform = rng.integers(-128, 128, (count, *shape))
    near = 127 - np.minimum(rng.geometric(0.07, (count, *shape)), 255)
    return np.concatenate([uniform, near]).astype(np.int8)


@pytest.mark.parametrize("mode", ["exact", "shift"])
@pytest.mark.parametrize("word", [4, 8, 16])
@pytest.mark.parametrize("shape", [*SHAPES, *IMAGES, (40, 2, 1)])
def test_layers_are_goldens_softmax(
    rng: np.random.Generator, shape: tuple[int, int, int], word: int, mode: str
) -> None:
    for scale, steps in ((0.003, 256), (0.083, 256), (0.9, 100)):
        graph = softmax_graph(shape, scale, mode, steps)
        layers = softmax_layers(graph, word)
        verify(layers, after="softmax_layers")
        assert not any(isinstance(op, ir.Softmax) for op in layers.ops)
        codes = {"x": codes_of(rng, shape, 40)}
        expected = run_graph(graph, codes)["y"]
        np.testing.assert_array_equal(run_graph(layers, codes)["y"], expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_parts_are_written_where_they_belong(shape: tuple[int, int, int]) -> None:
    layers = lower(softmax_layers(softmax_graph(shape), 4))
    names = [layer.name for layer in layers]
    # Only the codes and the largest of them are copied, to stand beside one another.
    copies = [layer.name for layer in layers if layer.macs == 0 and layer.table is None]
    assert all(name.startswith("y:max") for name in copies), names
    joined = {layer.output for layer in layers if layer.region}
    assert joined >= {"y:powers", "y:logs", "y:shares"}


@pytest.mark.parametrize("shape", [*SHAPES[:4], (34, 1, 1)])
def test_plans_of_the_small_machine_compute_goldens_softmax(
    rng: np.random.Generator, shape: tuple[int, int, int]
) -> None:
    model = model_of(softmax_graph(shape))
    compiled = compile_model(model, board=BOARDS["icebreaker"], requant="exact")
    assert check_compiled(compiled, rng)


def test_layers_of_an_array_of_lines_compute_goldens_softmax(rng: np.random.Generator) -> None:
    machine = LinesMachine(LinesConfig())
    graph = softmax_graph((12, 1, 2))
    codes = {"x": codes_of(rng, (12, 1, 2), 1)[:1]}
    prepared = for_accelerator(model_of(graph), machine).graph
    layers = lower(prepared, "exact", machine)
    expected = run_graph(prepared, codes)["y"]
    np.testing.assert_array_equal(expected, run_graph(graph, codes)["y"])
    assert machine.estimate(layers) is not None


# ------------------------------------------------------------------ networks


def network_of(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    axis: int,
    *,
    dtype: str = "int8",
    inside: bool = False,
    real: bool = False,
) -> Network:
    """A Conv, a Softmax, and perhaps another Conv; `real`: the Softmax ends in float."""
    network = Network()
    zero = 0 if dtype == "uint8" else -128
    before: Parameters = (0.083, 113 if dtype == "uint8" else -7, dtype)
    after: Parameters = (1 / 256, zero, dtype)
    x = network.input("x", dtype, shape)
    codes = random_conv(
        network, rng, x, (shape[1], shape[1], 1, 1), ((0.02, zero + 100, dtype), before)
    )
    shares = network.node("Softmax", network.dequantize(codes, before), name="s", axis=axis)
    if real:
        network.output(shares, "float32")
        return network
    result = network.quantize(shares, after, output="shares")
    if inside:
        result = random_conv(network, rng, result, (5, shape[1], 1, 1), (after, before))
    network.output(result, dtype)
    return network


def simulated(path: Path, x: npt.NDArray[Any]) -> Any:
    """The model with the Softmax on the chip against ONNX Runtime, by the rule of `sim`."""
    model = load_model(path, softmax="chip")
    assert any(isinstance(op, ir.Softmax) for op in model.graph.ops)
    for found in (model, for_accelerator(model)):
        samples = Samples(tensors={"x": x}, labels=None, notes=())
        run = simulate(found, reference_of(found), samples, progress=lambda text: None)
        assert run.failures == ()
    return run.record["onnxruntime"]


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("axis", [1, 2, 3, -1])
@pytest.mark.parametrize("inside", [False, True])
def test_softmax_along_any_axis_is_within_one_step(
    tmp_path: Path, rng: np.random.Generator, axis: int, dtype: str, inside: bool
) -> None:
    shape = (1, 6, 3, 4)
    network = network_of(rng, shape, axis, dtype=dtype, inside=inside)
    record = simulated(
        network.save(tmp_path / "m.onnx"), random_codes(rng, (30, *shape[1:]), dtype)
    )
    (island,) = record["float_islands"]
    assert island["tensor"] == "shares"
    assert island["elements"] == 30 * 6 * 3 * 4
    assert island["max_steps"] <= 1


def test_softmax_that_ends_in_float_gets_codes(tmp_path: Path, rng: np.random.Generator) -> None:
    path = network_of(rng, (1, 10, 1, 1), 1, real=True).save(tmp_path / "m.onnx")
    x = random_codes(rng, (50, 10, 1, 1), "int8")
    (output,) = simulated(path, x)["outputs"]
    assert output["max_steps"] <= 1
    model = load_model(path, softmax="chip")
    assert [op["op"] for op in model.epilogue] == ["DequantizeLinear"]
    (name,) = (value.name for value in model.outputs)
    expected = Reference(path, ()).run({"x": x}).outputs[name]
    # One step, and what a code's own rounding takes.
    assert np.abs(run_model(model, {"x": x})[name] - expected).max() < 1.5 / 256


def test_the_host_keeps_it_by_default(tmp_path: Path, rng: np.random.Generator) -> None:
    path = network_of(rng, (1, 10, 1, 1), 1).save(tmp_path / "m.onnx")
    model = load_model(path)
    assert [op["op"] for op in model.epilogue] == ["QLinearSoftmax"]
    assert reference_of(model).islands == ()


def test_a_build_knows_who_computes_softmax(
    tmp_path: Path, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    path = network_of(rng, (1, 10, 1, 1), 1).save(tmp_path / "m.onnx")
    inputs = tmp_path / "x.npz"
    np.savez(inputs, x=random_codes(rng, (200, 10, 1, 1), "int8"))
    for softmax, islands in (("host", 0), ("chip", 1)):
        folder = tmp_path / softmax
        options = ["--target", "ice40", "--no-bitstream", "--softmax", softmax]
        assert main(["compile", str(path), *options, "-o", str(folder)]) == 0
        assert json.loads((folder / "manifest.json").read_text())["softmax"] == softmax
        assert main(["sim", str(folder), "--inputs", str(inputs), "--engine", "golden"]) == 0
        record = json.loads((folder / "sim.json").read_text())
        assert len(record["onnxruntime"]["float_islands"]) == islands
        (output,) = record["onnxruntime"]["outputs"]
        assert (output["differing"] > 0, output["max_steps"]) == (bool(islands), islands)
    capsys.readouterr()


def refused(path: Path, *lines: str) -> None:
    with pytest.raises(UnsupportedError) as raised:
        load_model(path, softmax="chip")
    assert str(raised.value) == "\n".join(lines)


def test_other_scales_of_the_result_are_refused(tmp_path: Path) -> None:
    network = Network()
    real = network.dequantize(network.input("x", "int8", (1, 4, 2, 2)), CODES)
    shares = network.node("Softmax", real, name="s", axis=1)
    network.output(network.quantize(shares, (0.003, -128, "int8")), "int8")
    refused(
        network.save(tmp_path / "m.onnx"),
        "m.onnx: Softmax 's' (node 1): with --softmax chip has 0.003 as scale of its result",
        "  help: give it 1/256, or one over a smaller whole number, and the lowest code as zero"
        " point; or leave it to the host, --softmax host",
    )


def test_real_numbers_and_many_classes_are_refused(tmp_path: Path) -> None:
    network = Network()
    real = network.input("r", "float32", (1, 4))
    network.output(network.node("Softmax", real, name="r", axis=1), "float32")
    codes = network.dequantize(network.input("x", "int8", (1, 1025)), CODES)
    shares = network.node("Softmax", codes, name="s", axis=1)
    network.output(network.quantize(shares, SHARES), "int8")
    path = network.save(tmp_path / "m.onnx")
    with pytest.raises(UnsupportedError) as raised:
        load_model(path, softmax="chip")
    first, second = raised.value.problems
    assert first.render() == (
        "m.onnx: Softmax 'r' (node 0): with --softmax chip reads real numbers\n"
        "  help: quantize the tensor in front of it"
    )
    assert second.render() == (
        "m.onnx: Softmax 's' (node 2): with --softmax chip has 1,025 classes, more than 1,024\n"
        "  help: leave it to the host, --softmax host"
    )
