"""Clusters the weights of an int8 ONNX file: 1-D k-means for each tensor, zero among the levels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

MOST_ROUNDS = 100


def cluster(weights: npt.NDArray[np.int8], levels: int) -> npt.NDArray[np.int8]:
    """The weights with at most `levels` different codes, one of them 0.

    Lloyd's algorithm on the histogram, from quantiles on; level 0 stays where it is.
    """
    codes = np.arange(-128, 128)
    counts = np.bincount(weights.reshape(-1).astype(np.int64) + 128, minlength=256)
    middles = (np.arange(levels - 1) + 0.5) / (levels - 1)
    centres = np.append(np.quantile(weights, middles), 0.0)
    for _ in range(MOST_ROUNDS):
        nearest = np.abs(codes[:, None] - centres).argmin(axis=1)
        sums = np.bincount(nearest, counts * codes, levels)
        members = np.bincount(nearest, counts, levels)
        moved = np.where(members > 0, sums / np.maximum(members, 1), centres)
        moved[-1] = 0.0
        if (moved == centres).all():
            break
        centres = moved
    table = np.rint(centres)[np.abs(codes[:, None] - np.rint(centres)).argmin(axis=1)]
    clustered: npt.NDArray[np.int8] = table.astype(np.int8)[weights.astype(np.int64) + 128]
    return clustered


def cluster_model(source: Path, target: Path, levels: int) -> dict[str, npt.NDArray[np.int8]]:
    """Writes a model in QDQ form with clustered weights; returns them by initializer.

    Weights are int8 initializers of two dimensions or more.
    """
    model = onnx.load(source)
    clustered = {}
    for initializer in model.graph.initializer:
        if initializer.data_type == onnx.TensorProto.INT8 and len(initializer.dims) > 1:
            weights = cluster(numpy_helper.to_array(initializer), levels)
            clustered[initializer.name] = weights
            initializer.CopyFrom(numpy_helper.from_array(weights, initializer.name))
    onnx.save(model, target)
    return clustered
