"""`qcompile MODEL.onnx --target ice40`: from the file to a build directory and a report."""

from __future__ import annotations

import argparse
import struct
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from qcompile.compiler import artifact, backend, hardware, report
from qcompile.compiler.console import Progress
from qcompile.compiler.errors import InputError, UsageError
from qcompile.compiler.frontend.loader import load_model_file
from qcompile.compiler.golden_vectors import golden_vectors
from qcompile.compiler.ir import Value
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.shift_cost import shift_cost
from qcompile.compiler.targets import choose_board
from qcompile.hw.boards import Board
from qcompile.hw.layouts import IMAGE_HEADER_BYTES, IMAGE_OFFSET
from qcompile.runtime import protocol
from qcompile.runtime.serial_link import BEATS_A_FRAME

MODEL = "model.onnx"
"""Name of the copy; external data keeps its own names."""


def run(arguments: argparse.Namespace) -> int:
    """Compile, write the build directory, print the report."""
    board = choose_board(family=arguments.target, device=arguments.device, board=arguments.board)
    if not (arguments.no_bitstream or board.device.place_and_route):
        raise UsageError(
            f"{board.name}: no tool here places and routes an {board.device.part}",
            help="add --no-bitstream for Verilog, program and report",
        )
    with Progress() as progress:
        progress.step("read the model")
        requant: backend.Mode = arguments.requant or "exact"
        model = load_model(
            arguments.model,
            shapes=dict(arguments.shape),
            requant=requant,
            dump_after=arguments.dump_after,
        )
        folder = arguments.output or Path("build") / model.name
        artifact.check_destination(folder, model.sha256, force=arguments.force)
        copies = _model_files(arguments.model)
        if requant == "shift":
            exact = load_model(arguments.model, shapes=dict(arguments.shape))
            progress.note(shift_cost(exact.graph, model.graph).text())
        progress.step("plan layers and program")
        compiled = backend.compile_model(model, board=board, requant=requant)
        backend.check_flash(compiled, board)
        core = hardware.accelerator_verilog(compiled.config, progress.step)
        files = {"accelerator.v": core}
        files |= hardware.board_verilog(compiled.config, board, progress.step)
        placed = None
        if not arguments.no_bitstream:
            placed = hardware.bitstream(compiled.config, board, progress.step)
            files |= placed.files
        progress.step("write the build directory")
        record = report.to_record(figures(compiled, board, placed))
        files |= copies
        files |= {
            "flash.bin": backend.flash_image(compiled),
            "golden.npz": golden_vectors(compiled),
            "report.json": artifact.to_json(record).encode(),
            "report.txt": report.to_text(record).encode(),
        }
        artifact.write_build(folder, files, _manifest(compiled, board))
    print(artifact.to_json(record) if arguments.json else report.to_text(record), end="")
    if not arguments.json:
        print(f"\nwritten to {folder}")
    return 0


def _model_files(path: Path) -> dict[str, bytes]:
    """The model and its external data, by their paths relative to the model."""
    external = load_model_file(path).external
    root = path.resolve().parent  # of the file itself, not of a link to it
    files = {MODEL: path.read_bytes()}
    for file in external:
        name = file.resolve().relative_to(root).as_posix()
        if name.partition("/")[0] in artifact.OWN_FILES:
            raise InputError(
                f"{path.name}: its external data lies in '{name}', which is a name of the build's",
                help="save the model again with another location for its data",
            )
        files[name] = file.read_bytes()
    return files


def figures(
    compiled: backend.Compiled, board: Board, placed: hardware.Bitstream | None
) -> report.Figures:
    """What the report says of a compilation; `placed` is None without place and route."""
    return report.Figures(
        model=compiled.model.name,
        sha256=compiled.model.sha256,
        weights=sum(
            int(layer.weight[0].size) for layer in compiled.layers if layer.macs and layer.band == 0
        ),
        family=board.device.family,
        device=board.device.part,
        board=board.name,
        rows=compiled.config.rows,
        columns=compiled.config.columns,
        requant=compiled.config.requant,
        layers=tuple(
            report.LayerFigures(
                name=layer.name, op=layer.operator, macs=layer.macs, cycles=predicted.cycles
            )
            for layer, predicted in zip(compiled.layers, compiled.cycles, strict=True)
        ),
        cycles=compiled.total_cycles,
        memory=backend.memory_usage(compiled),
        resources=None if placed is None else placed.resources,
        fmax_mhz=None if placed is None else round(placed.fmax_mhz, 3),
        clock_mhz=board.device.clock_hz / 1e6,
        link_bytes=link_bytes(compiled),
        link_baud=protocol.BAUD,
        bitstream=None if placed is None else next(iter(placed.files)),
    )


def _manifest(compiled: backend.Compiled, board: Board) -> dict[str, Any]:
    """Everything that a host must know; see docs/architecture.md section 8."""
    model = compiled.model
    return {
        "qcompile": version("qcompile"),
        "model": {"name": model.name, "file": MODEL, "sha256": model.sha256},
        "target": {
            "family": board.device.family,
            "device": board.device.part,
            "board": board.name,
            "loader": board.loader_board,
            "cable": board.loader_cable,
        },
        "requant": compiled.config.requant,
        "configuration": {**asdict(compiled.config), "id": compiled.config.id},
        "inputs": [_value(value) for value in model.inputs],
        "outputs": [_value(value) for value in model.outputs],
        "prologue": list(model.prologue),
        "epilogue": list(model.epilogue),
        "accelerator": backend.accelerator_map(compiled),
        "program": {
            "offset": IMAGE_OFFSET + IMAGE_HEADER_BYTES,
            "bytes": 2 * len(compiled.program.words),
        },
        "clock_hz": board.device.clock_hz,
    }


def _value(value: Value) -> dict[str, Any]:
    """A model input or output as the manifest lists it."""
    quantization = None if value.quantization is None else asdict(value.quantization)
    return {
        "name": value.name,
        "shape": list(value.shape),
        "dtype": value.dtype,
        "quantization": quantization,
    }


def link_bytes(compiled: backend.Compiled) -> int:
    """Bytes of all frames of one inference, requests and replies."""
    frame = protocol.HEADER_BYTES + protocol.CRC_BYTES
    graph = compiled.model.graph
    total = 4 * frame + len(protocol.start_payload(0)) + struct.calcsize(protocol.STATUS_FORMAT)
    for name in (*graph.inputs, *backend.outputs_of(graph)):
        words = compiled.places[name].words
        frames = -(-words // BEATS_A_FRAME)
        address_and_count = 2 if name in graph.inputs else 4
        total += 4 * words + frames * (2 * frame + address_and_count)
    return total
