"""A build whose weights come from the flash: the engine of `sim`, and the simulated board."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qcompile.compiler import artifact, ir, report
from qcompile.compiler.flow import Options, values_manifest
from qcompile.compiler.golden.interpreter import run_graph
from qcompile.compiler.lines.flow import LinesFlow
from qcompile.compiler.lines.sizing import Sizes, SizesOf
from qcompile.compiler.simulated_board import build_simulated_board
from qcompile.hw.boards.arty_a7 import ARTY_A7_35T, FLASH
from qcompile.hw.lines.config import DspStyle
from qcompile.runtime.artifact import open_artifact
from qcompile.runtime.driver import Board
from qcompile.runtime.errors import BoardError
from qcompile.runtime.layouts import image_address
from qcompile.runtime.run import run_inputs
from qcompile.runtime.serial_link import SerialLink
from qcompile.runtime.transport import SimTransport
from sim_tests.compiler.integer_graphs import IntegerGraph, model_of
from sim_tests.hw import cosim

pytestmark = pytest.mark.cosim

CACHE = cosim.PROJECT / "build" / ".cache" / "streaming"


def a_model() -> tuple[ir.Model, dict[str, ir.Int8Array]]:
    """Always the same, and codes for it."""
    g = IntegerGraph(np.random.default_rng(6))
    y = g.conv(g.conv(g.input(16, 6, 7), 24, (3, 3), pads=(1, 1, 1, 1)), 20)
    return model_of(g.graph(g.add(y, g.conv(y, 20, (3, 3), pads=(1, 1, 1, 1))))), g.codes()


class Streaming(SizesOf):
    """The smallest array, with weights from the flash though they would fit; some stay."""

    def __call__(
        self, model: ir.Model, lines: int | None, columns: int | None, dsp: DspStyle = "inferred"
    ) -> Sizes:
        return Sizes(model, lines=1, columns=16, lanes=1, dsp=dsp, streams=True, resident_rows=400)


FLOW = LinesFlow(ARTY_A7_35T, Streaming())


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> artifact.Build:
    """The build directory of `a_model`."""
    built = FLOW.build(a_model()[0], Options(), lambda step: None)
    folder = tmp_path_factory.mktemp("streaming") / "build"
    record = report.to_record(built.figures)
    model = built.model
    files = {
        **built.files,
        "model.onnx": b"",
        "report.json": artifact.to_json(record).encode(),
    }
    manifest = {
        "qcompile": "test",
        "model": {"name": model.name, "file": "model.onnx", "sha256": model.sha256},
        **values_manifest(model),
        **built.manifest,
    }
    artifact.write_build(folder, files, manifest)
    # Of three layers with 64, 288 and 576 weight words the last one's come with every run: two
    # words of the program each, 96 cycles for one.
    assert built.manifest["program"]["load"] > FLASH.offset
    assert 576 * 2 * 96 < record["cycles"] < 700 * 2 * 96 + 512 * 96
    return artifact.open_build(folder)


@pytest.mark.usefixtures("tools")
def test_tensors_and_cycles_are_golden_s_and_the_report_s(build: artifact.Build, seed: int) -> None:
    model, codes = a_model()
    engine = FLOW.engine(build, seed=seed, progress=lambda step: None)
    twice = {name: np.concatenate([x, ~x]) for name, x in codes.items()}
    run = engine.run(twice, layers=True)
    golden = run_graph(model.graph, twice)
    for name, found in run.tensors.items():
        np.testing.assert_array_equal(found.reshape(golden[name].shape), golden[name])
    assert set(model.graph.outputs) <= set(run.tensors)
    assert run.cycles == (build.report["cycles"],) * 2


@pytest.mark.usefixtures("tools")
def test_the_simulated_board_runs_it_and_knows_another_image(
    build: artifact.Build, tmp_path: Path, seed: int
) -> None:
    opened = open_artifact(build.folder)
    assert opened.program_address == FLASH.offset + 64
    executable = build_simulated_board(build.folder / "top.v", CACHE, board=ARTY_A7_35T)

    def start(flash: Path) -> SimTransport:
        return SimTransport(
            executable,
            flash,
            clock_hz=opened.clock_hz,
            flash_offset=image_address(opened.program_address),
            seed=seed,
        )

    model, codes = a_model()
    transport = start(build.folder / "flash.bin")
    board = Board(SerialLink(transport, name="sim"))
    board.check(opened)
    result = run_inputs(board, opened, codes)
    for name, found in result.outputs.items():
        expected = run_graph(model.graph, codes)[name]
        np.testing.assert_array_equal(found.reshape(expected.shape), expected)
    assert result.cycles == (build.report["cycles"],)
    transport.close()

    image = bytearray((build.folder / "flash.bin").read_bytes())
    image[40] ^= 1
    (tmp_path / "other.bin").write_bytes(image)
    transport = start(tmp_path / "other.bin")
    with pytest.raises(BoardError, match="the board holds another model than"):
        Board(SerialLink(transport, name="sim")).check(opened)
    transport.close()
