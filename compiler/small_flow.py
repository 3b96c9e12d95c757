"""The small array's answers to the commands: bitstream, program in flash, report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from qcompile.compiler import backend, hardware, ir, report, search
from qcompile.compiler.artifact import Build
from qcompile.compiler.errors import CapacityError, UnsupportedError, UsageError
from qcompile.compiler.flow import Built, Checked, Options, Progress
from qcompile.compiler.golden_vectors import golden_vectors
from qcompile.compiler.layer_table import Costs, Row, layer_rows
from qcompile.compiler.link_bytes import Transfer, inference_bytes
from qcompile.compiler.memory_sizes import check_cells
from qcompile.compiler.passes.log_layers import log_form
from qcompile.compiler.passes.lower import lower
from qcompile.compiler.passes.lowering.cost import SMALL_MACHINE, small_machine
from qcompile.compiler.plan import VALUES_PER_ROW
from qcompile.compiler.simulate import Engine
from qcompile.hw.boards import BOARDS, Board
from qcompile.hw.devices import Device
from qcompile.hw.flash_reader import word_cycles
from qcompile.hw.layouts import IMAGE_HEADER_BYTES, IMAGE_OFFSET
from qcompile.hw.program import INDEX_BITS
from qcompile.runtime import protocol


@dataclass(frozen=True, slots=True)
class SmallFlow:
    """See `flow.Flow`; one size of array, so nothing can be asked of it."""

    board: Board

    def require(self, options: Options) -> None:
        """See `Flow`."""
        if options.bitstream and not self.board.device.place_and_route:
            raise UsageError(
                f"{self.board.name}: no tool here places and routes an {self.board.device.part}",
                help="add --no-bitstream for Verilog, program and report",
            )
        asked: dict[str, object] = {
            **{"rows": options.rows, "columns": options.columns, "clock": options.clock_hz},
            **{"dsp": options.dsp, "synth": options.synth or None},
        }
        for name, value in asked.items():
            if value is not None:
                config, clock = self.board.device.config, self.board.device.clock_hz / 1e6
                raise UsageError(
                    f"--{name}: the {self.board.device.name} has one array, {config.rows} x"
                    f" {config.columns} at {clock:g} MHz",
                    help=f"leave --{name} away; an xc7 device takes other sizes",
                )

    def build(self, model: ir.Model, options: Options, progress: Progress) -> Built:
        """See `Flow`."""
        board = self.board
        _require_elements(model, options)
        progress("plan layers and program")
        compiled = backend.compile_model(model, board=board, requant=options.requant)
        backend.check_flash(compiled, board)
        if options.bitstream:
            check_cells(compiled.config, board.device)
        core = hardware.accelerator_verilog(compiled.config, progress)
        files = {"accelerator.v": core}
        files |= hardware.board_verilog(compiled.config, board, progress)
        placed = None
        if options.bitstream:
            placed = hardware.bitstream(compiled.config, board, progress)
            files |= placed.files
        files |= {
            "flash.bin": backend.flash_image(compiled),
            "golden.npz": golden_vectors(compiled.model.graph, compiled.layers, compiled.places),
        }
        return Built(
            model=compiled.model,
            files=files,
            figures=figures(compiled, board, placed, self._larger(model, options)),
            manifest=_manifest(compiled, board),
        )

    def check(self, model: ir.Model, options: Options) -> Checked:
        """See `Flow`."""
        _require_elements(model, options)
        compiled = backend.compile_model(model, board=self.board, requant=options.requant)
        backend.check_flash(compiled, self.board)
        check_cells(compiled.config, self.board.device)
        machine = small_machine(compiled.config)
        rows = layer_rows(compiled.model, compiled.layers, machine, _costs(compiled))
        flash = {
            "weight_bytes": sum(row["weight_bytes"] or 0 for row in rows),
            "image_bytes": len(backend.flash_image(compiled)),
            "available_bytes": self.board.flash_part.size_bytes - IMAGE_OFFSET,
        }
        larger = self._larger(model, options)
        return Checked(rows=rows, figures=figures(compiled, self.board, None, larger), flash=flash)

    def rows(self, model: ir.Model, options: Options) -> list[Row]:
        """See `Flow`."""
        prepared = backend.for_accelerator(model)
        try:
            layers = lower(prepared.graph, options.requant)
        except (CapacityError, UnsupportedError):
            return []
        return layer_rows(prepared, layers, SMALL_MACHINE)

    def form(self, model: ir.Model, build: Build) -> ir.Model:
        """See `Flow`."""
        return backend.for_accelerator(model)

    def engine(self, build: Build, *, seed: int, progress: Progress) -> Engine:
        """See `Flow`."""
        from qcompile.compiler.cache import cache_folder
        from qcompile.compiler.verilator_engine import VerilatorEngine

        return VerilatorEngine(
            build, cache=cache_folder("simulations"), seed=seed, progress=progress
        )

    def _larger(self, model: ir.Model, options: Options) -> dict[str, int]:
        """Predicted cycles on each device of the family with more memory, by its name."""
        device = self.board.device
        boards = {board.device.name: board for board in reversed(BOARDS.values())}  # the first
        beyond = [
            board.device
            for board in boards.values()
            if board.device.family == device.family
            and board.device.activation_bytes > device.activation_bytes
        ]

        def fitting(device: Device) -> backend.Compiled | None:
            try:
                compiled = backend.compile_model(
                    model, board=boards[device.name], requant=options.requant
                )
                check_cells(compiled.config, device)
            except (CapacityError, UnsupportedError):
                return None
            return compiled

        found = search.larger(beyond, fitting)
        return {name: compiled.total_cycles for name, compiled in found.items()}


def _require_elements(model: ir.Model, options: Options) -> None:
    """What `--pe` asks for must be what the model's activations need."""
    needed = "int8" if log_form(model.graph) is None else "log"
    if options.pe == "log" and needed == "int8":
        raise UsageError(
            f"--pe log: {model.name}'s activations are linear",
            help="`qcompile quantize FLOAT.onnx --activations log:8 --log-step 16` makes others",
        )
    if options.pe == "int8" and needed == "log":
        raise UsageError(
            f"--pe int8: {model.name}'s activations are logarithmic",
            help="leave --pe away, or quantize without --activations log",
        )


