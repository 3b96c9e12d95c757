"""Comparison records on hand-made tensors."""

from __future__ import annotations

import numpy as np
import pytest

from qcompile.compiler import compare


def test_equal_codes_count_no_mismatch() -> None:
    x = np.arange(24, dtype=np.int8).reshape(2, 3, 4)
    record = compare.compare_layer("a", x, x)
    assert record.to_json() == {"name": "a", "elements": 24, "mismatches": 0}
    assert (record.max_steps, record.first) == (0, None)


def test_the_first_difference_is_located() -> None:
    x = np.zeros((2, 3, 4), np.int8)
    y = x.copy()
    y[1, 2, 1], y[1, 2, 3] = -5, 1
    record = compare.compare_layer("a", x, y)
    assert (record.mismatches, record.max_steps) == (2, 5)
    assert record.first == "input 1, index [2, 1]: expected -5, got 0"


def test_uint8_codes_are_moved_beside_int8_codes() -> None:
    ours = np.array([[-128, 0, 127]], np.int8)
    reference = np.array([[0, 128, 255]], np.uint8)
    assert compare.compare_layer("a", ours, reference).mismatches == 0
    assert compare.compare_layer("a", reference, reference).mismatches == 0


def test_reshaped_tensors_are_compared_in_row_major_order() -> None:
    x = np.arange(8, dtype=np.int8)
    assert compare.compare_layer("a", x.reshape(2, 4, 1, 1), x.reshape(2, 4)).mismatches == 0


def test_tensors_of_other_sizes_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"^shapes \(1, 3\) and \(1, 4\) do not match$"):
        compare.compare_layer("a", np.zeros((1, 3), np.int8), np.zeros((1, 4), np.int8))


def test_records_of_batches_add_up() -> None:
    zero, one = np.zeros((1, 4), np.int8), np.ones((1, 4), np.int8)
    record = compare.compare_layer("a", zero, zero).merge(compare.compare_layer("a", zero, one))
    assert (record.elements, record.mismatches, record.max_steps) == (8, 4, 1)
    output = compare.compare_output("o", zero, zero, scale=None, classes=True)
    total = output.merge(
        compare.compare_output(
            "o", zero, np.array([[3, 0, 0, 0]], np.int8), scale=None, classes=True
        )
    )
    assert total.to_json() == {
        "name": "o",
        "elements": 8,
        "differing": 1,
        "max_steps": 3,
        "max_rel_diff": 1.0,
        "top1_agreement": 1.0,
    }


def test_steps_of_a_float_output_count_its_scale() -> None:
    ours = np.array([[0.5, 1.0]], np.float32)
    reference = np.array([[0.5, 1.5]], np.float32)
    record = compare.compare_output("o", ours, reference, scale=0.25, classes=True)
    assert (record.differing, record.max_steps) == (1, 2)
    assert record.max_rel_diff == pytest.approx(0.5 / 1.5)
    assert compare.compare_output("o", ours, reference, scale=None, classes=True).max_steps is None


def test_top1_agrees_with_any_of_tied_maxima() -> None:
    ours = np.array([[1, 9, 9], [9, 9, 1], [9, 1, 1]], np.int8)
    reference = np.array([[1, 8, 9], [9, 9, 1], [9, 9, 1]], np.int8)
    # Our first maximum is class 1 of the first input, where the reference has class 2 alone.
    assert compare.count_agreeing(ours, reference) == 2


def test_an_output_without_classes_has_no_top1() -> None:
    picture = np.zeros((2, 3, 4), np.int8)
    record = compare.compare_output("o", picture, picture, scale=None, classes=False)
    assert record.to_json()["top1_agreement"] is None


def test_infinities_and_nan_are_equal_to_themselves_alone() -> None:
    x = np.array([[np.nan, np.inf, -np.inf, 2.0]], np.float32)
    record = compare.compare_output("y", x, x.copy(), scale=None, classes=False)
    assert (record.differing, record.max_rel_diff) == (0, 0.0)
    other = np.array([[1.0, -np.inf, -np.inf, np.nan]], np.float32)
    record = compare.compare_output("y", x, other, scale=0.5, classes=False)
    assert (record.differing, record.max_steps) == (3, None)
    assert record.to_json()["max_rel_diff"] is None, "JSON has no infinity"
