"""What an array of lines takes on a 7-series device: measured parts, added up.

Every constant comes from `python -m sim_tests.hw.xc7 NAME`, for words of 16 channels; the name
stands beside it. With words of 8 channels half of a line is there, and what depends on a word's
bits. Nothing here is placed.
"""

from __future__ import annotations

from dataclasses import dataclass

from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.lines.ram import BLOCK_ROWS, LUT_ROWS, parts

HALF_BLOCK_WIDTHS = {1: 36, 2: 18, 4: 9}
"""Bits that half a block RAM (18 Kbit) holds of so many times `BLOCK_ROWS` rows."""
LINE, LINE_IN_LOGIC, LINE_PAIRS = 1_606, 4_915, 32
"""`line`, `line-logic`: a line and its reader at 24 bits, all pairs in DSPs and none."""
LINE_FFS, LINE_IN_LOGIC_FFS = 3_554, 7_234
LANE_BASE, LANE, LANE_NO_ADDER = 66, 442, 388
"""`lanes-2` (950) and `lanes-4` (1,834), `lanes-4-no-adder` (1,551): a line's share, each lane's;
without adder the share is nothing."""
LANE_BASE_FFS, LANE_FFS, LANE_NO_ADDER_FFS = 167, 400, 359
RESIDUAL, RESIDUAL_FFS = 902, 109
"""`residual`: 8 lines."""
PROGRAM, WEIGHT_READER = 12, 29
"""`program-memory`, `weight-reader`."""
FLASH_PROGRAM, WEIGHT_LOADER, FLASH_FFS = 94, 14, 292
"""`program-flash`, `weight-loader`; flip-flops of both, less the program memory's."""
WHOLE = 262
"""A line's share of what whole arrays take beyond their parts: 3,142 for 8 lines, 1,139 for 3,
less 128 a line for a mux that is gone since."""
CONTROL = 471 + 46 + 74 + 118 + 101 + 403
"""`control`: feeder, sequencer, unpacker, constants, drain and writer of 8 lines."""
CONTROL_FFS = 247 + 1_879 + 134 + 51 + 49 + 1_087 + 24 + 11
"""`control`, with `weight-reader` and `program-memory`."""
CONSTANT_BLOCKS = {1: 1.5, 2: 2.0, 4: 4.0}
"""`control-constants`, by lanes."""
MUX = {1: 0, 2: 1, 4: 1, 8: 3, 16: 5}
"""LUT6 of one bit of a choice among so many, without MUXF7."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinesResources:
    """LUTs, flip-flops, DSP48E1 and block RAMs of 36 Kbit; the latter also by what they hold."""

    luts: int
    ffs: int
    dsps: int
    block_rams: float
    activation_blocks: float
    weight_blocks: float


def memory_blocks(bits: int, depth: int) -> float:
    """Block RAMs of 36 Kbit of a `LinesRam`, as Yosys makes them: 2,048 rows at a time in the
    shape that uses the parity bits, the rest in the widest that holds it."""
    rows = parts(depth)[0]
    if rows <= LUT_ROWS:
        return 0
    fours, rest = divmod(-(-rows // BLOCK_ROWS), 4)
    halves = {n: -(-bits // width) for n, width in HALF_BLOCK_WIDTHS.items()}
    return (fours * halves[4] + _rest_halves(halves, rest)) / 2


def _rest_halves(halves: dict[int, int], rest: int) -> int:
    """Half blocks of 0 to 3 times `BLOCK_ROWS` rows."""
    if rest == 3:
        return min(halves[2] + halves[1], halves[4])
    return halves.get(rest, 0)


def memory_luts(bits: int, depth: int) -> int:
    """LUTs of a `LinesRam`: rows in LUTs (three bits in four, twice that up to 32 rows), and the
    muxes behind its parts."""
    rows, *rest = parts(depth)
    luts = sum(
        -(-bits // (6 if n <= LUT_ROWS // 2 else 3)) * 4 for n in (rows, *rest) if n <= LUT_ROWS
    )
    fours, left = divmod(-(-rows // BLOCK_ROWS), 4)
    pieces = fours + (0, 1, 1, 2)[left] + len(rest)
    if fours and left % 2:  # a piece of BLOCK_ROWS is told apart by more address bits
        pieces += 1
    return luts + bits * max(0, pieces - 1)


def roomy(depth: int) -> int:
    """The most rows of a `LinesRam` that take no more than `depth` do."""
    in_luts = depth <= LUT_ROWS or len(parts(depth)) > 1
    step = LUT_ROWS // 2 if in_luts else BLOCK_ROWS
    return -(-depth // step) * step


def activation_luts(config: LinesConfig) -> int:
    """`memory` (3,650) and `memory-2` (773): crossbar, residual and host port, addresses."""
    bits, banks, lines = config.word_bits, config.banks, config.lines
    crossbar = bits * (banks + lines * MUX[banks // config.line_groups] + MUX[2 * banks])
    return crossbar + 198 + 96 * lines + 2 * banks * memory_luts(bits, config.bank_words)


def weight_luts(config: LinesConfig) -> int:
    """`weights` (1,544) and `weights-2` (258): the shared word, and each line's choice."""
    bits, lines = config.word_bits, config.lines
    memories = lines * memory_luts(bits, config.weight_rows)
    if lines <= 2:
        return (bits + 1) * lines + memories
    return bits * (lines + MUX[config.banks]) + 17 * lines + memories


