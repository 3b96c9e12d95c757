"""The array of lines' answers to the commands: it is sized for every model."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from math import ceil
from typing import Any

import numpy as np

from qcompile.compiler import ir, report
from qcompile.compiler.artifact import Build
from qcompile.compiler.backend import for_accelerator, image_header, outputs_of
from qcompile.compiler.errors import CapacityError, UnsupportedError, UsageError
from qcompile.compiler.flow import Built, Checked, Options, Progress
from qcompile.compiler.golden_vectors import golden_vectors
from qcompile.compiler.layer_table import Costs, Row, layer_rows
from qcompile.compiler.lines import hardware
from qcompile.compiler.lines.backend import LinesCompiled
from qcompile.compiler.lines.machine import LinesMachine
from qcompile.compiler.lines.places import host_place
from qcompile.compiler.lines.project import board_files, require_clock
from qcompile.compiler.lines.selftest import SelfTest, with_self_test
from qcompile.compiler.lines.sizing import ROOM, Candidate, Sizes
from qcompile.compiler.link_bytes import Transfer, inference_bytes
from qcompile.compiler.passes.lower import lower
from qcompile.compiler.simulate import Engine
from qcompile.hw.boards import LinesBoard
from qcompile.hw.lines.config import MAX_LINES, LinesConfig
from qcompile.hw.lines.contents import LinesContents
from qcompile.runtime import protocol
from qcompile.runtime.layouts import IMAGE_FIELD_BYTES

LINE_ROWS = LinesConfig().rows
NO_BITSTREAM = (
    "no bitstream yet: `vivado -mode batch -source {folder}/build.tcl` makes top.bit, or openXC7:"
    " `sh {folder}/openxc7.sh`"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sized:
    """A model on the array that was chosen for it."""

    model: ir.Model
    compiled: LinesCompiled
    candidate: Candidate
    larger: Mapping[str, int]


@dataclass(slots=True)
class LinesFlow:
    """See `flow.Flow`."""

    board: LinesBoard
    _sizes: dict[tuple[str, int | None, int | None], Sizes] = field(default_factory=dict)

    def require(self, options: Options) -> None:
        """See `Flow`."""
        most = LINE_ROWS * MAX_LINES
        if options.rows is not None and (options.rows % LINE_ROWS or options.rows > most):
            raise UsageError(
                f"--rows {options.rows}: an array has lines of {LINE_ROWS} rows, {most} at most",
                help=f"choose a multiple of {LINE_ROWS} up to {most}, or leave it to the compiler",
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
        body = np.array(program.words, "<u8").tobytes() + program.weights.tobytes()
        header = image_header(body, compiled.config.id, sized.model.sha256)
        words = [*np.frombuffer(header, "<u8").tolist(), *program.words]
        contents = LinesContents(program=words, weights=program.weights)
        core = hardware.accelerator_verilog(compiled.config, contents.program_words, progress)
        clock_hz = options.clock_hz or self.board.clock_hz
        files = board_files(compiled.config, self.board, contents, clock_hz, progress)
        return Built(
            model=sized.model,
            files={
                **files,
                "accelerator.v": core,
                "flash.bin": contents.image,
                "golden.npz": golden_vectors(compiled.graph, compiled.layers, compiled.places),
                "selftest.npz": test.vectors(),
                "stored.npz": _npz(compiled.stored),
            },
            figures=self._figures(sized, clock_hz),
            manifest=self._manifest(sized, test, contents, clock_hz),
            notes=(NO_BITSTREAM,),
        )

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
        clock_hz = options.clock_hz or self.board.clock_hz
        return Checked(rows=rows, figures=self._figures(sized, clock_hz), flash=None)

    def rows(self, model: ir.Model, options: Options) -> list[Row]:
        """See `Flow`; in words of the largest array."""
        config = LinesConfig()
        machine = LinesMachine(_roomy(config))
        prepared = for_accelerator(model, machine)
        try:
            return layer_rows(prepared, lower(prepared.graph, "exact", machine), machine)
        except (CapacityError, UnsupportedError):
            return []

    def form(self, model: ir.Model, build: Build) -> ir.Model:
        """See `Flow`."""
        inputs = [place["value"] for place in build.manifest["accelerator"]["inputs"]]
        config = hardware.config_of(build.manifest["configuration"])
        return _form(model, config, inputs)

    def engine(self, build: Build, *, seed: int, progress: Progress) -> Engine:
        """See `Flow`."""
        from qcompile.compiler.cache import cache_folder
        from qcompile.compiler.lines.engine import LinesEngine

        return LinesEngine(build, cache=cache_folder("simulations"), seed=seed, progress=progress)

    def _size(self, model: ir.Model, options: Options) -> _Sized:
        """The best array on the device; what larger devices would give."""
        self.require(options)
        key = (model.sha256, options.rows, options.columns)
        if key not in self._sizes:
            lines = None if options.rows is None else options.rows // LINE_ROWS
            self._sizes[key] = Sizes(model, lines=lines, columns=options.columns)
        sizes = self._sizes[key]
        candidate = sizes.best(self.board.device)
        larger = sizes.larger(self.board.device)
        return _Sized(
            model=_form(model, candidate.config, candidate.compiled.graph.inputs),
            compiled=replace(candidate.compiled, config=candidate.config),
            candidate=candidate,
            larger={name: _cycles(found) for name, found in larger.items()},
        )

    def _figures(self, sized: _Sized, clock_hz: int) -> report.Figures:
        compiled, board, config = sized.compiled, self.board, sized.compiled.config
        limits = sized.candidate.limits()
        cycles = compiled.cycles()
        return report.Figures(
            model=sized.model.name,
            sha256=sized.model.sha256,
            weights=report.weight_count(compiled.layers),
            family=board.device.family,
            device=board.device.part,
            board=board.name,
            rows=config.lines * config.rows,
            columns=config.columns,
            requant="exact",
            layers=tuple(
                report.LayerFigures(
                    name=layer.name,
                    op=layer.operator,
                    macs=layer.macs,
                    cycles=predicted.cycles,
                    limit=limits[layer.name],
                )
                for layer, predicted in zip(compiled.layers, cycles, strict=True)
            ),
            cycles=sum(layer.cycles for layer in cycles),
            memory=_memory(compiled),
            resources=_resources(sized.candidate, board),
            resources_from="the sum of measured parts",
            fmax_mhz=None,
            clock_mhz=clock_hz / 1e6,
            link_bytes=_link_bytes(compiled),
            link_baud=protocol.BAUD if board.link == "uart" else None,
            bitstream=None,
            machine=_machine(config),
            larger=sized.larger,
        )

    def _manifest(
        self, sized: _Sized, test: SelfTest, contents: LinesContents, clock_hz: int
    ) -> dict[str, Any]:
        """What a host must know of this machine; see docs/architecture.md section 8."""
        board, config = self.board, sized.compiled.config
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
            "selftest": test.manifest(IMAGE_FIELD_BYTES),
            "program": {
                "offset": IMAGE_FIELD_BYTES,
                "bytes": 8 * (len(contents.program) - IMAGE_FIELD_BYTES // 8),
                "memory_words": contents.program_words,
            },
            "clock_hz": clock_hz,
        }


def _cycles(candidate: Candidate) -> int:
    compiled = replace(candidate.compiled, config=candidate.config)
    return sum(layer.cycles for layer in compiled.cycles())


def _roomy(config: LinesConfig) -> LinesConfig:
    """The same array with memories that hold every model that any device holds."""
    return replace(config, bank_words=ROOM // config.banks, weight_rows=1 << 15)


def _form(model: ir.Model, config: LinesConfig, inputs: Any) -> ir.Model:
    """The model in that of its forms that has these inputs on the array."""
    machine = LinesMachine(_roomy(config))
    for thrifty in (False, True):
        found = for_accelerator(model, machine, thrifty=thrifty)
        if [*found.graph.inputs] == [*inputs]:
            return found
    raise ValueError(f"no form of '{model.name}' has the inputs {[*inputs]}")


def _npz(arrays: Mapping[str, Any]) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return file.getvalue()


def _machine(config: LinesConfig) -> dict[str, Any]:
    """What was chosen, in words."""
    logic = config.pairs - config.pairs_in_dsp
    pairs = f"{config.pairs_in_dsp} in DSPs" + (f", {logic} in logic" if logic else "")
    return {
        "lines": f"{config.lines} of {config.rows} rows, words of {config.columns} channels",
        "pairs": f"{config.pairs} of multipliers: {pairs} ({config.dsp})",
        "lanes": f"{config.lanes} a line, sums of {config.acc_width} bits",
        "activations": f"2 sets of {config.banks} banks of {config.bank_words:,} words",
        "weight rows": config.weight_rows,
    }


def _memory(compiled: LinesCompiled) -> dict[str, int]:
    """The report's `memory`, in bytes."""
    config = compiled.config
    ends = [0, 0]
    for place in compiled.places.values():
        ends[place.bank] = max(ends[place.bank], (place.offset + place.words) * config.columns)
    return {
        "set_0_bytes": ends[0],
        "set_1_bytes": ends[1],
        "set_size_bytes": config.set_words * config.columns,
        "weight_bytes": compiled.program.weights.size,
        "weight_memory_bytes": config.lines * config.weight_rows * config.columns,
        "program_bytes": 8 * len(compiled.program.words),
    }


