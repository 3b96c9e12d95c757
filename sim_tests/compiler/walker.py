"""Walks a plan in Python as docs/architecture.md section 2 describes the machine, word by word.

Independent of the RTL and of the cycle model: what it shares with them is the plan alone.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from qcompile.compiler.layers import Layer
from qcompile.compiler.plan import Plan
from qcompile.hw.layouts import pack_tensor

ROWS = 4
UNWRITTEN = np.iinfo(np.int64).min
Int64Array = npt.NDArray[np.int64]


class Reader:
    """Reads words of the input tensor along the plan's steps; pads out of bounds."""

    def __init__(self, layer: Layer, plan: Plan, codes: npt.NDArray[np.int8]) -> None:
        self.plan = plan
        self.words = pack_tensor(codes, fill=99)  # padded channels may hold anything
        self.pad = np.full(4, layer.pad_code, np.int64)
        self.left = [count - 1 for count in plan.counts]
        self.position = np.array([plan.start.address, plan.start.p, plan.start.o])

    def read(self) -> Int64Array:
        """The next word's four codes; then one step on."""
        address, p, o = self.position.tolist()
        inside = p % 512 <= self.plan.p_bound and o % 512 <= self.plan.o_bound
        known = 0 <= address < len(self.words)
        word = self.words[address : address + 1] if known else np.array([0x5A5A5A5A], np.uint32)
        codes = word.view(np.int8).astype(np.int64) if inside else self.pad
        level = next((i for i, left in enumerate(self.left) if left), len(self.left) - 1)
        for i in range(level):
            self.left[i] = self.plan.counts[i] - 1
        self.left[level] -= 1
        step = self.plan.deltas[level]
        self.position += [step.address, step.p, step.o]
        return codes


def walk(layer: Layer, plan: Plan, codes: npt.NDArray[np.int8]) -> Int64Array:
    """The output tensor, sums of products [channels, height, width], as the plan writes it.

    Elements that no word is written for are `UNWRITTEN`, and so are a written word's lanes behind
    the layer's last channel.
    """
    reader = Reader(layer, plan, codes)
    groups, height, width = -(-layer.tensor_shape[0] // 4), *layer.tensor_shape[1:]
    target = np.full((groups * height * width, 4), UNWRITTEN)
    address = plan.write_start
    for group in range(plan.groups):
        weights = plan.weights[group].astype(np.int64)
        for position in range(plan.counts[5]):
            for tile in range(plan.counts[4]):
                sums = _tile(plan, reader, weights)
                last = tile == plan.counts[4] - 1
                for row in range(plan.rows_last if last else ROWS):
                    used = min(4, layer.output_shape[0] - 4 * group)
                    target[address, :used] = sums[row, :used]
                    ends = last and row == plan.rows_last - 1
                    if not ends:
                        address += plan.write_row
                    elif position < plan.counts[5] - 1:
                        address += plan.write_position
                    else:
                        address += plan.write_group
    by_group = target.reshape(groups, height, width, 4)
    return by_group.transpose(0, 3, 1, 2).reshape(-1, height, width)[: layer.tensor_shape[0]]


def _tile(plan: Plan, reader: Reader, weights: Int64Array) -> Int64Array:
    sums = np.zeros((ROWS, 4), np.int64)
    reads = plan.counts[0]
    for first in range(0, plan.tile_reads, reads):
        words = [reader.read() for _ in range(reads)]
        for row in range(ROWS):
            for i in range(reads):
                if plan.broadcast:
                    if i >= row:
                        sums[row] += words[i] * weights[first + i - row]
                else:
                    rotated = np.roll(words[row], -i)
                    sums[row] += rotated * weights[first + i]
    return sums
