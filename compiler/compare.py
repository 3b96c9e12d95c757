"""Element by element: what we compute against a reference, in the records of sim.json.

Codes are compared exactly. Records of several batches of inputs add up, so that a long list of
inputs never has to be in memory at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompile.runtime.classes import chosen_classes

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRecord:
    """A layer's tensor over all inputs: how many elements, how many differ, by how many steps.

    `first` describes the first difference, None where there is none.
    """

    name: str
    elements: int
    mismatches: int
    max_steps: int
    first: str | None

    def merge(self, later: LayerRecord) -> LayerRecord:
        """The record of both batches."""
        return LayerRecord(
            name=self.name,
            elements=self.elements + later.elements,
            mismatches=self.mismatches + later.mismatches,
            max_steps=max(self.max_steps, later.max_steps),
            first=self.first or later.first,
        )

    def to_json(self) -> dict[str, object]:
        """As sim.json lists it."""
        return {"name": self.name, "elements": self.elements, "mismatches": self.mismatches}


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputRecord:
    """A model output over all inputs.

    Attributes
    ----------
    elements, differing : int
    max_steps : int or None
        Largest difference in codes; None for a float output without a QuantizeLinear.
    max_rel_diff : float
        Largest difference, relative to the reference's largest magnitude for the same input
        (absolute where that is 0). Equal infinities and NaNs differ by 0; infinite, and null in
        sim.json, where one side alone is no number.
    inputs, agreeing : int or None
        How many inputs, and how many of them have a class that is among the reference's maxima;
        None where the output has no classes.
    """

    name: str
    elements: int
    differing: int
    max_steps: int | None
    max_rel_diff: float
    inputs: int
    agreeing: int | None

    def merge(self, later: OutputRecord) -> OutputRecord:
        """The record of both batches."""
        return OutputRecord(
            name=self.name,
            elements=self.elements + later.elements,
            differing=self.differing + later.differing,
            max_steps=_both(max, self.max_steps, later.max_steps),
            max_rel_diff=max(self.max_rel_diff, later.max_rel_diff),
            inputs=self.inputs + later.inputs,
            agreeing=_both(int.__add__, self.agreeing, later.agreeing),
        )

    def to_json(self) -> dict[str, object]:
        """As sim.json lists it."""
        return {
            "name": self.name,
            "elements": self.elements,
            "differing": self.differing,
            "max_steps": self.max_steps,
            "max_rel_diff": self.max_rel_diff if np.isfinite(self.max_rel_diff) else None,
            "top1_agreement": None if self.agreeing is None else self.agreeing / self.inputs,
        }


def _both(function: Any, a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else int(function(a, b))


def compare_layer(name: str, ours: Array, reference: Array) -> LayerRecord:
    """Codes [N, ...] of one tensor; shapes may differ by reshaping, types by 128 (uint8, int8)."""
    a, b = aligned_codes(ours, reference)
    different = a != b
    count = int(different.sum())
    return LayerRecord(
        name=name,
        elements=a.size,
        mismatches=count,
        max_steps=int(np.abs(a - b).max(initial=0)),
        first=_describe_first(different.reshape(ours.shape), ours, b) if count else None,
    )


def aligned_codes(ours: Array, reference: Array) -> tuple[Array, Array]:
    """Both as int64 [N, elements], uint8 codes moved by -128 where the other is int8."""
    if ours.size != reference.size or len(ours) != len(reference):
        raise ValueError(f"shapes {ours.shape} and {reference.shape} do not match")
    if ours.dtype != reference.dtype:
        ours, reference = as_int8(ours), as_int8(reference)
    a, b = (x.astype(np.int64).reshape(len(x), -1) for x in (ours, reference))
    return a, b


def as_int8(codes: Array) -> npt.NDArray[np.int8]:
    """uint8 codes moved by -128; int8 codes as they are."""
    offset = 128 if codes.dtype == np.uint8 else 0
    return (codes.astype(np.int64) - offset).astype(np.int8)


def _describe_first(different: npt.NDArray[np.bool_], ours: Array, reference: Array) -> str:
    index = np.unravel_index(int(np.argmax(different)), different.shape)
    where = [int(i) for i in index]
    expected = reference.reshape(ours.shape)[index]
    return f"input {where[0]}, index {where[1:]}: expected {expected}, got {ours[index]}"


def compare_output(
    name: str, ours: Array, reference: Array, *, scale: float | None, classes: bool
) -> OutputRecord:
    """A model output [N, ...]; `scale` is a float output's quantization step, None if it has none.

    Integer outputs count their own codes. `classes` says whether it holds scores of classes, see
    `runtime.classes`.
    """
    if ours.shape != reference.shape:
        reference = reference.reshape(ours.shape)
    a, b = (x.astype(np.float64).reshape(len(ours), -1) for x in (ours, reference))
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        difference = np.where(same, 0.0, np.abs(a - b))
        difference[np.isnan(difference)] = np.inf
        magnitude = np.abs(b).max(axis=1, keepdims=True, initial=0.0, where=np.isfinite(b))
        relative = difference / np.where(magnitude > 0, magnitude, 1.0)
    return OutputRecord(
        name=name,
        elements=ours.size,
        differing=int((~same).sum()),
        max_steps=_steps(ours, difference, scale),
        max_rel_diff=float(relative.max(initial=0.0)),
        inputs=len(ours),
        agreeing=count_agreeing(ours, reference) if classes else None,
    )


def _steps(ours: Array, difference: Array, scale: float | None) -> int | None:
    if ours.dtype.kind in "iu":
        return int(difference.max(initial=0.0))
    largest = difference.max(initial=0.0)
    return None if scale is None or np.isinf(largest) else int(np.rint(largest / scale))


def count_agreeing(ours: Array, reference: Array) -> int:
    """Inputs whose class, our first maximum, is among the reference's maxima."""
    expected = reference.reshape(len(reference), -1)
    chosen = np.take_along_axis(expected, chosen_classes(ours)[:, np.newaxis], axis=1)[:, 0]
    return int((chosen == expected.max(axis=1)).sum())
