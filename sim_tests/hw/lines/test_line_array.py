"""One line of the array against numpy: sums of what docs/lines.md says each column sees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from qcompile.compiler.ir import Int64Array
from qcompile.hw.lines.array import dsp_pairs_of_line
from qcompile.hw.lines.config import DspStyle, LinesConfig
from sim_tests.hw import xc7
from sim_tests.hw.lines import wide
from sim_tests.hw.lines.read_line import LINE_INPUTS, ReadLine

ROWS = 4
VALID, FIRST, LAST = 1, 2, 4
LENGTHS = (1, 1, 1, 1, 2, 3, 9, 16, 72)


class Passes:
    """Ports of a line in every cycle, with what its columns see; between passes all is random.

    Attributes
    ----------
    seen : [cycles, rows, columns] signed codes of the step in each cycle
    """

    def __init__(self, rng: np.random.Generator, columns: int, cycles: int) -> None:
        self.rng = rng
        self.columns = columns
        self.word = rng.integers(-128, 128, (cycles, columns))
        self.weights = rng.integers(-128, 128, (cycles, columns))
        self.seen = np.zeros((cycles, ROWS, columns), np.int64)
        self.step = np.zeros(cycles, np.bool_)
        self.tags = rng.integers(0, 4, cycles) << 1
        self.in_picture = np.zeros(cycles, np.int64)
        self.pad = np.full(cycles, rng.integers(0, 256))
        self.shift = np.zeros(cycles, np.int64)
        self.load = np.zeros(cycles, np.int64)
        self.apart = np.zeros(cycles, np.int64)
        self.free = 0  # the last load: the chain may move on in its cycle
        self.now = 0  # the first cycle of the next step

    def codes(self, count: int) -> Int64Array:
        """Words of codes: extremes are frequent, and sometimes all there is."""
        shape = (count, self.columns)
        codes = self.rng.integers(-128, 128, shape)
        extreme = self.rng.choice([-128, 127], shape)
        kind = self.rng.random()
        if kind < 0.2:
            return np.full(shape, -128)
        return np.where(self.rng.random(shape) < (1 if kind < 0.3 else 0.2), extreme, codes)

    def rotate(self, *, apart: bool) -> None:
        """One word a row, then a step for each channel: column c sees channel (c + j) mod V."""
        places = 2 * np.arange(ROWS) if apart else np.arange(ROWS)
        count = int(places[-1]) + 1
        room = max(count, self.now - self.free)
        reads = self.free + np.sort(self.rng.permutation(room)[:count])
        words = self._words(reads)
        start = max(self.now, int(reads[-1]) + 1) + self._pause()
        steps = np.arange(start, start + self.columns)
        self.shift[reads] = 1
        self.load[start] = 1
        self.apart[self.free + 1 : start + 1] = apart
        for j, cycle in enumerate(steps):
            channels = (np.arange(self.columns) + j) % self.columns
            self.seen[cycle] = words[places][:, channels]
        self._weigh(steps)
        self.free, self.now = start, start + self.columns

    def window(self, *, apart: bool, taps: int) -> None:
        """A step for each word behind the first ones: row r sees pixel r + k, or 2r + k."""
        pixels = np.arange(ROWS) * (2 if apart else 1)
        fill = int(pixels[-1])
        reads = self.free + np.cumsum([self._pause() + 1 for _ in range(fill + taps)])
        reads += max(0, self.now - 1 - int(reads[fill]))
        words = self._words(reads)
        steps = reads[fill:] + 1
        self.shift[reads] = 1
        self.load[steps] = 1
        self.apart[self.free + 1 : steps[-1] + 1] = apart
        for k, cycle in enumerate(steps):
            self.seen[cycle] = words[pixels + k]
        self._weigh(steps)
        self.free, self.now = int(steps[-1]), int(steps[-1]) + 1

    def _words(self, reads: npt.NDArray[np.int64]) -> Int64Array:
        """What the rows see of words that come in these cycles: a few lie beside the picture."""
        self.word[reads] = self.codes(len(reads))
        in_picture = self.rng.random(len(reads)) < self.rng.choice([1.0, 0.8])
        self.in_picture[reads] = in_picture
        pad = np.int64(self.pad[0].astype(np.int8))
        return np.where(in_picture[:, None], self.word[reads], pad)

    def _pause(self) -> int:
        return int(self.rng.choice([0, 0, 0, 0, 1, 3]))

    def _weigh(self, steps: npt.NDArray[np.int64]) -> None:
        self.weights[steps] = self.codes(len(steps))
        self.step[steps] = self.rng.random(len(steps)) < self.rng.choice([1.0, 1.0, 0.7])

    def tag(self, lengths: Int64Array) -> None:
        """Tags of every cycle for sums of so many products; what is not valid says anything.

        Steps that are left over are not valid.
        """
        self.step &= np.cumsum(self.step) <= lengths.sum()
        ends = np.cumsum(lengths)
        valid = np.full(ends[-1], VALID)
        valid[ends - lengths] |= FIRST
        valid[ends - 1] |= LAST
        self.tags[self.step] = valid


def random_passes(rng: np.random.Generator, columns: int, cycles: int) -> Passes:
    """Layers of some passes each, of every kind."""
    passes = Passes(rng, columns, cycles)
    while passes.now < cycles - 500:
        apart, windows = bool(rng.integers(0, 2)), bool(rng.integers(0, 2))
        for _ in range(int(rng.integers(1, 6))):
            if windows:
                passes.window(apart=apart, taps=int(rng.integers(1, 12)))
            else:
                passes.rotate(apart=apart)
    return passes


@pytest.mark.cosim
@pytest.mark.parametrize(
    ("dsp", "columns", "lanes", "acc_width", "pairs_in_dsp", "synthesized"),
    [
        ("inferred", 4, 4, 28, 8, False),
        ("instance", 4, 1, 32, 3, False),
        ("inferred", 4, 1, 24, 5, True),
        ("inferred", 16, 4, 24, 32, False),
        ("none", 16, 2, 24, 32, False),
    ],
)
def test_captured_tiles_are_the_sums_of_what_each_column_sees(
    dsp: DspStyle,
    columns: int,
    lanes: int,
    acc_width: int,
    pairs_in_dsp: int,
    synthesized: bool,
    tmp_path: Path,
    rng: np.random.Generator,
    seed: int,
) -> None:
    passes = random_passes(rng, columns, 14_000)
    lengths = np.concatenate([rng.choice(LENGTHS, 20), [3000], rng.choice(LENGTHS, 300)])
    lengths = lengths[np.cumsum(lengths) <= passes.step.sum()]
    assert len(lengths) > 60 and lengths.max() == 3000
    passes.tag(lengths)
    config = LinesConfig(columns=columns, lanes=lanes, acc_width=acc_width, dsp=dsp)
    line = ReadLine(config, pairs_in_dsp=pairs_in_dsp, show_tile=True)
    inputs = {name: getattr(passes, name) for name in LINE_INPUTS}
    inputs["index"] = rng.integers(0, ROWS * columns // lanes, len(passes.step))
    parts = {"word": 8, "weights": 8, "tile": acc_width, "sums": acc_width}
    out = wide.run_vectors(
        line,
        inputs,
        parts,
        tmp_path,
        seed=seed,
        sources=[xc7.vendor_models()] if synthesized or dsp == "instance" else [],
        synthesized=synthesized,
    )

    products = passes.seen[passes.step] * passes.weights[passes.step][:, None, :]
    sums = np.add.reduceat(products, np.cumsum(lengths) - lengths, axis=0)
    ends = np.flatnonzero(passes.step)[np.cumsum(lengths) - 1] + line.line.LATENCY
    assert np.flatnonzero(out["captured"]).tolist() == ends.tolist()
    # A tile stands until the next one.
    assert np.abs(sums).max() < 1 << (acc_width - 1), "sums must be within acc_width"
    shown = np.cumsum(out["captured"])[ends[0] :] - 1
    tiles = (sums & ((1 << acc_width) - 1))[shown]
    np.testing.assert_array_equal(out["tile"][ends[0] :], tiles.reshape(len(tiles), -1))

    # Lane l reads column l * V/L + index mod V/L of row index // (V/L).
    row, column = np.divmod(inputs["index"][ends[0] :], columns // lanes)
    by_lane = tiles.reshape(len(tiles), ROWS, lanes, columns // lanes)
    read = by_lane[np.arange(len(tiles)), row, :, column]
    latency = line.reader.LATENCY
    np.testing.assert_array_equal(out["sums"][ends[0] + latency :], read[:-latency])


def test_pairs_in_dsps_are_dealt_out_to_all_lines() -> None:
    config = LinesConfig(lines=8, dsp_pairs=210)
    assert [dsp_pairs_of_line(config, line) for line in range(8)] == [27, 27, *[26] * 6]
    assert dsp_pairs_of_line(LinesConfig(lines=1, dsp_pairs=256), 0) == 32
    assert dsp_pairs_of_line(LinesConfig(dsp="none"), 0) == 0
