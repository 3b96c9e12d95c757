"""What an array of lines takes on a 7-series device: measured parts, added up.

Every constant comes from `python -m sim_tests.hw.xc7 NAME`, for words of 16 channels; the name
stands beside it. Nothing here is placed. Flip-flops are not counted.
"""

from __future__ import annotations

from dataclasses import dataclass

from qcompile.hw.lines.config import LinesConfig

BLOCK_SHAPES = ((72, 512), (36, 1024), (18, 2048), (9, 4096))
"""Width and depth of a block RAM with one read and one write port."""
LINE, LINE_IN_LOGIC, LINE_PAIRS = 1_586, 4_890, 32
"""`line`, `line-logic`: a line and its reader at 24 bits, all pairs in DSPs and none."""
LANE_BASE, LANE = 66, 442
"""`lanes-2` (950) and `lanes-4` (1,834): a line's share and each lane's."""
RESIDUAL = 893
"""`residual`: 8 lines."""
PROGRAM, WEIGHT_READER = 12, 29
"""`program-memory`, `weight-reader`."""
CONTROL = 481 + 47 + 59 + 126 + 94 + 485
"""`control`: feeder, sequencer, unpacker, constants, drain and writer of 8 lines."""
CONTROL_DSPS, CONTROL_BLOCKS = 3, 4
"""`control-feeder`, `control-constants`."""
MUX = {1: 0, 2: 1, 4: 1, 8: 3, 16: 5}
"""LUT6 of one bit of a choice among so many, without MUXF7."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinesResources:
    """LUTs, DSP48E1 and block RAMs of 36 Kbit."""

    luts: int
    dsps: int
    block_rams: float


def memory_blocks(bits: int, depth: int) -> int:
    """Block RAMs of 36 Kbit of a memory of `depth` words: the best of their shapes."""
    return min(-(-bits // width) * -(-depth // words) for width, words in BLOCK_SHAPES)


def activation_luts(config: LinesConfig) -> int:
    """`memory` (5,390) and `memory-2` (738): sets, crossbar, residual and host port, addresses."""
    bits, banks, lines = config.word_bits, config.banks, config.lines
    crossbar = bits * (banks + lines * MUX[banks] + MUX[2 * banks])
    return crossbar + 82 * lines


def weight_luts(config: LinesConfig) -> int:
    """`weights` (1,544) and `weights-2` (258): the shared word, and each line's choice."""
    bits, lines = config.word_bits, config.lines
    if lines <= 2:
        return 129 * lines
    return bits * (lines + MUX[config.banks]) + 17 * lines


def line_luts(config: LinesConfig) -> float:
    """All lines, `dsp_pairs` of their pairs in DSPs; `dual-mac` has what a bit more takes."""
    in_dsp = config.pairs_in_dsp
    in_logic = config.pairs - in_dsp
    pair = (LINE_IN_LOGIC - LINE) / LINE_PAIRS
    width = (config.acc_width - 24) * (in_dsp + 2 * in_logic)
    return LINE * config.lines + pair * in_logic + width


def resources(config: LinesConfig, program_words: int) -> LinesResources:
    """The whole array."""
    if config.columns != 16:
        raise ValueError(f"measured for 16 columns, not {config.columns}")
    lanes = config.lines * config.lanes
    luts = line_luts(config) + config.lines * LANE_BASE + lanes * LANE + CONTROL
    luts += activation_luts(config) + weight_luts(config) + PROGRAM + WEIGHT_READER
    luts += RESIDUAL * config.lines / 8 if config.adder else 0
    blocks = 2 * config.banks * memory_blocks(config.word_bits, config.bank_words)
    blocks += config.lines * memory_blocks(config.word_bits, config.weight_rows)
    blocks += memory_blocks(64, program_words)
    return LinesResources(
        luts=round(luts),
        dsps=config.pairs_in_dsp + 2 * lanes + CONTROL_DSPS,
        block_rams=blocks + lanes + CONTROL_BLOCKS,
    )
