"""What the report says of a model on an array of lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

from qcompile.compiler import ir, report
from qcompile.compiler.backend import outputs_of
from qcompile.compiler.lines.backend import LinesCompiled
from qcompile.compiler.lines.candidate import Candidate
from qcompile.compiler.lines.resources import LinesResources
from qcompile.compiler.lines.synthesis import Synthesis
from qcompile.compiler.lines.throughput import throughput
from qcompile.compiler.lines.vendor import BITSTREAM
from qcompile.compiler.lines.vendor_reports import Placed
from qcompile.compiler.link_bytes import Transfer, inference_bytes
from qcompile.hw.boards import LinesBoard
from qcompile.hw.lines.flash_program import FlashTiming
from qcompile.hw.lines.program_memory import WORD_BITS
from qcompile.runtime import protocol
from qcompile.runtime.classes import counted

ESTIMATED = "the sum of measured parts, an estimate; --synth counts the whole design"
COUNTED = "Yosys, the whole design, not placed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """What place and route came to, and whose."""

    placed: Placed
    tool: str

    @property
    def timing(self) -> dict[str, Any]:
        """The report's `timing`."""
        return {"met": self.placed.met, "slack_ns": self.placed.slack_ns}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sized:
    """The array that was chosen for a model on a board, and those of larger devices by name.

    `compiled` is for the very array; inputs queue in it where that costs nothing.
    """

    best: Candidate
    compiled: LinesCompiled
    larger: Mapping[str, Candidate]
    board: LinesBoard
    clock_hz: int

    @property
    def model(self) -> ir.Model:
        """With its inputs as the host sends them."""
        return self.best.model

    @property
    def flash(self) -> FlashTiming | None:
        """How the flash with program and weights is read; None: the bitstream has them."""
        return self.compiled.flash


def figures(
    sized: Sized, counted: Synthesis | None = None, routed: Routed | None = None
) -> report.Figures:
    """What the report says of a compilation; `counted` is what Yosys made of the whole design,
    `routed` what a tool's place and route did."""
    compiled, board, config = sized.compiled, sized.board, sized.compiled.config
    limits = sized.best.limits()
    cycles = compiled.cycles()
    resources, source = _resources(sized, counted or sized.best.resources), ESTIMATED
    if routed is not None:
        resources, source = dict(routed.placed.resources), routed.tool
    elif counted is not None:
        source = COUNTED
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
                depthwise=layer.kind == "depthwise",
            )
            for layer, predicted in zip(compiled.layers, cycles, strict=True)
        ),
        cycles=_cycles(compiled),
        memory=_memory(compiled),
        resources=resources,
        resources_from=source,
        fmax_mhz=None if routed is None else routed.placed.fmax_mhz,
        timing=None if routed is None else routed.timing,
        clock_mhz=sized.clock_hz / 1e6,
        link_bytes=_link_bytes(compiled),
        link_baud=protocol.BAUD if board.link == "uart" else None,
        bitstream=BITSTREAM if routed is not None and routed.placed.met else None,
        machine=_machine(compiled),
        queued=throughput(compiled, board.link),
        larger={name: _cycles(found.running) for name, found in sized.larger.items()},
        paths=() if counted is None else counted.paths,
    )


def _cycles(compiled: LinesCompiled) -> int:
    return sum(layer.cycles for layer in compiled.cycles())


def _machine(compiled: LinesCompiled) -> dict[str, Any]:
    """What was chosen, in words."""
    config, flash = compiled.config, compiled.flash
    logic = config.pairs - config.pairs_in_dsp
    pairs = f"{config.pairs_in_dsp} in DSPs" + (f", {logic} in logic" if logic else "")
    return {
        "lines": f"{config.lines} of {config.rows} rows, words of {config.columns} channels",
        "pairs": f"{config.pairs} of multipliers: {pairs} ({config.dsp})",
        "lanes": f"{config.lanes} a line, sums of {config.acc_width} bits",
        "activations": f"2 sets of {counted(config.banks, 'bank')} of {config.bank_words:,} words",
        "weight rows": config.weight_rows,
        **({} if flash is None else _from_flash(flash, compiled.resident_rows)),
    }


def _from_flash(flash: FlashTiming, resident_rows: int) -> dict[str, Any]:
    """How fast a flash brings weights, and where some stay."""
    clock, size = flash.clock_hz / 1e6, WORD_BITS // 8
    stay = {"they stay": f"in {resident_rows:,} of the weight rows, loaded once"}
    return {
        "weights from": (
            f"the board's flash, {flash.lines} lines at {clock / flash.divider:.1f} MHz:"
            f" {size * clock / flash.word_cycles:.2f} MB/s, {flash.word_cycles} cycles for"
            f" {size} bytes"
        ),
        **(stay if resident_rows else {}),
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
        "weight_bytes": compiled.weight_bytes,
        "weight_memory_bytes": config.lines * config.weight_rows * config.columns,
        "program_bytes": 8 * len(compiled.program.words),
    }


def _resources(sized: Sized, need: LinesResources | Synthesis) -> dict[str, report.Resource]:
    device = sized.board.device
    blocks = ceil(device.block_ram_budget)  # in halves, as what is used
    return {
        "lut": report.Resource(used=need.luts, total=device.luts, budget=device.lut_budget),
        "ff": report.Resource(used=need.ffs, total=2 * device.luts),
        "dsp": report.Resource(used=need.dsps, total=device.dsps, budget=device.dsp_budget),
        "bram36": report.Resource(
            used=ceil(need.block_rams), total=device.block_rams, budget=blocks
        ),
    }


def _link_bytes(compiled: LinesCompiled) -> int:
    """On the serial line: of words with few channels only the beats that hold some are sent."""
    beats = compiled.config.word_bits // protocol.BEAT_BITS

    def transfer(name: str, *, to_board: bool) -> Transfer:
        place = compiled.places[name]
        sent = min(beats, -(-place.shape[0] // 4)) if to_board else beats
        return Transfer(words=place.words, beats=sent, to_board=to_board)

    sent = [transfer(x, to_board=True) for x in compiled.sent]
    read = [transfer(x, to_board=False) for x in outputs_of(compiled.graph)]
    return inference_bytes([*sent, *read])
