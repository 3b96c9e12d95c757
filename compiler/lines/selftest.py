"""The multiply self-test: one convolution in which every multiplier meets corner operands.

Every output code is a sum of 32 products, made by one multiplier. In the first V channels a weight
w and its complement -w - 1 meet the same code a, so that the sum of all is minus the codes' sum,
which is small: every bit of every product decides it. In the other V the sums go to both ends of
20 bits, so that what the lower sum of a pair spills into the upper one counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompile.compiler import ir
from qcompile.compiler.artifact import to_npz
from qcompile.compiler.golden.interpreter import run_graph
from qcompile.compiler.golden.numerics import scale_to_mantissa
from qcompile.compiler.lines.backend import LinesCompiled, compile_graph
from qcompile.compiler.lines.emit import LinesProgram
from qcompile.compiler.lines.nests import pitch, words
from qcompile.compiler.lines.places import host_place
from qcompile.compiler.lines.plan import LinePlan
from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.lines.program import LAYER_WORDS

INPUT, OUTPUT = "selftest:input", "selftest:output"
CORNERS = (-128, 127, -1, 0, 1)
HALF = 16
"""Channels whose weights are complements of the other half's."""
CHANNELS = 2 * HALF
WIDTH = 40
"""Pixels of each line: ten for a row, but where the plan lets some fall into gaps."""
EXTREMES = (-128, 127)
"""Codes of all channels of a row's pixels behind the corners."""
SHIFT = 13
"""Brings sums of 20 bits into a code."""
SEED = 1985


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTest:
    """A self-test in the memories of an array, behind a model.

    Attributes
    ----------
    compiled : LinesCompiled
    first_word : int
        Of its program, counted from the model's first.
    codes, expected : int8 [1, channels, height, width]
        Of its input and its output.
    units : int16 [3, channels, height, width]
        Line, row and column of the multiplier that makes each output code.
    """

    compiled: LinesCompiled
    first_word: int
    codes: ir.Int8Array
    expected: ir.Int8Array
    units: npt.NDArray[np.int16]

    def manifest(self, program_address: int) -> dict[str, Any]:
        """The build manifest's `selftest`; `program_address` is the model's program's."""
        places, config = self.compiled.places, self.compiled.config
        return {
            "program": program_address + 8 * self.first_word,
            "inputs": [host_place(INPUT, places[INPUT], config)],
            "outputs": [host_place(OUTPUT, places[OUTPUT], config)],
        }

    def vectors(self) -> bytes:
        """selftest.npz, which `runtime.multiply_test` reads."""
        arrays: dict[str, npt.NDArray[Any]] = {
            f"input/{INPUT}": self.codes,
            f"output/{OUTPUT}": self.expected,
            f"units/{OUTPUT}": self.units,
        }
        return to_npz(arrays)


def with_self_test(compiled: LinesCompiled) -> tuple[LinesProgram, SelfTest]:
    """The model's program and weights with the self-test's behind them, and the self-test.

    Raises CapacityError where the activation memory does not hold its tensors (`set_words` says
    how many words that takes).
    """
    config, model = compiled.config, compiled.program
    padding = -len(model.weights) % config.lines
    test = self_test(
        config,
        first_word=len(model.words),
        first_weight=len(model.weights) + padding,
    )
    own = test.compiled.program
    gap = np.zeros((padding, config.columns), np.int8)
    whole = LinesProgram(
        words=[*model.words, *own.words],
        weights=np.concatenate([model.weights, gap, own.weights]),
        load=model.load,
    )
    return whole, test


def self_test(config: LinesConfig, *, first_word: int = 0, first_weight: int = 0) -> SelfTest:
    """The self-test of an array; its weights begin with word `first_weight`, which begins a row."""
    graph = self_test_graph(config)
    compiled = compile_graph(graph, config, first_weight=first_weight)
    units = _units(compiled.plans[0], compiled)
    codes = _codes(config, units)
    return SelfTest(
        compiled=compiled,
        first_word=first_word,
        codes=codes,
        expected=run_graph(graph, {INPUT: codes})[OUTPUT],
        units=units,
    )


