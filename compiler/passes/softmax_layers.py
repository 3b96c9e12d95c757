"""softmax_layers: a Softmax becomes layers of sums, shifts and tables, which every machine has.

The steps are those of `golden.log_functions`, and so are the codes, every one of them. All tensors
hold whole numbers from 0 on, less 128. Weights are 1, -1, 2 and 64, requantizations shifts.

More classes than `MOST_CHANNELS` at one pixel become an image of `LANES` channels: layers over all
channels then have few weights, and one layer of windows as large as the image has all classes.

| tensor | layer |
|---|---|
| `:classes` | the image |
| `:max` | halves of the classes: a of one, d = how far the other is above it; largest is a + d |
| `:below` | x - (a + d), for each class |
| `:powers` | two tables of `:below`, high and low part, beside one another |
| `:rest` | where classes are many: what lies below the low part, summed apart |
| `:gains` | the pieces of log2 of the sum of the powers, every octave a channel |
| `:logs` | two tables of `:below` beside the gains: together they are the log of the share |
| `:shares` | windows of the log, a table of shares for each; the result is their sum |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from qcompile.compiler import ir
from qcompile.compiler.golden import log_functions
from qcompile.compiler.passes.softmax_parts import ZERO, SoftmaxParts

LOW_BITS = 6
"""Of a number in two parts; the high part has the weight 2**LOW_BITS."""
MOST_CHANNELS = 32
"""Classes that are channels as they are, where there is one pixel: layers have as many weights as
channels times channels."""
LANES = 16
MOST_COLUMNS = 32
"""Of an image of classes: taps of a window that a layer counts."""
REST_CODES = 254
"""Numbers that a channel of the rest holds; even, so that ties are those of the whole."""


def softmax_layers(graph: ir.Graph, word: int) -> ir.Graph:
    """The graph without Softmax; `word` is the number of channels in a memory word."""
    if not any(isinstance(op, ir.Softmax) for op in graph.ops):
        return graph
    values = dict(graph.values)
    ops: list[ir.Op] = []
    for op in graph.ops:
        if isinstance(op, ir.Softmax):
            layers = _Layers(values, op, word)
            layers.make()
            ops += layers.parts.ops
        else:
            ops.append(op)
    return replace(graph, values=values, ops=tuple(ops))


class _Layers:
    """Makes the operations of one Softmax over the channels of an image.

    Parts of tensors begin with whole words, so that their layers write them in place.
    """

    def __init__(self, values: dict[str, ir.Value], op: ir.Softmax, word: int) -> None:
        self.values = values
        self.op = op
        self.parts = SoftmaxParts(values, op)
        self.word = word
        shape = values[op.inputs[0]].shape
        self.classes = self.channels = shape[1]
        self.image = shape[2:]
        self.source = op.inputs[0]
        self.taps = (1, 1)  # windows over all classes
        if self.classes > MOST_CHANNELS and self.image == (1, 1):
            self._as_image()
        self.lanes = self._whole_words(self.channels)
        number = np.arange(int(np.prod(self.taps))) * LANES
        class_ = number.reshape(self.taps) + np.arange(self.channels)[:, np.newaxis, np.newaxis]
        self.real = class_ < self.classes
        """[channels, *taps]: what is a class, and not only there to fill the image."""

    def _as_image(self) -> None:
        """The classes as pixels of `LANES` channels; codes beyond the last are never largest."""
        pixels = -(-self.classes // LANES)
        rows = -(-pixels // MOST_COLUMNS)
        self.channels, self.image = LANES, (rows, -(-pixels // rows))
        self.taps = self.image
        numbers = np.arange(int(np.prod(self.image)) * LANES, dtype=np.int32)
        index = np.where(numbers < self.classes, numbers, np.int32(-1)).reshape(-1, LANES).T
        shape = (1, LANES, *self.image)
        self.source = self.parts.select("classes", (self.source,), index.reshape(shape))

    def make(self) -> None:
        """Appends all of them."""
        both = self._beside("max", self._largest())
        below = self._below(both, "below")
        powers = self._powers(both, below)
        gains = self._gains(powers)
        logs = self._logs(both, gains)
        self._shares(logs)

    def _whole_words(self, channels: int) -> int:
        return -(-channels // self.word) * self.word

    # ------------------------------------------------------------------ steps

    def _largest(self) -> str:
        """[1, 2, ...], a and d: the largest code is a + d."""
        source, count = self.source, self.channels
        if self.taps != (1, 1):
            source = self.parts.pooled("largest", source)
        terms = np.eye(count, dtype=np.int16)  # each number as a sum of the source's channels
        number = 0
        while True:
            half = (count + 1) // 2
            first, second = terms[:half], terms[half:]
            above = np.zeros_like(first)
            above[: count - half] = second - first[: count - half]
            weight = np.concatenate([first, above])
            source = self.parts.sum(f"half{number}", source, weight)
            count, number = half, number + 1
            if count == 1:
                return source
            eye = np.eye(count, dtype=np.int16)
            terms = np.concatenate([eye, eye], axis=1)

    def _beside(self, suffix: str, largest: str) -> str:
        """The codes, and a and d behind them at each pixel."""
        codes, both = (self.parts.numbers(name) for name in (self.source, largest))
        gap = np.full((1, self.lanes - self.channels, *self.image), -1, np.int32)
        both = np.broadcast_to(both + codes.size, (1, 2, *self.image))
        index = np.concatenate([codes, gap, both], axis=1)
        return self.parts.select(suffix, (self.source, largest), index.astype(np.int32))

    def _below(self, both: str, suffix: str, table: ir.Int64Array | None = None) -> str:
        """How far each class is below the largest one, less 128; or a table of it."""
        weight = np.zeros((self.lanes, self.lanes + 2), np.int16)
        channels = np.arange(self.channels)
        weight[channels, channels] = 1
        weight[: self.channels, self.lanes :] = -1
        return self.parts.sum(suffix, both, weight, zero_point=127, table=table)

    def _powers(self, both: str, below: str) -> str:
        """The powers' parts beside one another, and their rest."""
        parts = log_functions.split_powers(self.op.powers, self.classes)
        high = np.minimum(parts[0] >> LOW_BITS, log_functions.LEVELS)
        found = [
            self.parts.lookup("powers:high", below, high),
            self.parts.lookup("powers:low", below, parts[0] - (high << LOW_BITS)),
        ]
        if len(parts) > 1:
            found.append(self._rest(self._below(both, "rest", parts[1])))
        return self.parts.join("powers", found, self.image)

    def _rest(self, source: str) -> str:
        """The sum of what lies below the powers' last bit, in channels of `REST_CODES`."""
        bits = log_functions.REST_BITS
        most = (self.classes << bits) - 1 >> bits
        count = -(-most // REST_CODES)
        weight = np.zeros((self._whole_words(count), self.lanes, *self.taps), np.int16)
        weight[:count, : self.channels] = self.real
        begin = (REST_CODES << bits) * np.minimum(np.arange(len(weight)), count)
        return self.parts.sum(
            "rest:sum", source, weight, bias=-begin, shift=bits, high=ZERO + REST_CODES
        )

    def _gains(self, powers: str) -> list[str]:
        """For each piece a tensor with an octave a channel."""
        count = log_functions.octaves(self.classes)
        # All channels have the same weights, which are then sent once; octaves that no sum
        # reaches gain nothing.
        octave = np.minimum(np.arange(self._whole_words(count)), count)
        weight = np.zeros((len(octave), self.values[powers].shape[1], *self.taps), np.int16)
        weight[:, : self.channels] = self.real << LOW_BITS
        weight[:, self.lanes : self.lanes + self.channels] = self.real
        weight[:, 2 * self.lanes :, 0, 0] = 1
        return [
            self.parts.sum(
                f"gains:{number}",
                powers,
                weight,
                bias=-(piece.begin << octave),
                shift=piece.shift + octave,
                table=piece.gains,
            )
            for number, piece in enumerate(log_functions.pieces())
        ]

    def _logs(self, both: str, gains: Sequence[str]) -> str:
        """The logs' parts and the gains beside one another."""
        logs = self.op.logs
        high = self._below(both, "logs:high", logs >> LOW_BITS)
        low = self._below(both, "logs:low", logs & (1 << LOW_BITS) - 1)
        return self.parts.join("logs", [high, low, *gains], self.image)

    def _shares(self, logs: str) -> None:
        """The windows of the log beside one another, and their sum."""
        weight = np.zeros((self.lanes, self.values[logs].shape[1]), np.int16)
        channels = np.arange(self.channels)
        weight[channels, channels] = 1 << LOW_BITS
        weight[channels, self.lanes + channels] = 1
        gain = 1 << (log_functions.LOG_BITS - log_functions.GAIN_BITS)
        weight[: self.channels, 2 * self.lanes :] = gain
        windows = [
            self.parts.sum(
                f"shares:{number}",
                logs,
                weight,
                bias=np.full(self.lanes, -window.begin),
                shift=window.shift,
                table=window.shares,
            )
            for number, window in enumerate(log_functions.windows(self.op.steps))
        ]
        eye = np.eye(self.lanes, dtype=np.int16)[: self.channels]
        weight = np.concatenate([eye] * len(windows), axis=1)
        shares = self.parts.join("shares", windows, self.image)
        if self.taps == (1, 1):
            self.parts.sum(None, shares, weight)
            return
        image = self.parts.sum("image", shares, weight)
        order = self.parts.numbers(image).reshape(self.channels, -1).T.reshape(-1)[: self.classes]
        self.parts.select(None, (image,), order.reshape(1, -1, 1, 1))
