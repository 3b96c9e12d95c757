"""Rounding search: which of its two neighbouring levels each weight takes.

The objective is AdaRound's (Nagel et al., "Up or Down? Adaptive Rounding for Post-Training
Quantization", ICML 2020, equation 20): the squared error of the layer's results, between the float
weights on float operands and the coded ones on operands as they are when everything in front is
quantized. It is quadratic in the codes, so the operands' second moments say it exactly, and single
flips are tried against these instead of against the inputs. Adam on AdaRound's continuous form of
this objective comes to the same errors in many times the time. Leaving the two neighbours, by error
feedback as in GPTQ (Frantar et al., ICLR 2023), makes smaller errors of the calibration inputs and
larger ones of others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompile.compiler.quantize.corrections import Sample
from qcompile.compiler.quantize.layer import LayerCodes
from qcompile.compiler.quantize.linear import (
    Columns,
    result_matrix,
    weight_matrix,
    weights_of_matrix,
)

Array = npt.NDArray[Any]
ROUNDS = 3
"""Flips tried for each channel, at most, as a multiple of its weights."""
MOST_ROWS = 1 << 15
"""Rows of a layer that are looked at, about."""
LEAST_GAIN = 1e-9
"""Of the squared error, that a flip must save."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """Second moments of a layer's columns and wanted results, [groups, ...], sums over rows.

    With `centred`, of their differences from their means: a bias that follows takes these.
    """

    columns: Array
    """[groups, K, K]"""
    results: Array
    """[groups, channels, K]: with the columns."""
    squares: Array
    """[groups, channels]: of the results."""


class RoundingSearch:
    """Flips one weight of each channel at a time, the one that saves most, while any does."""

    def __init__(self, *, centred: bool) -> None:
        self.centred = centred

    def correct(self, sample: Sample, codes: LayerCodes) -> LayerCodes:
        """Codes between the same neighbours, and the same bias."""
        layer = sample.layer
        bias = None if self.centred else codes.real_bias(layer, sample.operand.scale)
        moments = moments_of(sample, bias, centred=self.centred)
        ones = np.ones(layer.weights.shape)
        steps = codes.scales if codes.scales.ndim == 0 else layer.by_channel(codes.scales)
        scales = weight_matrix(layer, ones * steps)
        exact = weight_matrix(layer, layer.weights / steps)
        start = weight_matrix(layer, codes.weights).astype(np.float64)
        found = search(moments, scales[:, :, :1], exact, start, np.asarray(codes.levels))
        return replace(codes, weights=weights_of_matrix(layer, found).astype(np.int8))


def moments_of(sample: Sample, bias: Array | None, *, centred: bool) -> Moments:
    """Of what the layer reads, and of what it should give less its bias."""
    columns_of = Columns(sample.layer)
    sample = _thinned(sample)
    sums: list[Array] = []
    totals: list[Array] = []
    count = 0
    for rows in columns_of.chunks(sample.values):
        columns = columns_of.of(sample.values[rows])
        results = result_matrix(sample.layer, sample.wanted[rows]).astype(np.float64)
        if bias is not None:
            results = results - bias.reshape(len(results), 1, -1)
        turned = results.swapaxes(1, 2)
        parts = [columns.swapaxes(1, 2) @ columns, turned @ columns, (results**2).sum(1)]
        sums = parts if not sums else [a + b for a, b in zip(sums, parts, strict=True)]
        means = [columns.sum(1), results.sum(1)]
        totals = means if not totals else [a + b for a, b in zip(totals, means, strict=True)]
        count += columns.shape[1]
    if centred:
        column, result = totals
        sums[0] = sums[0] - column[:, :, None] * column[:, None, :] / count
        sums[1] = sums[1] - result[:, :, None] * column[:, None, :] / count
        sums[2] = sums[2] - result**2 / count
    return Moments(columns=sums[0], results=sums[1], squares=sums[2])


def _thinned(sample: Sample) -> Sample:
    """Fewer inputs, evenly spaced, where each gives many rows."""
    rows = result_matrix(sample.layer, sample.wanted[:1]).shape[1]
    step = max(1, len(sample.values) * rows // MOST_ROWS)
    return replace(sample, values=sample.values[::step], wanted=sample.wanted[::step])


def search(moments: Moments, scales: Array, exact: Array, start: Array, levels: Array) -> Array:
    """Codes [groups, channels, K] of small squared error, each one of two neighbours.

    `exact` are the real weights in steps of `scales` [groups, channels, 1]; `start` are the codes
    to begin with. The error of codes q is q'Hq - 2 q'r + const, in steps squared.
    """
    codes, other = start.copy(), other_neighbour(exact, start, levels)
    diagonal = np.einsum("gkk->gk", moments.columns)[:, None, :]
    slope = codes @ moments.columns - moments.results / scales
    floor = LEAST_GAIN * moments.squares / scales[:, :, 0] ** 2
    for _ in range(ROUNDS * exact.shape[2]):
        change = other - codes
        gain = -(2 * change * slope + change**2 * diagonal)
        best = gain.argmax(axis=2)
        picked = best[:, :, None]
        useful = np.take_along_axis(gain, picked, 2)[:, :, 0] > floor
        if not useful.any():
            break
        step = np.take_along_axis(change, picked, 2)[:, :, 0] * useful
        slope += step[:, :, None] * _rows(moments.columns, best)
        flipped = np.take_along_axis(codes, picked, 2)
        np.put_along_axis(codes, picked, flipped + step[:, :, None], 2)
        rest = np.take_along_axis(other, picked, 2)
        np.put_along_axis(other, picked, np.where(useful[:, :, None], flipped, rest), 2)
    return codes


def _rows(columns: Array, picked: Array) -> Array:
    """Row `picked` [groups, channels] of each group's matrix: [groups, channels, K]."""
    return np.take_along_axis(columns, picked[:, :, None], axis=1)


def other_neighbour(exact: Array, codes: Array, levels: Array) -> Array:
    """The level on the other side of the exact value; the code itself where there is none."""
    place = np.searchsorted(levels, codes)
    up, down = exact > codes, exact < codes
    place = place + up.astype(int) - down.astype(int)
    inside = (place >= 0) & (place < len(levels))
    return np.where(inside, levels[np.clip(place, 0, len(levels) - 1)], codes).astype(np.float64)