def _resources(candidate: Candidate, board: LinesBoard) -> dict[str, report.Resource]:
    need, device = candidate.resources, board.device
    return {
        "lut": report.Resource(used=need.luts, total=device.luts),
        "ff": report.Resource(used=need.ffs, total=2 * device.luts),
        "dsp": report.Resource(used=need.dsps, total=device.dsps),
        "bram36": report.Resource(used=ceil(need.block_rams), total=device.block_rams),
    }


def _link_bytes(compiled: LinesCompiled) -> int:
    """On the serial line: of words with few channels only the beats that hold some are sent."""
    beats = compiled.config.word_bits // protocol.BEAT_BITS

    def transfer(name: str, *, to_board: bool) -> Transfer:
        place = compiled.places[name]
        sent = min(beats, -(-place.shape[0] // 4)) if to_board else beats
        return Transfer(words=place.words, beats=sent, to_board=to_board)

    sent = [transfer(x, to_board=True) for x in (*compiled.graph.inputs, *compiled.stored)]
    read = [transfer(x, to_board=False) for x in outputs_of(compiled.graph)]
    return inference_bytes([*sent, *read])


def _accelerator_map(compiled: LinesCompiled) -> dict[str, Any]:
    """The manifest's `accelerator`, as `backend.accelerator_map` has it for the small array."""
    graph, places, config = compiled.graph, compiled.places, compiled.config
    outputs = zip(graph.outputs, outputs_of(graph), strict=True)
    pairs = zip(compiled.layers, compiled.plans, strict=True)
    turned = {layer.output for layer, plan in pairs if plan.write_turned}

    def of_layer(name: str) -> dict[str, Any]:
        return host_place(name, places[name], config, turned=name in turned)

    return {
        "inputs": [host_place(name, places[name], config) for name in graph.inputs],
        "outputs": [host_place(name, places[source], config) for name, source in outputs],
        "layers": [
            {
                "op": layer.operator,
                "done": done,
                "name": layer.output,
                **of_layer(layer.output),
            }
            for done, layer in enumerate(compiled.layers, 1)
            if not layer.inner
        ],
        "program_layers": [layer.name for layer in compiled.layers],
        "stored": [host_place(name, places[name], config) for name in compiled.stored],
    }
