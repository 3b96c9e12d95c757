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

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from qcompile.compiler import ir
from qcompile.compiler.golden import log_functions

LOW_BITS = 6
"""Of a number in two parts; the high part has the weight 2**LOW_BITS."""
MOST_CHANNELS = 32
"""Classes that are channels as they are, where there is one pixel: layers have as many weights as
channels times channels."""
LANES = 16
MOST_COLUMNS = 32
"""Of an image of classes: taps of a window that a layer counts."""
ZERO = -128
"""Code of the number 0."""
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
            ops += layers.ops
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
        self.word = word
        self.ops: list[ir.Op] = []
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
        self.source = self._select("classes", (self.source,), index.reshape(shape))

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
            source = self._pooled("largest", source)
        terms = np.eye(count, dtype=np.int16)  # each number as a sum of the source's channels
        number = 0
        while True:
            half = (count + 1) // 2
            first, second = terms[:half], terms[half:]
            above = np.zeros_like(first)
            above[: count - half] = second - first[: count - half]
            weight = np.concatenate([first, above])
            source = self._sum(f"half{number}", source, weight)
            count, number = half, number + 1
            if count == 1:
                return source
            eye = np.eye(count, dtype=np.int16)
            terms = np.concatenate([eye, eye], axis=1)

    def _beside(self, suffix: str, largest: str) -> str:
        """The codes, and a and d behind them at each pixel."""
        codes, both = (self._numbers(name) for name in (self.source, largest))
        gap = np.full((1, self.lanes - self.channels, *self.image), -1, np.int32)
        both = np.broadcast_to(both + codes.size, (1, 2, *self.image))
        index = np.concatenate([codes, gap, both], axis=1)
        return self._select(suffix, (self.source, largest), index.astype(np.int32))

    def _below(self, both: str, suffix: str, table: ir.Int64Array | None = None) -> str:
        """How far each class is below the largest one, less 128; or a table of it."""
        weight = np.zeros((self.lanes, self.lanes + 2), np.int16)
        channels = np.arange(self.channels)
        weight[channels, channels] = 1
        weight[: self.channels, self.lanes :] = -1
        return self._sum(suffix, both, weight, zero_point=127, table=table)

    def _powers(self, both: str, below: str) -> str:
        """The powers' parts beside one another, and their rest."""
        parts = log_functions.split_powers(self.op.powers, self.classes)
        high = np.minimum(parts[0] >> LOW_BITS, log_functions.LEVELS)
        found = [
            self._lookup("powers:high", below, high),
            self._lookup("powers:low", below, parts[0] - (high << LOW_BITS)),
        ]
        if len(parts) > 1:
            found.append(self._rest(self._below(both, "rest", parts[1])))
        return self._join("powers", found)

    def _rest(self, source: str) -> str:
        """The sum of what lies below the powers' last bit, in channels of `REST_CODES`."""
        bits = log_functions.REST_BITS
        most = (self.classes << bits) - 1 >> bits
        count = -(-most // REST_CODES)
        weight = np.zeros((self._whole_words(count), self.lanes, *self.taps), np.int16)
        weight[:count, : self.channels] = self.real
        begin = (REST_CODES << bits) * np.minimum(np.arange(len(weight)), count)
        return self._sum(
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
            self._sum(
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
        return self._join("logs", [high, low, *gains])

    def _shares(self, logs: str) -> None:
        """The windows of the log beside one another, and their sum."""
        weight = np.zeros((self.lanes, self.values[logs].shape[1]), np.int16)
        channels = np.arange(self.channels)
        weight[channels, channels] = 1 << LOW_BITS
        weight[channels, self.lanes + channels] = 1
        gain = 1 << (log_functions.LOG_BITS - log_functions.GAIN_BITS)
        weight[: self.channels, 2 * self.lanes :] = gain
        windows = [
            self._sum(
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
        shares = self._join("shares", windows)
        if self.taps == (1, 1):
            self._sum(None, shares, weight)
            return
        image = self._sum("image", shares, weight)
        order = self._numbers(image).reshape(self.channels, -1).T.reshape(-1)[: self.classes]
        self._select(None, (image,), order.reshape(1, -1, 1, 1))

    # ------------------------------------------------------------------ operations

    def _name(self, suffix: str | None) -> str:
        return self.op.name if suffix is None else f"{self.op.name}:{suffix}"

    def _add(self, suffix: str | None, shape: tuple[int, ...], make: Callable[[str], ir.Op]) -> str:
        name = self._name(suffix)
        if suffix is not None:
            self.values[name] = ir.Value(name=name, shape=shape, dtype="int8")
        self.ops.append(make(name))
        return name

    def _sum(
        self,
        suffix: str | None,
        source: str,
        weight: ir.Int16Array,
        *,
        bias: ir.Int64Array | None = None,
        shift: int | ir.Int64Array = 0,
        zero_point: int = ZERO,
        high: int = 127,
        table: ir.Int64Array | None = None,
    ) -> str:
        """Sums of channels, or of all in windows, shifted right and clamped; a table of that.

        `weight` is [out, in] or [out, in, *taps].
        """
        outputs = len(weight)
        windows = weight if weight.ndim > 2 else weight[:, :, np.newaxis, np.newaxis]
        before = self.values[source].shape[2:]
        image = (n - taps + 1 for n, taps in zip(before, windows.shape[2:], strict=True))
        shape = (1, outputs, *image)
        shifts = np.broadcast_to(np.asarray(shift, np.int64), outputs)
        requant = _shifts(self.op.mode, shifts, zero_point, high)

        def conv(name: str) -> ir.Op:
            return ir.Conv(
                inputs=(source,),
                outputs=(name,),
                origins=self.op.origins,
                weight=windows,
                bias=np.zeros(outputs, np.int64) if bias is None else bias.astype(np.int64),
                input_zero_point=ZERO,
                strides=(1, 1),
                dilations=(1, 1),
                pads=(0, 0, 0, 0),
                group=1,
                requant=requant,
            )

        if table is None:
            return self._add(suffix, shape, conv)
        codes = self._add(f"{suffix}:codes", shape, conv)
        return self._lookup(suffix or "", codes, table)

    def _lookup(self, suffix: str, source: str, numbers: ir.Int64Array) -> str:
        table = (numbers + ZERO).astype(np.int8)
        return self._add(
            suffix,
            self.values[source].shape,
            lambda name: ir.Lookup(
                inputs=(source,), outputs=(name,), origins=self.op.origins, table=table
            ),
        )

    def _numbers(self, name: str) -> ir.Int32Array:
        value = self.values[name]
        return np.arange(value.elements, dtype=np.int32).reshape(value.shape)

    def _join(self, suffix: str, parts: Sequence[str]) -> str:
        """Tensors of whole words, channels behind one another; those of one pixel at each."""
        begin = 0
        places = []
        for name in parts:
            numbers = self._numbers(name) + np.int32(begin)
            begin += numbers.size
            places.append(np.broadcast_to(numbers, (1, numbers.shape[1], *self.image)))
        index = np.concatenate(places, axis=1)
        return self._select(suffix, tuple(parts), index, joins=index.size == begin)

    def _pooled(self, suffix: str, source: str) -> str:
        """The largest code of each channel."""
        return self._add(
            suffix,
            (1, self.channels, 1, 1),
            lambda name: ir.MaxPool(
                inputs=(source,),
                outputs=(name,),
                origins=self.op.origins,
                kernel=(self.image[0], self.image[1]),
                strides=(1, 1),
                dilations=(1, 1),
                pads=(0, 0, 0, 0),
            ),
        )

    def _select(
        self,
        suffix: str | None,
        sources: tuple[str, ...],
        index: ir.Int32Array,
        *,
        joins: bool = False,
    ) -> str:
        return self._add(
            suffix,
            index.shape,
            lambda name: ir.Select(
                inputs=sources,
                outputs=(name,),
                origins=self.op.origins,
                index=index,
                fill=ZERO,
                joins_parts=joins,
            ),
        )


def _shifts(
    mode: Literal["exact", "shift"], shifts: ir.Int64Array, zero_point: int, high: int
) -> ir.Requant:
    """Right shifts alone, ties to even, in either mode."""
    exact = mode == "exact"
    return ir.Requant(
        mode=mode,
        mantissa=np.full(shifts.shape, 1 << 23 if exact else 1, np.int64),
        shift=shifts + (23 if exact else 0),
        zero_point=zero_point,
        high=high,
    )
