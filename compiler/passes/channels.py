"""Gives each channel constants that the requantization unit does exactly, or refuses the layer.

A channel is a step function of its accumulator, of which only the part between the smallest and
the largest possible accumulator matters. So a channel that can have one code only gets small
constants, and a channel with scales or sums beyond the unit's range gets others that make the same
steps, where such constants exist. Dead and nearly dead channels are why: real networks hold biases
of 2**30 beside scales of 1e-11 (numerics.md 8), or sums of 2**25 for a code that has two values.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from qcompile.compiler import ir
from qcompile.compiler.errors import UnsupportedError
from qcompile.compiler.golden.numerics import requantize
from qcompile.compiler.log_format import FEWER_OCTAVES
from qcompile.hw.config import MAX_SHIFTS, SHIFT_RANGE

MANTISSA_BITS = 24
LOWEST_SHIFT = MAX_SHIFTS[0] - SHIFT_RANGE + 1
"""That some unit does; `backend` chooses one for all layers."""
HALF_SHIFT = MANTISSA_BITS
"""With a mantissa of 2**23: a scale of a half. Every unit does it."""
LARGEST_SCALE = 2.0 ** (MANTISSA_BITS - LOWEST_SHIFT)
SMALLEST_SCALE = 2.0 ** (MANTISSA_BITS - 1 - MAX_SHIFTS[-1])
FLOAT_EXACT = 1 << 24
"""Accumulators up to here are exact in float32, ONNX Runtime's intermediate type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Channels:
    """Constants of a layer's output channels: weight int16 [out, ...], the others int64 [out]."""

    weight: ir.Int16Array
    bias: ir.Int64Array
    mantissa: ir.Int64Array
    shift: ir.Int64Array
    limits: ir.Int64Array | None = None


def hardware_channels(
    op: ir.Op,
    weight: ir.Int16Array,
    bias: ir.Int64Array,
    inputs: tuple[int, int],
    requant: ir.Requant,
) -> Channels:
    """Constants with which the hardware makes golden's codes; `inputs` are the smallest and the
    largest difference of an input code from the zero point.

    Raises UnsupportedError, naming the channel, where there are none.
    """
    if requant.mode == "log":
        assert requant.limits is not None, "a log Requant has them"
        limits = np.broadcast_to(requant.limits, (len(requant.limits), *bias.shape))
        zeros = np.zeros_like(bias)
        return Channels(weight=weight, bias=bias, mantissa=zeros, shift=zeros, limits=limits)
    low, high = _reach(weight, bias, inputs, requant.fraction)
    weight, bias = weight.copy(), bias.copy()
    mantissa = np.broadcast_to(requant.mantissa, bias.shape).copy()
    shift = np.broadcast_to(requant.shift, bias.shape).copy()
    code_low = requantize(low[np.newaxis], requant)[0].astype(np.int64)
    code_high = requantize(high[np.newaxis], requant)[0].astype(np.int64)
    # Requantization is monotonous: equal ends mean one code in all.
    constant = code_low == code_high
    weight[constant] = 0
    bias[constant] = (code_low[constant] - requant.zero_point) * 2
    half = (1 << 23, HALF_SHIFT) if requant.mode == "exact" else (1, 1)
    mantissa[constant], shift[constant] = half
    if requant.mode == "exact":
        wide = _rounded(low, high, mantissa, shift) & (requant.fraction == 0)
        for channel in np.flatnonzero(~constant & (wide | _out_of_range(shift))):
            steps = _equivalent(requant, int(channel), int(low[channel]), int(high[channel]))
            if steps is None:
                raise _refusal(op, int(channel), low, high, mantissa, shift)
            moved, mantissa[channel], shift[channel] = steps
            bias[channel] += moved
    elif np.any(~constant & ((shift < 0) | (shift > 31))):
        raise UnsupportedError(f"'{op.name}': a requantization shift outside 0..31")
    return Channels(weight=weight, bias=bias, mantissa=mantissa, shift=shift)


def _reach(
    weight: ir.Int16Array, bias: ir.Int64Array, inputs: tuple[int, int], fraction: int
) -> tuple[ir.Int64Array, ir.Int64Array]:
    """Smallest and largest accumulator of each channel over all input codes."""
    flat = weight.reshape(weight.shape[0], -1).astype(np.int64)
    ends = np.stack([flat * inputs[0], flat * inputs[1]])
    least, most = ends.min(axis=0).sum(axis=1), ends.max(axis=0).sum(axis=1)
    return bias + (least << fraction), bias + (most << fraction)


