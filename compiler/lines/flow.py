"""The array of lines' answers to the commands: it is sized for every model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from qcompile.compiler import ir
from qcompile.compiler.artifact import Build, to_npz
from qcompile.compiler.backend import for_accelerator, image_header, tensor_map
from qcompile.compiler.errors import CapacityError, UnsupportedError, UsageError
from qcompile.compiler.flow import Built, Checked, Options, Progress
from qcompile.compiler.golden_vectors import golden_vectors
from qcompile.compiler.layer_table import Costs, Row, layer_rows
from qcompile.compiler.lines import hardware, vendor
from qcompile.compiler.lines.backend import LinesCompiled, with_queue
from qcompile.compiler.lines.figures import Routed, Sized, figures
from qcompile.compiler.lines.machine import LinesMachine
from qcompile.compiler.lines.places import host_form, host_place
from qcompile.compiler.lines.project import board_files, board_rtlil, require_clock
from qcompile.compiler.lines.selftest import SelfTest, program_words, with_self_test
from qcompile.compiler.lines.sizing import COLUMNS, SizesOf
from qcompile.compiler.lines.synthesis import synthesize
from qcompile.compiler.lines.trials import forms, with_room
from qcompile.compiler.lines.vendor import VendorTool
from qcompile.compiler.passes.lower import lower
from qcompile.compiler.report import Figures
from qcompile.compiler.simulate import Engine
from qcompile.hw.boards import LinesBoard
from qcompile.hw.lines.config import MAX_LINES, LinesConfig
from qcompile.hw.lines.contents import LinesContents
from qcompile.runtime.layouts import IMAGE_FIELD_BYTES

LINE_ROWS = LinesConfig().rows


@dataclass(frozen=True, slots=True)
class LinesFlow:
    """See `flow.Flow`.

    Attributes
    ----------
    board : LinesBoard
    sizes : callable
        Makes the `Sizes` of a model, or hands out those that another board's flow has asked for.
    """

    board: LinesBoard
    sizes: SizesOf

    def require(self, options: Options) -> None:
        """See `Flow`."""
        most = LINE_ROWS * MAX_LINES
        if options.rows is not None and (options.rows % LINE_ROWS or options.rows > most):
            raise UsageError(
                f"--rows {options.rows}: an array has lines of {LINE_ROWS} rows, {most} at most",
                help=f"choose a multiple of {LINE_ROWS} up to {most}, or leave it to the compiler",
            )
        if options.columns not in (None, *COLUMNS):
            raise UsageError(
                f"--columns {options.columns}: an array has 16 or 8 columns",
                help="leave it to the compiler",
            )
        if options.pe == "log":
            raise UsageError(
                "--pe log: an array of xc7 has multipliers",
                help="use --target ice40, or leave it away",
            )
        if options.requant == "shift":
            raise UsageError(
                f"--requant shift: an array on {self.board.name} requantizes exactly only",
                help="leave it away; exact costs no cycles there",
            )
        require_clock(self.board, options.clock_hz or self.board.clock_hz)

    def build(self, model: ir.Model, options: Options, progress: Progress) -> Built:
        """See `Flow`."""
        progress("size the array for the model")
        sized = self._size(model, options)
        compiled = sized.compiled
        program, test = with_self_test(compiled)
        load_at = len(program.words)
        program = replace(program, words=[*program.words, *program.load])
        body = np.array(program.words, "<u8").tobytes() + program.weights.tobytes()
        header = image_header(body, compiled.config.id, sized.model.sha256)
        words = [*np.frombuffer(header, "<u8").tolist(), *program.words]
        contents = LinesContents(program=words, weights=program.weights)
        source = sized.flash or contents.program_words
        core = hardware.accelerator_verilog(compiled.config, source, progress)
        inside = None if sized.flash else contents
        files = board_files(compiled.config, self.board, inside, sized.clock_hz, progress)
        counted = None
        if options.synth:
            design = (compiled.config, self.board, inside, sized.clock_hz)
            counted = synthesize(board_rtlil(*design, progress), progress)
        built = Built(
            model=sized.model,
            files={
                **files,
                "accelerator.v": core,
                "flash.bin": contents.image,
                "golden.npz": golden_vectors(compiled.graph, compiled.layers, compiled.places),
                "selftest.npz": test.vectors(),
                "stored.npz": to_npz(compiled.stored),
            },
            figures=figures(sized, counted),
            manifest=self._manifest(sized, test, contents, load_at),
        )
        tool = vendor.find_tool()
        if not options.bitstream:
            return built
        if tool is None:
            return replace(built, notes=(vendor.nothing_found("{folder}"),))
        return replace(built, place=partial(_place, tool, built, partial(figures, sized, counted)))

    def check(self, model: ir.Model, options: Options) -> Checked:
        """See `Flow`."""
        sized = self._size(model, options)
        compiled = sized.compiled
        costs = Costs(
            cycles=[layer.cycles for layer in compiled.cycles()],
            weight_bytes=[plan.weight_words * compiled.config.columns for plan in compiled.plans],
        )
        machine = LinesMachine(compiled.config)
        rows = layer_rows(sized.model, compiled.layers, machine, costs)
        return Checked(rows=rows, figures=figures(sized), flash=_flash_bytes(sized))

    def rows(self, model: ir.Model, options: Options) -> list[Row]:
        """See `Flow`; in words of the largest array."""
        machine = LinesMachine(with_room(LinesConfig()))
        prepared = for_accelerator(model, machine)
        try:
            return layer_rows(prepared, lower(prepared.graph, "exact", machine), machine)
        except (CapacityError, UnsupportedError):
            return []

    def form(self, model: ir.Model, build: Build) -> ir.Model:
        """See `Flow`."""
        inputs = [place["value"] for place in build.manifest["accelerator"]["inputs"]]
        config = hardware.config_of(build.manifest["configuration"])
        return next(found for found in forms(model, config) if [*found.graph.inputs] == inputs)

    def engine(self, build: Build, *, seed: int, progress: Progress) -> Engine:
        """See `Flow`."""
        from qcompile.compiler.cache import cache_folder
        from qcompile.compiler.lines.engine import LinesEngine

        return LinesEngine(build, cache=cache_folder("simulations"), seed=seed, progress=progress)

    def _size(self, model: ir.Model, options: Options) -> Sized:
        """The best array on the device; what larger devices would give."""
        lines = None if options.rows is None else options.rows // LINE_ROWS
        sizes = self.sizes(model, lines, options.columns, options.dsp or "inferred")
        clock_hz, flash = options.clock_hz or self.board.clock_hz, self.board.flash
        best = sizes.best(self.board.device, None if flash is None else flash.timing(clock_hz))
        sized = Sized(
            best=best,
            compiled=with_queue(best.running) or best.running,
            larger=sizes.larger(self.board.device),
            board=self.board,
            clock_hz=clock_hz,
        )
        found = _flash_bytes(sized)
        if found is not None and found["image_bytes"] > found["available_bytes"]:
            raise CapacityError(
                f"{self.board.name}: program and weights do not fit its flash",
                context=[f"{found['image_bytes']:,} of {found['available_bytes']:,} bytes"],
                help="use a smaller model",
            )
        return sized

    def _manifest(
        self, sized: Sized, test: SelfTest, contents: LinesContents, load_at: int
    ) -> dict[str, Any]:
        """What a host must know of this machine; see docs/architecture.md section 8.

        `load_at`: the word of the program that brings weights that stay, from the model's first.
        """
        board, config = self.board, sized.compiled.config
        address = IMAGE_FIELD_BYTES + (board.flash.offset if sized.flash and board.flash else 0)
        memory = {} if sized.flash else {"memory_words": contents.program_words}
        load = {"load": address + 8 * load_at} if sized.compiled.program.load else {}
        return {
            "target": {
                "family": board.device.family,
                "device": board.device.part,
                "board": board.name,
                "part": board.part,
                "loader": board.loader_board,
                "cable": None,
            },
            "requant": "exact",
            "configuration": {**asdict(config), "id": config.id, "kind": "lines"},
            "accelerator": _accelerator_map(sized.compiled),
            "selftest": test.manifest(address),
            "program": {
                "offset": address,
                "bytes": 8 * len(contents.program) - IMAGE_FIELD_BYTES,
                **memory,
                **load,
            },
            "clock_hz": sized.clock_hz,
        }


def _flash_bytes(sized: Sized) -> dict[str, int] | None:
    """What weights and image take of the board's flash; None where they are in the bitstream."""
    flash, compiled = sized.board.flash, sized.compiled
    if flash is None or compiled.flash is None:
        return None
    config = compiled.config
    program = compiled.program
    words = len(program.words) + program_words(config) + len(program.load)
    return {
        "weight_bytes": compiled.weight_bytes,
        "image_bytes": IMAGE_FIELD_BYTES + 8 * words,
        "available_bytes": flash.part.size_bytes - flash.offset,
    }


