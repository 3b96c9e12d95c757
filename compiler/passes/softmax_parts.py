"""The operations that a Softmax is made of: sums of channels, tables, and parts put together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from qcompile.compiler import ir

ZERO = -128
"""Code of the number 0."""


class SoftmaxParts:
    """Appends operations to `ops` and their values to `values`; each gives its tensor's name.

    A suffix of None is the Softmax's own result, which has a value already.
    """

    def __init__(self, values: dict[str, ir.Value], op: ir.Softmax) -> None:
        self.values = values
        self.op = op
        self.ops: list[ir.Op] = []

    def _name(self, suffix: str | None) -> str:
        return self.op.name if suffix is None else f"{self.op.name}:{suffix}"

    def _add(self, suffix: str | None, shape: tuple[int, ...], make: Callable[[str], ir.Op]) -> str:
        name = self._name(suffix)
        if suffix is not None:
            self.values[name] = ir.Value(name=name, shape=shape, dtype="int8")
        self.ops.append(make(name))
        return name

    def sum(
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
        return self.lookup(suffix or "", codes, table)

    def lookup(self, suffix: str, source: str, numbers: ir.Int64Array) -> str:
        table = (numbers + ZERO).astype(np.int8)
        return self._add(
            suffix,
            self.values[source].shape,
            lambda name: ir.Lookup(
                inputs=(source,), outputs=(name,), origins=self.op.origins, table=table
            ),
        )

    def numbers(self, name: str) -> ir.Int32Array:
        value = self.values[name]
        return np.arange(value.elements, dtype=np.int32).reshape(value.shape)

    def join(self, suffix: str, parts: Sequence[str], image: Sequence[int]) -> str:
        """Tensors of whole words, channels behind one another; those of one pixel at each."""
        begin = 0
        places = []
        for name in parts:
            numbers = self.numbers(name) + np.int32(begin)
            begin += numbers.size
            places.append(np.broadcast_to(numbers, (1, numbers.shape[1], *image)))
        index = np.concatenate(places, axis=1)
        return self.select(suffix, tuple(parts), index, joins=index.size == begin)

    def pooled(self, suffix: str, source: str) -> str:
        """The largest code of each channel."""
        _, channels, *image = self.values[source].shape
        return self._add(
            suffix,
            (1, channels, 1, 1),
            lambda name: ir.MaxPool(
                inputs=(source,),
                outputs=(name,),
                origins=self.op.origins,
                kernel=(image[0], image[1]),
                strides=(1, 1),
                dilations=(1, 1),
                pads=(0, 0, 0, 0),
            ),
        )

    def select(
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