def _out_of_range(shift: ir.Int64Array) -> np.ndarray:
    """Scales that no unit does."""
    return (shift < LOWEST_SHIFT) | (shift > MAX_SHIFTS[-1])


def _rounded(
    low: ir.Int64Array, high: ir.Int64Array, mantissa: ir.Int64Array, shift: ir.Int64Array
) -> np.ndarray:
    """Sums that float32 rounds and that do not saturate."""
    wide = np.maximum(np.abs(low), np.abs(high)) >= FLOAT_EXACT
    scale = mantissa.astype(np.float64) * 2.0 ** -shift.astype(np.float64)
    return wide & (scale * FLOAT_EXACT < 512)


def _equivalent(
    requant: ir.Requant, channel: int, low: int, high: int
) -> tuple[int, int, int] | None:
    """What to add to the bias, mantissa and shift of a power-of-two scale with the same steps.

    None where no such scale has the same code for every accumulator from low to high.
    """
    mantissa, shift = int(requant.mantissa[channel]), int(requant.shift[channel])
    codes = _Codes(
        zero_point=requant.zero_point,
        low=requant.low,
        high=requant.high,
        zero_point_inside=requant.zero_point_inside,
        fraction=requant.fraction,
    )
    return _equal_scale(codes, mantissa, shift, low, high)


class _Codes(NamedTuple):
    """All of a Requant but its scales."""

    zero_point: int
    low: int
    high: int
    zero_point_inside: bool
    fraction: int

    def scaled(self, mantissa: int, shift: int) -> ir.Requant:
        """Of one channel."""
        return ir.Requant(
            mode="exact", mantissa=np.array([mantissa]), shift=np.array([shift]), **self._asdict()
        )


@lru_cache(maxsize=1 << 14)
def _equal_scale(
    codes: _Codes, mantissa: int, shift: int, low: int, high: int
) -> tuple[int, int, int] | None:
    """As `_equivalent`; a graph is lowered for many sizes of an array, with the same channels."""
    own = codes.scaled(mantissa, shift)
    wanted = _steps(own, low, high)
    first_code = int(requantize(np.array([[low]]), own)[0, 0]) + 1
    for other_shift in range(HALF_SHIFT, MAX_SHIFTS[-1] + 1):
        other = codes.scaled(1 << 23, other_shift)
        moved = _first(other, first_code, -FLOAT_EXACT, FLOAT_EXACT) - int(wanted[0])
        if max(abs(low + moved), abs(high + moved)) >= FLOAT_EXACT:
            continue
        if np.array_equal(_steps(other, low + moved, high + moved) - moved, wanted):
            return moved, 1 << 23, other_shift
    return None


def _steps(requant: ir.Requant, low: int, high: int) -> ir.Int64Array:
    """For each code above that of `low` up to that of `high`: the smallest accumulator with it."""
    ends = requantize(np.array([[low], [high]]), requant)[:, 0]
    codes = range(int(ends[0]) + 1, int(ends[1]) + 1)
    return np.array([_first(requant, code, low, high) for code in codes], dtype=np.int64)


def _first(requant: ir.Requant, code: int, low: int, high: int) -> int:
    """The smallest accumulator from low to high whose code is `code` or more; high if none."""
    while low < high:
        middle = (low + high) // 2
        if int(requantize(np.array([[middle]]), requant)[0, 0]) >= code:
            high = middle
        else:
            low = middle + 1
    return low


def _refusal(
    op: ir.Op,
    channel: int,
    low: ir.Int64Array,
    high: ir.Int64Array,
    mantissa: ir.Int64Array,
    shift: ir.Int64Array,
) -> UnsupportedError:
    if shift[channel] < LOWEST_SHIFT or shift[channel] > MAX_SHIFTS[-1]:
        scale = float(mantissa[channel]) * 2.0 ** -float(shift[channel])
        return UnsupportedError(
            f"'{op.name}': requantization scale {scale:.3g} of channel {channel}",
            help=f"input * weight / output scale must be {SMALLEST_SCALE} or more and below "
            f"{LARGEST_SCALE:g}",
        )
    largest = max(abs(int(low[channel])), abs(int(high[channel])))
    logarithmic = isinstance(op, ir.Conv | ir.AveragePool) and op.log is not None
    return UnsupportedError(
        f"'{op.name}': sums of channel {channel} may reach {largest}, "
        "beyond what float32 holds exactly",
        help=FEWER_OCTAVES
        if logarithmic
        else "use fewer inputs a channel or a larger output scale",
    )
