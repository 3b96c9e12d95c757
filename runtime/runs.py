"""Runs of a program on a board: one input, or many, which queue where the build and link can."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompile.runtime.artifact import STORED, Artifact, Place
from qcompile.runtime.driver import Board
from qcompile.runtime.input_queue import InputQueue
from qcompile.runtime.link import QueueLink
from qcompile.runtime.tensors import RUN_SECONDS, read_tensor, write_tensors

Array = npt.NDArray[Any]
Codes = Mapping[str, Array]
"""int8 codes of every accelerator input, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run: codes [channels, height, width] of every accelerator output, by name; cycles."""

    codes: dict[str, npt.NDArray[np.int8]]
    cycles: int


def stored_codes(artifact: Artifact) -> dict[str, Array]:
    """Constant operands by name."""
    if not artifact.stored:
        return {}
    held = artifact.tensors(STORED)
    return {place.name: held[place.name] for place in artifact.stored}


def run_codes(board: Board, artifact: Artifact, codes: Codes) -> int:
    """One run on int8 codes by accelerator input and stored constant; returns its cycles."""
    return _run(board, artifact, (*artifact.stored, *artifact.accelerator_inputs), codes)


def _run(board: Board, artifact: Artifact, places: Sequence[Place], codes: Codes) -> int:
    """Write the tensors of some places, run; the cycles."""
    write_tensors(board.link, places, codes)
    board.link.start(artifact.program_address)
    return board.finished(board.link.wait(RUN_SECONDS)).cycles


def runs(board: Board, artifact: Artifact, samples: Iterable[Codes]) -> Iterator[Run]:
    """One run for each sample, in their order; `board.check` must have accepted the build.

    Where inputs queue (`Artifact.queue`) and the link reaches the memory during a run, the next
    sample is taken and written, and the last outputs are read, while the board computes. A run
    comes out when the next one has started, so `samples` must not wait for it.
    """
    queue, link = artifact.queue, board.link
    if queue is not None and isinstance(link, QueueLink):
        return _queued(board, link, artifact, queue, samples)
    return _one_by_one(board, artifact, samples)


def _one_by_one(board: Board, artifact: Artifact, samples: Iterable[Codes]) -> Iterator[Run]:
    stored = stored_codes(artifact)
    places = (*artifact.stored, *artifact.accelerator_inputs)
    for sample in samples:
        cycles = _run(board, artifact, places, {**stored, **sample})
        yield Run(codes=_outputs(board, artifact), cycles=cycles)
        if artifact.queue is not None:  # no run overwrites constants
            places = artifact.accelerator_inputs


def _queued(
    board: Board, link: QueueLink, artifact: Artifact, queue: InputQueue, samples: Iterable[Codes]
) -> Iterator[Run]:
    following = iter(samples)
    sample = next(following, None)
    if sample is None:
        return
    places = (*artifact.stored, *artifact.accelerator_inputs)
    write_tensors(link, places, {**stored_codes(artifact), **sample})
    link.start(artifact.program_address)
    while True:
        sample = next(following, None)
        if sample is not None:
            board.finished(link.wait(RUN_SECONDS, layers=queue.inputs_free), running=True)
            write_tensors(link, artifact.accelerator_inputs, sample)
        cycles = board.finished(link.wait(RUN_SECONDS)).cycles
        if sample is None:
            yield Run(codes=_outputs(board, artifact), cycles=cycles)
            return
        # This run keeps off the outputs until they are read.
        link.start(artifact.program_address, stop_after=queue.outputs_from)
        codes = _outputs(board, artifact)
        link.lift_pause()
        yield Run(codes=codes, cycles=cycles)


def _outputs(board: Board, artifact: Artifact) -> dict[str, npt.NDArray[np.int8]]:
    return {p.name: read_tensor(board.link, p) for p in artifact.accelerator_outputs}
