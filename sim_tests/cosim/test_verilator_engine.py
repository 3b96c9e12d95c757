"""The engine of `sim` around a core of tests that copies its program into memory."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from amaranth.back import verilog
from cocotb_tools import config

from qcompile.compiler import artifact
from qcompile.compiler.errors import VerifyError
from qcompile.compiler.verilator_engine import VerilatorEngine
from qcompile.hw.layouts import IMAGE_HEADER_BYTES
from qcompile.hw.program import end_packet
from sim_tests.hw.small_core import LAYER_WORDS, SmallCore

pytestmark = pytest.mark.cosim

PROGRAM_WORDS = 3 * LAYER_WORDS


def write_build(folder: Path, program: list[int], *, broken: bool = False) -> artifact.Build:
    """A build whose accelerator is the small core, with a flash image of 16-bit words."""
    words = [*program, *end_packet(program)]
    words[5] ^= int(broken)
    image = bytes(IMAGE_HEADER_BYTES) + np.array(words, "<u2").tobytes()
    core = verilog.convert(SmallCore(), name="accelerator", emit_src=False)
    manifest = {
        "model": {"name": "m", "file": "model.onnx", "sha256": "0"},
        "clock_hz": 24_000_000,
        "target": {"board": "icebreaker"},
        "accelerator": {
            "inputs": [{"value": "x", "address": 0x100, "shape": [5, 2, 3], "words": 12}],
            "outputs": [
                {"value": "x", "address": 0x100, "shape": [5, 2, 3], "words": 12},
                {"value": "y", "address": 0x4000, "shape": [4, 8, 8], "words": 64},
            ],
            "layers": [
                {
                    "name": f"l{i}",
                    "address": 0x4000 + 64 * i,
                    "shape": [4, 8, 8],
                    "words": 64,
                    "done": i + 1,
                }
                for i in range(3)
            ],
            "program_layers": ["l0", "l1", "l2"],
        },
    }
    files = {"accelerator.v": core.encode(), "flash.bin": image}
    artifact.write_build(folder, files, manifest)
    return artifact.open_build(folder)


@pytest.mark.usefixtures("tools")
def test_tensors_and_layers_come_back_and_cycles_are_counted(
    tmp_path: Path, project: Path, rng: np.random.Generator, seed: int
) -> None:
    program = rng.integers(0, 0xEFFF, PROGRAM_WORDS).tolist()
    build = write_build(tmp_path / "m", program)
    cache = project / "build" / ".cache" / "engine"
    engine = VerilatorEngine(build, cache=cache, seed=seed)
    x = rng.integers(-128, 128, (2, 5, 2, 3)).astype(np.int8)
    run = engine.run({"x": x}, layers=True)
    np.testing.assert_array_equal(run.tensors["x"], x)
    assert len(run.cycles) == 2
    # The reader brings a word every four cycles.
    assert all(4 * PROGRAM_WORDS < cycles < 5 * PROGRAM_WORDS for cycles in run.cycles)
    for i in range(3):
        words = np.array(program[64 * i : 64 * (i + 1)], "<u4")
        expected = words.view(np.int8).reshape(8, 8, 4).transpose(2, 0, 1)
        for tensor in run.tensors[f"l{i}"]:
            np.testing.assert_array_equal(tensor, expected)
    again = engine.run({"x": x[:1]}, layers=False)
    assert set(again.tensors) == {"x", "y"}
    assert again.cycles == run.cycles[:1]


@pytest.mark.usefixtures("tools")
def test_a_damaged_program_ends_in_one_message(
    tmp_path: Path, project: Path, rng: np.random.Generator, seed: int
) -> None:
    program = rng.integers(0, 0xEFFF, PROGRAM_WORDS).tolist()
    build = write_build(tmp_path / "m", program, broken=True)
    cache = project / "build" / ".cache" / "engine"
    engine = VerilatorEngine(build, cache=cache, seed=seed)
    with pytest.raises(VerifyError) as raised:
        engine.run({"x": np.zeros((1, 5, 2, 3), np.int8)}, layers=False)
    assert str(raised.value).startswith(f"{tmp_path}/m: the simulation failed\n")
    assert "the core stops with error 1" in str(raised.value)


@pytest.mark.usefixtures("tools")
def test_a_cached_simulation_runs_when_the_environment_that_made_it_is_gone(
    tmp_path: Path, project: Path, rng: np.random.Generator, seed: int
) -> None:
    program = rng.integers(0, 0xEFFF, PROGRAM_WORDS).tolist()
    build = write_build(tmp_path / "m", program)
    engine = VerilatorEngine(build, cache=project / "build" / ".cache" / "engine", seed=seed)
    moved = tmp_path / "simulator"
    shutil.copytree(engine.simulator, moved)
    binary = moved / "core_bench"
    libraries = str(config.libs_dir).encode()
    code = binary.read_bytes()
    assert libraries in code, "where the simulation's linker found cocotb"
    binary.write_bytes(code.replace(libraries, b"/gone".ljust(len(libraries), b"/")))
    engine.simulator = moved
    x = rng.integers(-128, 128, (1, 5, 2, 3)).astype(np.int8)
    np.testing.assert_array_equal(engine.run({"x": x}, layers=False).tensors["x"], x)
