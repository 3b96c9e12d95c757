"""What `sim` finds and what it lets pass, also with engines that are wrong on purpose."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from qcompile.compiler.commands.sim import summarize
from qcompile.compiler.golden.interpreter import run_graph
from qcompile.compiler.ir import Int8Array, Model
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.reference import Reference
from qcompile.compiler.simulate import EngineRun, output_scale, simulate
from qcompile.compiler.simulate import reference_of as simulation_reference
from qcompile.runtime.inputs import Samples
from sim_tests.compiler.networks import Network, random_codes, random_conv


class FlippedEngine:
    """Golden with one code of one tensor wrong: what a fault in hardware would look like."""

    def __init__(self, model: Model, tensor: str | None, index: tuple[int, ...] = ()) -> None:
        self.model = model
        self.tensor = tensor
        self.index = index

    def run(self, codes: Mapping[str, Int8Array], *, layers: bool) -> EngineRun:
        tensors = run_graph(self.model.graph, codes)
        if self.tensor is not None:
            tensors[self.tensor] = tensors[self.tensor].copy()
            tensors[self.tensor][self.index] ^= 1
        wanted = [op.name for op in self.model.graph.ops] if layers else self.model.graph.outputs
        count = len(next(iter(codes.values())))
        return EngineRun(
            tensors={name: tensors[name] for name in wanted}, cycles=tuple([100] * count)
        )


def write_two_convs(
    path: Path, rng: np.random.Generator, *, relu: bool, zero_point: int = 5
) -> Path:
    """Two 3x3 convolutions of int8 codes; with `relu` and a zero point the first is an island."""
    network = Network()
    x = network.input("x", "int8", [1, 2, 6, 6])
    between = (0.03, zero_point, "int8")
    y = random_conv(network, rng, x, (4, 2, 3, 3), ((0.02, -3, "int8"), between), relu=relu)
    z = random_conv(network, rng, y, (3, 4, 3, 3), (between, (0.05, 1, "int8")))
    network.output(z, "int8")
    return network.save(path)


def samples(rng: np.random.Generator, count: int, labels: bool = False) -> Samples:
    """Random codes for `write_two_convs`."""
    x = random_codes(rng, (count, 2, 6, 6), "int8")
    return Samples(tensors={"x": x}, labels=np.zeros(count, np.int64) if labels else None, notes=())


def quiet(text: str) -> None:
    """Progress that nobody watches."""


def reference_of(path: Path, model: Model) -> Reference:
    """ONNX Runtime with every layer of the model."""
    return Reference(path, [op.name for op in model.graph.ops])


def test_golden_equals_onnxruntime_in_layers_and_outputs(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    path = write_two_convs(tmp_path / "m.onnx", rng, relu=False)
    model = load_model(path)
    result = simulate(
        model, reference_of(path, model), samples(rng, 40), layers=True, progress=quiet
    )
    assert result.failures == ()
    record = result.record
    assert (record["inputs"], record["cycles"], record["mismatches_vs_golden"]) == (40, None, None)
    assert [layer["elements"] for layer in record["layers"]] == [40 * 4 * 16, 40 * 3 * 4]
    assert {layer["mismatches"] for layer in record["layers"]} == {0}
    (output,) = record["onnxruntime"]["outputs"]
    assert (output["elements"], output["differing"], output["max_steps"]) == (480, 0, 0)
    assert output["top1_agreement"] is None
    assert "accuracy" not in record
    assert record["onnxruntime"]["float_islands"] == []


def test_cycles_and_mismatches_of_an_engine_are_recorded(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    path = write_two_convs(tmp_path / "m.onnx", rng, relu=False)
    model = load_model(path)
    result = simulate(
        model,
        reference_of(path, model),
        samples(rng, 3),
        engine=FlippedEngine(model, None),
        predicted_cycles=99,
        progress=quiet,
    )
    assert result.failures == ()
    assert result.record["cycles"] == [100, 100, 100]
    assert result.record["predicted_cycles"] == 99
    assert result.record["mismatches_vs_golden"] == 0
    assert result.record["layers"] == []


def test_a_wrong_layer_is_located_and_fails(tmp_path: Path, rng: np.random.Generator) -> None:
    path = write_two_convs(tmp_path / "m.onnx", rng, relu=False)
    model = load_model(path)
    inputs = samples(rng, 3)
    first = model.graph.ops[0].name
    right = int(run_graph(model.graph, inputs.tensors)[first][2, 1, 0, 3])
    result = simulate(
        model,
        reference_of(path, model),
        inputs,
        engine=FlippedEngine(model, first, (2, 1, 0, 3)),
        layers=True,
        predicted_cycles=99,
        progress=quiet,
    )
    (failure,) = result.failures
    assert failure == (
        f"'{first}': 1 of 192 elements of the hardware differ from golden; "
        f"input 2, index [1, 0, 3]: expected {right}, got {right ^ 1}"
    )
    assert result.record["mismatches_vs_golden"] == 1
    assert [layer["mismatches"] for layer in result.record["layers"]] == [1, 0]
    elements = 3 * 4 * (4 * 4) + 3 * 3 * (2 * 2)
    line = f"layers: 2 tensors compared with golden's, 1 of {elements} elements differ"
    assert line in summarize(result.record, failed=True).splitlines()


def test_a_wrong_output_differs_from_golden_and_from_onnxruntime(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    path = write_two_convs(tmp_path / "m.onnx", rng, relu=False)
    model = load_model(path)
    engine = FlippedEngine(model, model.graph.outputs[0], (0, 0, 0, 0))
    result = simulate(
        model, reference_of(path, model), samples(rng, 2), engine=engine, progress=quiet
    )
    assert [failure.partition(":")[0] for failure in result.failures] == [
        f"'{model.graph.outputs[0]}'",
        f"output '{model.outputs[0].name}'",
    ]


def test_golden_that_leaves_onnxruntime_fails(tmp_path: Path, rng: np.random.Generator) -> None:
    seed = int(rng.integers(1 << 30))
    one = write_two_convs(tmp_path / "a.onnx", np.random.default_rng(seed), relu=False)
    other = write_two_convs(
        tmp_path / "b.onnx", np.random.default_rng(seed), relu=False, zero_point=6
    )
    model = load_model(one)
    result = simulate(
        model, reference_of(other, model), samples(rng, 2), layers=True, progress=quiet
    )
    assert len(result.failures) >= 2
    assert "elements of golden differ from ONNX Runtime; input 0, index [" in result.failures[0]


def test_a_float_island_may_be_a_step_apart_and_is_named(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    path = write_two_convs(tmp_path / "m.onnx", rng, relu=True)
    model = load_model(path)
    result = simulate(
        model, reference_of(path, model), samples(rng, 50), layers=True, progress=quiet
    )
    assert result.failures == ()
    (island,) = result.record["onnxruntime"]["float_islands"]
    assert island["tensor"] == model.graph.ops[0].name
    assert island["operators"][0].startswith("FusedConv ")
    assert island["elements"] == 50 * 4 * 16
    assert island["max_steps"] <= 1


def test_shift_requantization_is_reported_and_not_bounded(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    path = write_two_convs(tmp_path / "m.onnx", rng, relu=False)
    model = load_model(path, requant="shift")
    result = simulate(model, reference_of(path, model), samples(rng, 4), progress=quiet)
    assert result.failures == ()
    assert result.record["onnxruntime"]["outputs"][0]["differing"] > 0


def test_digits_are_as_accurate_as_onnxruntime(project: Path) -> None:
    folder = project / "examples" / "digits"
    model = load_model(folder / "digits_int8.onnx")
    data = np.load(folder / "digits_test.npz")
    inputs = Samples(
        tensors={model.inputs[0].name: data["x"][:64]}, labels=data["y"][:64], notes=()
    )
    reference = reference_of(folder / "digits_int8.onnx", model)
    record = simulate(model, reference, inputs, progress=quiet).record
    assert record["accuracy"] == record["onnxruntime"]["accuracy"] > 0.9
    assert record["onnxruntime"]["outputs"][0]["differing"] == 0
    assert output_scale(model, model.outputs[0].name) is not None


@pytest.mark.parametrize("last", ["Softmax", "DequantizeLinear", "Reshape"])
def test_steps_are_those_of_the_last_quantization(tmp_path: Path, last: str) -> None:
    network = Network()
    x = network.input("x", "int8", [1, 2, 6, 6])
    rng = np.random.default_rng(1)
    y = random_conv(network, rng, x, (4, 2, 6, 6), ((0.02, -3, "int8"), (0.25, 5, "int8")))
    result = network.dequantize(y, (0.25, 5, "int8"))
    if last == "Softmax":
        result = network.node("Softmax", result, axis=1)
    if last == "Reshape":
        result = network.node("Reshape", result, network.constant([1, 4], "int64"))
    network.output(result, "float32")
    path = network.save(tmp_path / "m.onnx")
    model = load_model(path)
    x_codes = random_codes(rng, (3, 2, 6, 6), "int8")
    inputs = Samples(tensors={"x": x_codes}, labels=None, notes=())
    simulation = simulate(model, reference_of(path, model), inputs, progress=quiet)
    assert simulation.failures == ()
    assert output_scale(model, result) == (None if last == "Softmax" else 0.25)


@pytest.mark.parametrize(
    ("shape", "kernel", "pads"), [((1, 3, 40), [2], [0, 0]), ((1, 3, 9, 9), [2, 4], [0, 1, 1, 0])]
)
def test_pools_of_lines_and_of_parts_are_islands(
    tmp_path: Path, shape: tuple[int, ...], kernel: list[int], pads: list[int]
) -> None:
    network = Network()
    parameters = (0.0419, 128, "uint8")
    x = network.dequantize(network.input("x", "uint8", shape), parameters)
    pooled = network.node("AveragePool", x, name="p", kernel_shape=kernel, pads=pads)
    network.output(network.quantize(pooled, parameters, output="y"), "uint8")
    model = load_model(network.save(tmp_path / "m.onnx"))
    reference = simulation_reference(model)
    assert [island.tensor for island in reference.islands] == ["y"]
    inputs = random_codes(np.random.default_rng(0), (20, *shape[1:]), "uint8")
    run = simulate(
        model, reference, Samples(tensors={"x": inputs}, labels=None, notes=()), progress=quiet
    )
    (output,) = run.record["onnxruntime"]["outputs"]
    assert output["differing"], "ties should differ here"
    (island,) = run.record["onnxruntime"]["float_islands"]
    assert (island["elements"], island["differing"]) == (output["elements"], output["differing"])
    assert island["max_steps"] == 1
    assert run.failures == ()
