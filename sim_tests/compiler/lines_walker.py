"""Walks a line plan in Python as docs/lines.md describes the machine, word by word.

Independent of the RTL and of the cycle model: what it shares with them is the plan alone.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt

from qcompile.compiler.layers import Layer
from qcompile.compiler.lines.plan import LinePlan
from qcompile.hw.lines.config import LinesConfig

CHAIN = 7
UNWRITTEN = np.iinfo(np.int64).min
Int64Array = npt.NDArray[np.int64]


def memory_words(codes: npt.NDArray[np.int8], word: int) -> Int64Array:
    """[channels, height, width] -> words [n, word], rows of pixels an odd number of words apart."""
    channels, height, width = codes.shape
    groups, pitch = -(-channels // word), width + 1 - width % 2
    padded = np.full((groups * word, height, pitch), 99, np.int64)  # gaps may hold anything
    padded[:channels, :, :width] = codes
    by_group = padded.reshape(groups, word, height, pitch)
    return by_group.transpose(0, 2, 3, 1).reshape(-1, word)


class Walker:
    """One layer on an array of lines; `banks` are checked for each read of all lines."""

    def __init__(self, layer: Layer, plan: LinePlan, config: LinesConfig) -> None:
        self.layer = layer
        self.plan = plan
        self.config = config

    def walk(self, codes: npt.NDArray[np.int8]) -> Int64Array:
        """Sums of products of the output tensor [channels, height, width]; `UNWRITTEN` else."""
        plan, config = self.plan, self.config
        self.words = memory_words(codes, config.columns)
        self.left = [count - 1 for count in plan.counts]
        self.position = np.array([plan.start.address, plan.start.p, plan.start.o])
        channels, height, width = self.layer.tensor_shape
        groups, pitch = -(-channels // config.columns), width + 1 - width % 2
        target = np.full((groups * height * pitch, config.columns), UNWRITTEN)
        address = plan.write_start
        for group, across, tile in product(*(range(plan.counts[i]) for i in (6, 5, 4))):
            sums = self._tile(plan.weights[group])
            last_tile = tile == plan.counts[4] - 1
            last = {
                "own": group == plan.counts[6] - 1,
                "lines": across == plan.counts[5] - 1,
            }
            rows = plan.rows_last if last_tile else plan.tile_rows
            for row in range(rows):
                ends = last_tile and row == rows - 1
                fewer = last["own"] if plan.own else ends if plan.flat else last["lines"]
                for line in range(plan.lines_last if fewer else config.lines):
                    at = address + line * plan.write_line
                    assert np.all(target[at] == UNWRITTEN), f"word {at} is written twice"
                    target[at] = sums[line, config.rows - plan.tile_rows + row]
                if not ends:
                    address += plan.write_row
                elif not last["lines"]:
                    address += plan.write_position
                else:
                    address += plan.write_group
        by_group = target.reshape(groups, height, pitch, config.columns)[:, :, :width]
        return by_group.transpose(0, 3, 1, 2).reshape(-1, height, width)[:channels]

    def _tile(self, weights: npt.NDArray[np.int8]) -> Int64Array:
        """Sums [lines, rows, V] of a tile."""
        plan, config = self.plan, self.config
        sums = np.zeros((config.lines, config.rows, config.columns), np.int64)
        rows = np.arange(config.rows)
        own = weights.reshape(len(weights), -1, config.columns).astype(np.int64)
        for number in range(plan.passes):
            used = own[number * plan.products : (number + 1) * plan.products]
            chain = np.zeros((config.lines, CHAIN, config.columns), np.int64)
            taps = 2 * rows if plan.apart else 3 + rows
            fill = (plan.tile_rows - 1) * (2 if plan.apart else 1)
            for read in range(plan.counts[0]):
                chain = np.concatenate([chain[:, 1:], self._read()[:, np.newaxis]], axis=1)
                if plan.kind == "window" and read >= fill:
                    sums += chain[:, taps] * used[read - fill][:, np.newaxis]
            if plan.kind == "rotate":
                for step in range(plan.products):
                    operands = np.roll(chain[:, taps], -step, axis=2)
                    sums += operands * used[step][:, np.newaxis]
        return sums

    def _read(self) -> Int64Array:
        """The next word of every line; then one step on."""
        plan, config = self.plan, self.config
        base, p, o = self.position.tolist()
        found = np.empty((config.lines, config.columns), np.int64)
        addresses = []
        for line in range(config.lines):
            address, across = base + line * plan.line_address, o + line * plan.line_o
            inside = p % 512 <= plan.p_bound and across % 512 <= plan.o_bound
            known = 0 <= address < len(self.words)
            found[line] = self.words[address] if known else 77
            if not inside:
                found[line] = self.layer.pad_code
            addresses.append(address)
        self._check_banks(addresses)
        level = next((i for i, left in enumerate(self.left) if left), len(self.left) - 1)
        for i in range(level):
            self.left[i] = plan.counts[i] - 1
        self.left[level] -= 1
        step = plan.deltas[level]
        self.position += [step.address, step.p, step.o]
        return found

    def _check_banks(self, addresses: list[int]) -> None:
        """In each of a read's turns no two lines meet in a bank, unless all read one word."""
        if len(set(addresses)) == 1:
            return
        turn = -(-len(addresses) // self.plan.turns)
        for begin in range(0, len(addresses), turn):
            places = addresses[begin : begin + turn]
            if self.plan.read_turned:
                places = [self.config.place(address) for address in places]
            banks = [place % self.config.banks for place in places]
            assert len(set(banks)) == len(banks), f"lines meet in banks {banks}"
            groups = self.config.line_groups
            for group in range(groups):
                low = {bank % groups for bank in banks[group::groups]}
                assert len(low) <= 1, f"lines of a group read banks {banks}"
