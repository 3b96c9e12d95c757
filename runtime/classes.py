"""Which output of a model holds the scores of classes, labels that fit it, and shares of inputs.

An output has classes when it is a vector for each input, so that one axis is longer than 1, and no
input of the model is a vector of the same length: an autoencoder gives back what it got. A model's
classes are those of its first such output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompile.runtime.inputs import InputsError, Samples

Array = npt.NDArray[Any]
Shape = Sequence[int]

FEW_INPUTS = 20
"""Fewer inputs than these are counted one by one: a percentage would promise too much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Classes:
    """The output that holds the scores, and how many classes there are."""

    output: str
    count: int


def count_classes(output: Shape, inputs: Sequence[Shape]) -> int | None:
    """Classes of an output of this shape [1, ...] in a model with inputs of these; None: none."""
    own = _long_axes(output)
    if len(own) != 1 or any(_long_axes(shape) == own for shape in inputs):
        return None
    return own[0]


def _long_axes(shape: Shape) -> list[int]:
    return [size for size in shape[1:] if size != 1]


def find_classes(outputs: Mapping[str, Shape], inputs: Sequence[Shape]) -> Classes | None:
    """The first output that has classes."""
    for name, shape in outputs.items():
        count = count_classes(shape, inputs)
        if count is not None:
            return Classes(output=name, count=count)
    return None


def chosen_classes(scores: Array) -> npt.NDArray[np.int64]:
    """Scores [N, ...] to the first maximum of each input, int64 [N]."""
    return np.asarray(scores.reshape(len(scores), -1).argmax(axis=1), np.int64)


def fit_labels(path: Path, samples: Samples, classes: Classes | None) -> Samples:
    """The samples, their labels checked; labels of a model without classes are left aside.

    Raises InputsError, naming the file, where a label is no class.
    """
    labels = samples.labels
    if labels is None:
        return samples
    if classes is None:
        note = "labels 'y' are left aside: no output of the model has classes"
        return replace(samples, labels=None, notes=(*samples.notes, note))
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes.count:
        raise InputsError(
            f"{path}: labels 'y' go from {low} to {high}, "
            f"but output '{classes.output}' has the classes 0 to {classes.count - 1}",
            help="store the index of each input's class, or leave 'y' away",
        )
    return samples


def share(part: float, count: int) -> str:
    """A share of `count` inputs: `98.89%`, or `2 of 3` of a few."""
    return f"{part:.2%}" if count >= FEW_INPUTS else f"{round(part * count)} of {count}"


def counted(count: int, noun: str) -> str:
    """`1 input`, `3 inputs`, `1,000 inputs`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
