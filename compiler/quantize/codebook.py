"""Weights as indices into a codebook: few int8 values a layer, a scale for each channel."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from qcompile.compiler.errors import UsageError
from qcompile.compiler.quantize.encoding import Encoding
from qcompile.compiler.quantize.layer import (
    WEIGHT_LIMIT,
    Layer,
    LayerCodes,
    nearest_level,
    quantize_bias,
    scales_with_room,
)
from qcompile.compiler.quantize.options import Options
from qcompile.compiler.quantize.squared_error import best_codebook
from qcompile.compiler.quantize.weighted_entropy import cluster

Array = npt.NDArray[Any]
Criterion = Literal["mse", "entropy"]
MOST_LEVELS = 32
ROUNDS = 4
"""How often scales and codebook are chosen in turn; later rounds change next to nothing."""
FACTORS = np.geomspace(0.5, 1.25, 61)
"""Scales that are tried, as multiples of the one that puts the largest weight on 127."""


class CodebookWeights:
    """A `scheme.WeightForm`: `levels` values a layer, 0 always among them.

    mse: the codebook with the least squared error of the real weights, in turn with the channels'
    scales where the scheme leaves those free. entropy: `weighted_entropy.cluster` of magnitudes,
    so an odd number of values, one fewer than an even `levels`; scales stay.
    """

    def __init__(
        self,
        levels: int,
        criterion: Criterion = "mse",
        *,
        free_scales: bool = True,
        int8_depthwise: bool = False,
    ) -> None:
        self.levels = levels
        self.criterion: Criterion = criterion
        self.free_scales = free_scales
        self.int8_depthwise = int8_depthwise

    @classmethod
    def of(cls, argument: str, options: Options) -> CodebookWeights:
        """The form that `--weights codebook:ARGUMENT` asks for; UsageError where there is none."""
        count, _, criterion = argument.partition(",")
        least = 3 if criterion == "entropy" else 2
        wanted = f"codebook:N or codebook:N,entropy with N from {least} to {MOST_LEVELS}"
        if not (count.isdecimal() and least <= int(count) <= MOST_LEVELS):
            raise UsageError(f"--weights codebook:{argument} is not known", help=f"give {wanted}")
        if criterion not in ("", *get_args(Criterion)):
            raise UsageError(f"--weights codebook:{argument} is not known", help=f"give {wanted}")
        return cls(
            int(count),
            "entropy" if criterion == "entropy" else "mse",
            free_scales=options.scheme == "affine",
            int8_depthwise=options.int8_depthwise,
        )

    def recode(self, layer: Layer, codes: LayerCodes, operand: Encoding) -> LayerCodes:
        """Codes of the same layer, each one of a codebook; few levels already are one."""
        if layer.depthwise and self.int8_depthwise:
            return codes
        if len(codes.levels) <= self.levels:
            return replace(codes, codebook=True)
        scales = codes.scales
        if self.criterion == "entropy":
            book = entropy_codebook(_scaled(layer, scales), self.levels)
        elif self.free_scales and scales.ndim:
            book, scales = codebook_and_scales(layer, scales, self.levels)
            scales = scales_with_room(layer, scales, operand.scale)
        else:
            book = best_codebook(_scaled(layer, scales), self.levels)
        levels = tuple(int(one) for one in book)
        return replace(
            codes,
            weights=nearest_level(_scaled(layer, scales), levels),
            scales=scales,
            bias=quantize_bias(layer, layer.bias, scales, operand.scale),
            levels=levels,
            codebook=True,
        )


def _scaled(layer: Layer, scales: Array) -> Array:
    """Weights in codes, not yet rounded."""
    return np.asarray(layer.weights / (layer.by_channel(scales) if scales.ndim else scales))


def entropy_codebook(values: Array, levels: int) -> Array:
    """Ascending int8, 0 and as many negative as positive ones: at most `levels`, 3 or more.

    Magnitudes that are few already stay: the entropy would give up the smallest one for 0, which
    is all weights of a mean.
    """
    magnitudes = np.unique(np.rint(np.abs(values)))
    if 2 * np.count_nonzero(magnitudes) + 1 > levels:
        magnitudes = np.rint(cluster(values, levels - 1 + levels % 2).representatives)
    kept = np.clip(magnitudes, 0, WEIGHT_LIMIT).astype(np.int8)
    return np.unique(np.concatenate([kept, -kept, np.zeros(1, np.int8)]))


def codebook_and_scales(layer: Layer, scales: Array, levels: int) -> tuple[Array, Array]:
    """A codebook int8 and float32 scales [channels], which make the real weights' error small."""
    rows = np.moveaxis(layer.weights, layer.axis, 0).reshape(len(scales), -1)
    whole = scales.astype(np.float64)
    chosen = whole.copy()
    for _ in range(ROUNDS):
        values = rows / chosen[:, None]
        weight = np.broadcast_to(chosen[:, None] ** 2, rows.shape)
        book = best_codebook(values, levels, weight)
        chosen = _best_scales(rows, whole, book)
    chosen = chosen.astype(np.float32)
    values = rows / chosen.astype(np.float64)[:, None]
    weight = np.broadcast_to(chosen[:, None].astype(np.float64) ** 2, rows.shape)
    return best_codebook(values, levels, weight), chosen


def _best_scales(rows: Array, whole: Array, book: Array) -> Array:
    """For each row the multiple of its `whole` scale with the least squared error."""
    levels = tuple(int(one) for one in book)
    tried = whole[:, None] * FACTORS
    errors = np.empty(tried.shape)
    for place in range(len(FACTORS)):
        steps = tried[:, place, None]
        errors[:, place] = np.sum((nearest_level(rows / steps, levels) * steps - rows) ** 2, axis=1)
    return np.asarray(tried[np.arange(len(tried)), np.argmin(errors, axis=1)])