def _limits(compiled: backend.Compiled, flash_lines: int) -> list[str]:
    """What each layer waits for: "compute", "activation bandwidth", "weight bandwidth" or "drain".

    Weights that came early, in the time of other layers, are no limit.
    """
    limits = []
    for layer, plan, predicted in zip(
        compiled.layers, compiled.plans, compiled.cycles, strict=True
    ):
        reads = plan.groups * plan.tiles * plan.tile_reads
        bounds = {
            # A read feeds all rows of a dense layer, and one row of any other.
            "compute" if layer.kind == "dense" else "activation bandwidth": reads,
            "drain": plan.groups * plan.rows_written * VALUES_PER_ROW,
        }
        arrival = plan.stream_parts * word_cycles(flash_lines)
        if layer.weight_source is None and arrival <= predicted.cycles:
            bounds["weight bandwidth"] = arrival
        limits.append(search.limit(bounds))
    return limits


def _machine(compiled: backend.Compiled) -> dict[str, object]:
    """What was chosen for the model, in words."""
    config = compiled.config
    chosen: dict[str, object] = {
        "sums": f"{config.acc_width} bits",
        "activations": f"2 banks of {config.bank_words:,} words of {config.columns} channels",
        "weight FIFO": f"{config.weight_depth:,} words",
    }
    if config.pe == "log":
        codes = f"codes of {config.levels} levels, {config.step}/16 of an octave apart"
        chosen["elements"] = f"shifts of the weight by {codes}, {config.code_bits} bits in memory"
    if config.codebook:
        packed = sum(plan.codebook is not None for plan in compiled.plans)
        chosen["weights"] = f"4-bit indices in {packed} of {len(compiled.plans)} layers"
    return chosen


def _costs(compiled: backend.Compiled) -> Costs:
    """Cycles and weights in flash, layer by layer; recalled and shared weights count once."""
    recalled = [layer.weight_source is not None for layer in compiled.layers]
    return Costs(
        cycles=[layer.cycles for layer in compiled.cycles],
        weight_bytes=[
            0 if again else 2 * plan.stream_parts
            for plan, again in zip(compiled.plans, recalled, strict=True)
        ],
    )


def figures(
    compiled: backend.Compiled,
    board: Board,
    placed: hardware.Bitstream | None,
    larger: Mapping[str, int],
) -> report.Figures:
    """What the report says of a compilation; `placed` is None without place and route, `larger`
    has the cycles on larger devices."""
    limits = _limits(compiled, board.flash_lines)
    return report.Figures(
        model=compiled.model.name,
        sha256=compiled.model.sha256,
        weights=report.weight_count(compiled.layers),
        family=board.device.family,
        device=board.device.part,
        board=board.name,
        rows=compiled.config.rows,
        columns=compiled.config.columns,
        requant=compiled.config.requant,
        layers=tuple(
            report.LayerFigures(
                name=layer.name,
                op=layer.operator,
                macs=layer.macs,
                cycles=predicted.cycles,
                limit=limit,
                depthwise=layer.kind == "depthwise",
                weight_bits=8 if plan.codebook is None else INDEX_BITS,
            )
            for layer, plan, predicted, limit in zip(
                compiled.layers, compiled.plans, compiled.cycles, limits, strict=True
            )
        ),
        cycles=compiled.total_cycles,
        memory=backend.memory_usage(compiled),
        resources=None if placed is None else placed.resources,
        fmax_mhz=None if placed is None else round(placed.fmax_mhz, 3),
        clock_mhz=board.device.clock_hz / 1e6,
        link_bytes=link_bytes(compiled),
        link_baud=protocol.BAUD,
        bitstream=None if placed is None else next(iter(placed.files)),
        machine=_machine(compiled),
        larger=larger,
    )


def _manifest(compiled: backend.Compiled, board: Board) -> dict[str, object]:
    """What a host must know of this machine; see docs/architecture.md section 8."""
    return {
        "target": {
            "family": board.device.family,
            "device": board.device.part,
            "board": board.name,
            "loader": board.loader_board,
            "cable": board.loader_cable,
        },
        "requant": compiled.config.requant,
        "configuration": {**asdict(compiled.config), "id": compiled.config.id},
        "accelerator": backend.accelerator_map(compiled),
        "program": {
            "offset": IMAGE_OFFSET + IMAGE_HEADER_BYTES,
            "bytes": 2 * len(compiled.program.words),
        },
        "clock_hz": board.device.clock_hz,
    }


def link_bytes(compiled: backend.Compiled) -> int:
    """Bytes of all frames of one inference, requests and replies."""
    graph, places = compiled.model.graph, compiled.places
    sent = [Transfer(words=places[x].words, beats=1, to_board=True) for x in graph.inputs]
    outputs = backend.outputs_of(graph)
    read = [Transfer(words=places[x].words, beats=1, to_board=False) for x in outputs]
    return inference_bytes([*sent, *read])
