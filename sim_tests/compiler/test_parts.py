"""Tables show a layer's parts as one row."""

from __future__ import annotations

from qcompile.compiler.layer_table import Row, row_lines
from qcompile.compiler.parts import folded, operator_of, total


def row(name: str, cycles: int | None = 1, memory: int = 10) -> Row:
    return {
        "name": name,
        "op": "Conv",
        "runs": "accelerator",
        "input_shape": [4, 2, 2],
        "output_shape": [4, 2, 2],
        "cycles": cycles,
        "macs": 5,
        "memory_bytes": memory,
        "weight_bytes": 7,
    }


def test_parts_join_the_layer_whose_name_they_begin_with() -> None:
    # A tensor's own name may have a colon: `a:0` is no part of anything, `a:0:max1` is of it.
    names = ["y:channels0", "a:0:max1", "y:channels1", "a:0", "y", "ya"]
    groups = [[part["name"] for part in parts] for parts in folded([row(name) for name in names])]
    assert groups == [["a:0:max1", "a:0"], ["y:channels0", "y:channels1", "y"], ["ya"]]


def test_a_row_has_the_sums_of_its_parts_and_their_largest_memory() -> None:
    parts = [row("y:channels0", 3, 20), row("y", 4)]
    assert operator_of(parts) == "Conv in 2" and total(parts, "cycles") == 7
    assert total([row("y", None)], "cycles") is None
    line = " ".join(row_lines(parts)[-1].split())
    assert line == "y Conv in 2 accelerator 4x2x2 4x2x2 7 10 20 14"