def _place(
    tool: VendorTool,
    built: Built,
    figures_of: Callable[[Routed], Figures],
    folder: Path,
    progress: Progress,
) -> Built:
    """The build with what the tool made of it; a bitstream that misses its clock is left out."""
    clock = built.figures.clock_mhz
    placed, bitstream = vendor.place_and_route(tool, built.files, folder, clock, progress)
    changed = replace(built, figures=figures_of(Routed(placed=placed, tool=tool.counts)))
    if placed.met:
        return replace(changed, files={**built.files, vendor.BITSTREAM: bitstream})
    note = (
        f"no bitstream: {tool.counts} reaches {placed.fmax_mhz:.2f} MHz of {clock:g} MHz, or a hold"
        f" time fails; ask for less with --clock, or see {{folder}}/{tool.name}"
    )
    return replace(changed, notes=(note,))


def _accelerator_map(compiled: LinesCompiled) -> dict[str, Any]:
    """The manifest's `accelerator`; `stored` are constants that the host writes with each input,
    where inputs queue before the first."""
    places, config = compiled.places, compiled.config
    pairs = zip(compiled.layers, compiled.plans, strict=True)
    turned = {layer.output for layer, plan in pairs if plan.write_turned}

    def place(name: str) -> dict[str, Any]:
        return host_form(places[name], config, turned=name in turned)

    return {
        **tensor_map(compiled.graph, compiled.layers, place),
        "stored": [host_place(name, places[name], config) for name in compiled.stored],
        "queue": None if compiled.queue is None else asdict(compiled.queue),
    }