def weight_rows(config: LinesConfig) -> int:
    """Rows of the weight memory that the self-test takes."""
    return -(-2 * CHANNELS // config.lines)


def program_words(config: LinesConfig) -> int:
    """Words of its program: its weights where they come along, a layer, two packets of constants,
    the end."""
    weights = 1 + 2 * CHANNELS * config.columns // 8 if config.streams else 0
    return weights + 1 + LAYER_WORDS + 2 * (1 + config.columns) + 2


def set_words(config: LinesConfig) -> int:
    """Words of each set of the activation memory that it needs: its input, and its output."""
    shapes = (CHANNELS, config.lines, WIDTH), (2 * config.columns, config.lines, WIDTH)
    return max(words(shape, config.columns) for shape in shapes)


def self_test_graph(config: LinesConfig) -> ir.Graph:
    """One 1 x 1 convolution of 32 channels to 2 V, each line a row of the picture."""
    columns = config.columns
    shapes = {
        INPUT: (1, CHANNELS, config.lines, WIDTH),
        OUTPUT: (1, 2 * columns, config.lines, WIDTH),
    }
    scale = np.repeat(np.array([1, 2.0**-SHIFT], np.float32), columns)
    mantissa, shift = scale_to_mantissa(scale)
    weight = np.concatenate([_complements(columns), _extremes(columns)])
    conv = ir.Conv(
        inputs=(INPUT,),
        outputs=(OUTPUT,),
        weight=weight.reshape(2 * columns, CHANNELS, 1, 1),
        bias=np.zeros(2 * columns, np.int64),
        input_zero_point=0,
        strides=(1, 1),
        dilations=(1, 1),
        pads=(0, 0, 0, 0),
        group=1,
        requant=ir.Requant(mode="exact", mantissa=mantissa, shift=shift, zero_point=0),
    )
    return ir.Graph(
        name="selftest",
        inputs=(INPUT,),
        outputs=(OUTPUT,),
        values={name: ir.Value(name=name, shape=s, dtype="int8") for name, s in shapes.items()},
        ops=(conv,),
    )


def _complements(columns: int) -> ir.Int16Array:
    """[V, 32]: the corners, turned by one from column to column, then random weights."""
    rng = np.random.default_rng(SEED)
    weight = rng.integers(-128, 128, (columns, HALF)).astype(np.int16)
    for column in range(columns):
        weight[column, : len(CORNERS)] = np.roll(CORNERS, column)
    return np.concatenate([weight, ~weight], axis=1)


def _extremes(columns: int) -> ir.Int16Array:
    """[V, 32]: by turns all -128 but one, all 127, the one then the other.

    Sums of products stay within 20 bits, the fewest that an accumulator has.
    """
    low, high = np.full(HALF, -128, np.int16), np.full(HALF, 127, np.int16)
    less = np.concatenate([low[1:], [np.int16(-127)]])
    kinds = [(low, less), (high, high), (low, high), (high, low)]
    return np.stack([np.concatenate(kinds[column % 4]) for column in range(columns)])


def _codes(config: LinesConfig, units: npt.NDArray[np.int16]) -> ir.Int8Array:
    """The input: a row's pixels, in order, bring all corners to all corners, then extremes."""
    rng = np.random.default_rng(SEED)
    codes = np.zeros((1, CHANNELS, config.lines, WIDTH), np.int8)
    seen: dict[tuple[int, int], int] = {}
    for y, x in product(range(config.lines), range(WIDTH)):
        line, row = int(units[0, 0, y, x]), int(units[1, 0, y, x])
        number = seen.get((line, row), 0)
        seen[line, row] = number + 1
        behind = number - len(CORNERS)
        if 0 <= behind < len(EXTREMES):
            codes[0, :, y, x] = EXTREMES[behind]
        else:
            codes[0, :, y, x] = np.tile(_pixel(rng, number + line + row), 2)
    return codes


def _pixel(rng: np.random.Generator, turn: int) -> ir.Int8Array:
    """[16]: the corners in a turn of their own, then codes whose sum is small."""
    some = rng.integers(-128, 128, (HALF - len(CORNERS)) // 2).astype(np.int8)
    last = rng.integers(-100, 101, HALF - len(CORNERS) - 2 * len(some)).astype(np.int8)
    corners = np.roll(np.array(CORNERS, np.int8), turn)
    return np.concatenate([corners, some, ~some, last])


def _units(plan: LinePlan, compiled: LinesCompiled) -> npt.NDArray[np.int16]:
    """Line, row and column behind every output code, from the order in which words are written."""
    config, (channels, height, width) = compiled.config, compiled.places[OUTPUT].shape
    of_word = np.full((compiled.places[OUTPUT].words, 2), -1, np.int16)
    for address, line, row in _writes(plan, config):
        of_word[address] = line, row
    by_group = of_word.reshape(-1, height, pitch(width), 2)[:, :, :width]
    line_and_row = np.repeat(by_group, config.columns, axis=0)[:channels].transpose(3, 0, 1, 2)
    column = np.arange(channels, dtype=np.int16) % config.columns
    columns = np.broadcast_to(column[:, np.newaxis, np.newaxis], (channels, height, width))
    return np.concatenate([line_and_row, columns[np.newaxis]])


def _writes(plan: LinePlan, config: LinesConfig) -> Iterator[tuple[int, int, int]]:
    """Word in the output tensor, line and row, of each word that is written."""
    address = plan.write_start
    for _, across, tile in product(*(range(plan.counts[level]) for level in (6, 5, 4))):
        last_across, last_tile = across == plan.counts[5] - 1, tile == plan.counts[4] - 1
        rows = plan.rows_last if last_tile else plan.tile_rows
        for row in range(rows):
            ends = last_tile and row == rows - 1
            fewer = ends if plan.flat else last_across
            for line in range(plan.lines_last if fewer else config.lines):
                yield address + line * plan.write_line, line, config.rows - plan.tile_rows + row
            if not ends:
                address += plan.write_row
            else:
                address += plan.write_group if last_across else plan.write_position