def line_luts(config: LinesConfig) -> float:
    """All lines, `dsp_pairs` of their pairs in DSPs; `dual-mac` has what a bit more takes."""
    in_dsp = config.pairs_in_dsp
    in_logic = config.pairs - in_dsp
    pair = (LINE_IN_LOGIC - LINE) / LINE_PAIRS
    width = (config.acc_width - 24) * (in_dsp + 2 * in_logic)
    return LINE * _lines_of_16(config) + pair * in_logic + width


def _lines_of_16(config: LinesConfig) -> float:
    """So many lines of 16 columns have as many."""
    return config.lines * config.columns / 16


def _lane_luts(config: LinesConfig) -> int:
    lanes = config.lines * config.lanes
    return lanes * LANE + config.lines * LANE_BASE if config.adder else lanes * LANE_NO_ADDER


def _flip_flops(config: LinesConfig) -> float:
    """`memory` (1,385), `memory-2` (548), `weights` (1,029) and the rest, and rows in LUTs."""
    lanes, in_logic = config.lines * config.lanes, config.pairs - config.pairs_in_dsp
    found = LINE_FFS * _lines_of_16(config) + (LINE_IN_LOGIC_FFS - LINE_FFS) / LINE_PAIRS * in_logic
    found += (config.acc_width - 24) * config.pairs * 2
    found += lanes * (LANE_FFS if config.adder else LANE_NO_ADDER_FFS)
    found += LANE_BASE_FFS * config.lines if config.adder else 0
    found += 269 + 140 * config.lines + 129 * config.lines + CONTROL_FFS
    found += FLASH_FFS if config.streams else 0
    if min(parts(config.bank_words)) <= LUT_ROWS:
        found += 2 * config.banks * config.word_bits
    return found + (RESIDUAL_FFS if config.adder else 0)


def resources(config: LinesConfig, program_words: int) -> LinesResources:
    """The whole array; the depth of the program memory is a power of two. With `streams` the
    program, and its weights, come from a flash."""
    lanes = config.lines * config.lanes
    luts = line_luts(config) + _lane_luts(config) + CONTROL
    luts += activation_luts(config) + weight_luts(config) + WEIGHT_READER
    luts += FLASH_PROGRAM + WEIGHT_LOADER if config.streams else PROGRAM
    luts += WHOLE * _lines_of_16(config)
    luts += RESIDUAL * _lines_of_16(config) / 8 if config.adder else 0
    activations = 2 * config.banks * memory_blocks(config.word_bits, config.bank_words)
    weights = config.lines * memory_blocks(config.word_bits, config.weight_rows)
    blocks = activations + weights
    blocks += 0 if config.streams else memory_blocks(64, 1 << (program_words - 1).bit_length())
    return LinesResources(
        luts=round(luts),
        ffs=round(_flip_flops(config)),
        dsps=config.pairs_in_dsp + 2 * lanes,
        block_rams=blocks + (lanes if config.adder else 0) + CONSTANT_BLOCKS[config.lanes],
        activation_blocks=activations,
        weight_blocks=weights,
    )
