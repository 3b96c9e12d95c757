"""The engine of `sim` for an array of lines, around the array itself, against golden."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qcompile.compiler import artifact
from qcompile.compiler.errors import VerifyError
from qcompile.compiler.golden.interpreter import run_graph
from qcompile.compiler.lines.engine import LinesEngine
from qcompile.hw.lines.accelerator import LinesAccelerator
from qcompile.hw.lines.config import DspStyle
from sim_tests.hw import cosim
from sim_tests.runtime.lines_build import CONFIG, LinesBuild

pytestmark = pytest.mark.cosim

CACHE = cosim.PROJECT / "build" / ".cache" / "engine"


def write_build(
    made: LinesBuild, folder: Path, *, broken: bool = False, dsp: DspStyle = "inferred"
) -> artifact.Build:
    """The build of the runtime's tests with the Verilog of its accelerator."""
    made.write(folder)
    config = replace(CONFIG, dsp=dsp)
    words = made.contents.program_words
    text = cosim.verilog_of(LinesAccelerator, config, words, name="accelerator")
    (folder / "accelerator.v").write_text(text)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["configuration"]["dsp"] = dsp
    manifest["program"]["bytes"] = 8 * len(made.contents.program) - manifest["program"]["offset"]
    manifest["accelerator"]["program_layers"] = [layer.name for layer in made.compiled.layers]
    if broken:
        image = bytearray((folder / "flash.bin").read_bytes())
        image[manifest["program"]["offset"] + 7] = 0x70  # the first packet is of no kind
        (folder / "flash.bin").write_bytes(image)
    return artifact.Build(folder=folder, manifest=manifest)


@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize("dsp", ["inferred", "instance"])
def test_tensors_layers_and_cycles_are_golden_s_and_the_cycle_model_s(
    dsp: DspStyle, tmp_path: Path, rng: np.random.Generator, seed: int
) -> None:
    made = LinesBuild()
    graph, (name,) = made.graph, made.graph.inputs
    codes = rng.integers(-128, 128, (2, *graph.values[name].shape[1:])).astype(np.int8)
    build = write_build(made, tmp_path / "m", dsp=dsp)
    engine = LinesEngine(build, cache=CACHE, seed=seed, progress=print)
    run = engine.run({name: codes}, layers=True)
    golden = run_graph(graph, {name: codes})
    named = {layer.output for layer in made.compiled.layers if not layer.inner}
    assert set(run.tensors) == named | set(graph.outputs)
    for tensor, found in run.tensors.items():
        np.testing.assert_array_equal(found.reshape(golden[tensor].shape), golden[tensor])
    predicted = {layer.name: layer.cycles for layer in made.compiled.cycles()}
    assert run.layer_cycles == {layer: [cycles] * 2 for layer, cycles in predicted.items()}
    assert run.cycles == (sum(predicted.values()),) * 2
    alone = engine.run({name: codes[1:]}, layers=False)
    assert set(alone.tensors) == set(graph.outputs)
    for tensor, found in alone.tensors.items():
        np.testing.assert_array_equal(found, run.tensors[tensor][1:])


@pytest.mark.usefixtures("tools")
def test_program_that_the_array_refuses_is_reported(tmp_path: Path, seed: int) -> None:
    made = LinesBuild()
    build = write_build(made, tmp_path / "m", broken=True)
    (name,) = made.graph.inputs
    codes = np.zeros((1, *made.graph.values[name].shape[1:]), np.int8)
    engine = LinesEngine(build, cache=CACHE, seed=seed, progress=print)
    with pytest.raises(VerifyError, match="the simulation failed") as caught:
        engine.run({name: codes}, layers=False)
    assert any("state 4" in line for line in caught.value.context)
