"""The multiply self-test: does every multiplier of the array on a board compute what it should."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from qcompile.runtime.artifact import MULTIPLY_TEST, Artifact, MultiplyTest
from qcompile.runtime.errors import BoardError
from qcompile.runtime.link import Link
from qcompile.runtime.protocol import State
from qcompile.runtime.tensors import RUN_SECONDS, read_tensor, write_tensors

SHOWN = 4
"""Wrong multipliers that a message names."""


def check_multipliers(link: Link, artifact: Artifact, test: MultiplyTest) -> None:
    """Run the self-test's program; BoardError names the multipliers whose sums are wrong.

    selftest.npz has int8 codes `input/NAME` and `output/NAME`, and `units/NAME`, int16
    [3, channels, height, width]: line, row and column of the multiplier behind each code.
    """
    held = artifact.tensors(MULTIPLY_TEST)
    write_tensors(link, test.inputs, {p.name: held[f"input/{p.name}"] for p in test.inputs})
    link.start(test.program_address)
    status = link.wait(RUN_SECONDS)
    if status.state != State.DONE:
        raise BoardError(
            f"{link.name}: the multiply self-test does not run to its end",
            context=(f"state {status.state.name}, error {status.error}",),
            help="load the board's bitstream again",
        )
    wrong: set[tuple[int, int, int]] = set()
    for place in test.outputs:
        codes = read_tensor(link, place)
        expected = held[f"output/{place.name}"].reshape(codes.shape)
        wrong |= _units(held[f"units/{place.name}"], codes != expected)
    if wrong:
        raise BoardError(
            f"{link.name}: {len(wrong)} of the array's multipliers compute wrong sums",
            context=tuple(_named(sorted(wrong))),
            help="load the bitstream again, then try a lower clock (compile with --clock);"
            " a board that still fails is damaged",
        )


def _units(units: npt.NDArray[Any], differs: npt.NDArray[np.bool_]) -> set[tuple[int, int, int]]:
    return {(int(line), int(row), int(column)) for line, row, column in units[:, differs].T}


def _named(wrong: list[tuple[int, int, int]]) -> list[str]:
    lines = [f"line {line}, row {row}, column {column}" for line, row, column in wrong[:SHOWN]]
    return lines + ([f"and {len(wrong) - SHOWN} more"] if len(wrong) > SHOWN else [])
