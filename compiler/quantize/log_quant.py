"""Activations as powers of two: levels (fsr, step) on a grid of sixteenths of an octave.

Park, Ahn, Yoo, "Weighted-Entropy-based Quantization for Deep Neural Networks" (CVPR 2017), as its
authors' caffe-WQ searches fsr and step. Values of 0 and below have code 0.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from qcompile.compiler.log_format import OCTAVE, LogFormat

Array = npt.NDArray[Any]
Criterion = Literal["mse", "entropy"]
CRITERIA: tuple[Criterion, ...] = ("mse", "entropy")

BINS = 1024
FIRST = -640
"""Lower end of the histogram: 2**-40, as in caffe-WQ; its end is 2**24."""
FAR = 4
"""How many times the least squared error a format may have that is measured in another way."""
STEPS = tuple(range(2, 33, 2))
"""Even, so that the thresholds half a step away are bins' ends."""


def find_format(
    values: Array, levels: int, criterion: Criterion = "mse", steps: tuple[int, ...] = STEPS
) -> LogFormat:
    """The (fsr, step) that is best for values, of which those above 0 are looked at.

    mse: the least squared error of a bin's mean. entropy: the highest -sum(value * p * log p) over
    levels above 0, p being shares of all values above 0. Without such values, the top is 1.
    """
    if levels < 2 or not steps:
        raise ValueError(f"levels must be 2 or more, and steps some, not {levels} and {steps}")
    histogram = Histogram(values)
    if not histogram.counts.any():
        return LogFormat(fsr=-(levels - 2) * steps[0], step=steps[0], levels=levels)
    score = histogram.error if criterion == "mse" else histogram.lack_of_entropy
    found = [(*score(step, levels), step) for step in steps]
    _, fsr, step = min(found)
    return LogFormat(fsr=fsr, step=step, levels=levels)


def near_formats(
    values: Array, levels: int, steps: tuple[int, ...] = STEPS
) -> tuple[LogFormat, ...]:
    """Formats of small squared error, for who measures them in another way.

    For each step, unless its error is far above the least, the best fsr and ones half a step and a
    step around it.
    """
    histogram = Histogram(values)
    if not histogram.counts[-1]:
        return (find_format(values, levels, "mse", steps),)
    least = {step: histogram.error(step, levels) for step in steps}
    worst = FAR * (min(error for error, _ in least.values()) + histogram.squares)
    return tuple(
        LogFormat(fsr=fsr + half * step // 2, step=step, levels=levels)
        for step, (error, fsr) in least.items()
        for half in range(-2, 3)
        if error + histogram.squares <= worst
    )


class Histogram:
    """Of positive values over bins of a sixteenth of an octave: their counts and sums.

    Prefix sums: entry b is of all values in bins below b. `squares` is the sum of all squares.
    """

    def __init__(self, values: Array) -> None:
        flat = np.asarray(values, np.float64).reshape(-1)
        positive = flat[flat > 0]
        places = np.floor(OCTAVE * np.log2(positive)).astype(np.int64) - FIRST
        places = np.clip(places, 0, BINS - 1)
        members = np.bincount(places, minlength=BINS)
        self.squares = float(np.sum(positive**2))
        self.counts = np.append(0, np.cumsum(members))
        self.sums = np.append(0, np.cumsum(np.bincount(places, positive, BINS)))
        held = np.flatnonzero(members)
        self.held = (int(held[0]), int(held[-1])) if held.size else (0, 0)

    def _grid(self, step: int, levels: int) -> tuple[Array, Array, Array]:
        """Each fsr that may be best, its thresholds' bins [fsr, levels - 1], and its values.

        Code 1's bins may end below all values, and the last threshold may be the last bin's.
        """
        low, high = (place + FIRST for place in self.held)
        fsr = np.arange(low - (levels - 1) * step, high + step // 2 + 1)
        exponents = fsr[:, None] + np.arange(levels - 1)[None, :] * step
        edges = np.clip(exponents - step // 2 - FIRST, 0, BINS)
        return fsr, edges, np.exp2(exponents / OCTAVE)

    def error(self, step: int, levels: int) -> tuple[float, int]:
        """Least sum of squared errors with a step, and its fsr."""
        fsr, edges, values = self._grid(step, levels)
        ends = np.append(edges[:, 1:], np.full((len(fsr), 1), BINS), axis=1)
        counts, sums = self.counts[ends] - self.counts[edges], self.sums[ends] - self.sums[edges]
        errors = np.sum(values**2 * counts - 2 * values * sums, axis=1)  # plus all squares
        best = int(np.argmin(errors))
        return float(errors[best]), int(fsr[best])

    def lack_of_entropy(self, step: int, levels: int) -> tuple[float, int]:
        """Highest weighted entropy with a step, negated, and its fsr."""
        fsr, edges, values = self._grid(step, levels)
        ends = np.append(edges[:, 1:], np.full((len(fsr), 1), BINS), axis=1)
        shares = (self.counts[ends] - self.counts[edges]) / self.counts[-1]
        entropies = -np.sum(values * shares * np.log(np.maximum(shares, 1e-300)), axis=1)
        best = int(np.argmax(entropies))
        return -float(entropies[best]), int(fsr[best])
