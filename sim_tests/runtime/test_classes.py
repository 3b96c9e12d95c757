"""What counts as classes, which labels fit, and how shares of inputs are worded."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from qcompile.runtime import classes
from qcompile.runtime.classes import Classes
from qcompile.runtime.inputs import InputsError, Samples

PATH = Path("x.npz")
TEN = Classes(output="logits", count=10)


@pytest.mark.parametrize(
    ("output", "inputs", "expected"),
    [
        ((1, 10), [(1, 1, 8, 8)], 10),
        ((1, 12, 1, 1), [(1, 49, 10, 1)], 12),
        ((1, 1), [(1, 8)], None),  # a single number
        ((1, 3, 4), [(1, 8)], None),  # a picture
        ((1, 640), [(1, 640)], None),  # an autoencoder
        ((1, 640, 1, 1), [(1, 4), (1, 1, 640)], None),
        ((1, 2), [(1, 640)], 2),
    ],
)
def test_an_output_has_classes_when_it_is_a_vector_that_is_no_input_again(
    output: tuple[int, ...], inputs: list[tuple[int, ...]], expected: int | None
) -> None:
    assert classes.count_classes(output, inputs) == expected


def test_the_classes_of_a_model_are_those_of_its_first_output_that_has_some() -> None:
    outputs = {"map": (1, 4, 4), "scores": (1, 5), "more": (1, 7)}
    assert classes.find_classes(outputs, [(1, 8)]) == Classes(output="scores", count=5)
    assert classes.find_classes({"map": (1, 4, 4)}, [(1, 8)]) is None


def test_the_class_of_an_input_is_its_first_maximum() -> None:
    scores = np.array([[[[0]], [[5]], [[5]]], [[[7]], [[5]], [[0]]]], np.int8)
    assert classes.chosen_classes(scores).tolist() == [1, 0]


def samples(labels: list[int] | None) -> Samples:
    """Two inputs."""
    array = None if labels is None else np.array(labels)
    return Samples(tensors={"x": np.zeros((2, 4))}, labels=array, notes=("before",))


@pytest.mark.parametrize("labels", [[0, 9], None])
def test_labels_that_fit_are_kept(labels: list[int] | None) -> None:
    given = samples(labels)
    assert classes.fit_labels(PATH, given, TEN) is given


@pytest.mark.parametrize("labels", [[1, 10], [-1, 3]])
def test_labels_that_are_no_classes_are_refused(labels: list[int]) -> None:
    message = (
        f"x.npz: labels 'y' go from {labels[0]} to {labels[1]}, "
        "but output 'logits' has the classes 0 to 9"
    )
    with pytest.raises(InputsError, match=f"^{re.escape(message)}$") as caught:
        classes.fit_labels(PATH, samples(labels), TEN)
    assert caught.value.help == "store the index of each input's class, or leave 'y' away"


def test_labels_of_a_model_without_classes_are_left_aside_and_it_is_said() -> None:
    fitted = classes.fit_labels(PATH, samples([0, 1]), None)
    assert fitted.labels is None
    assert fitted.notes == (
        "before",
        "labels 'y' are left aside: no output of the model has classes",
    )


def test_few_inputs_are_counted() -> None:
    assert classes.share(2 / 3, 3) == "2 of 3"
    assert classes.share(18 / 19, 19) == "18 of 19"
    assert classes.share(0.95, 20) == "95.00%"
    assert [classes.counted(n, "input") for n in (1, 3, 1000)] == [
        *("1 input", "3 inputs", "1,000 inputs")
    ]
