"""Runs inputs through a build on a board, and replays the build's golden vectors."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompile.runtime.artifact import GOLDEN, Artifact, Place
from qcompile.runtime.driver import Board
from qcompile.runtime.errors import BoardError
from qcompile.runtime.host_ops import run_host_ops
from qcompile.runtime.protocol import ALL_LAYERS, State
from qcompile.runtime.runs import Run, run_codes, runs, stored_codes
from qcompile.runtime.tensors import RUN_SECONDS, read_tensor, write_tensors

Array = npt.NDArray[Any]
Int8Array = npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """Outputs of N inputs.

    Attributes
    ----------
    outputs : dict of name to array [N, ...]
        The model's own outputs, after the epilogue.
    codes : dict of name to int8 [N, channels, height, width]
        What the accelerator computed.
    cycles : tuple of int
        Of each input.
    seconds : float
        Real time for all, link included.
    """

    outputs: dict[str, Array]
    codes: dict[str, Int8Array]
    cycles: tuple[int, ...]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTest:
    """What a self-test compared; `failure` names the first difference, None where all agree."""

    layers: int
    inputs: int
    failure: str | None


def run_inputs(
    board: Board,
    artifact: Artifact,
    inputs: Mapping[str, Array],
    *,
    progress: Callable[[int], None] = lambda done: None,
) -> RunResult:
    """Run N inputs, arrays [N, ...] by the model's input names, one after the other; the next is
    written while one is computed, where `runs` can.

    `board.check` must have accepted the build. `progress` gets the number of inputs done.
    """
    begin = time.perf_counter()
    values = run_host_ops(artifact.prologue, inputs)
    count = len(next(iter(inputs.values())))
    names = [place.name for place in artifact.accelerator_inputs]
    samples = ({name: values[name][index] for name in names} for index in range(count))
    done: list[Run] = []
    for run in runs(board, artifact, samples):
        done.append(run)
        progress(len(done))
    outputs = [place.name for place in artifact.accelerator_outputs]
    codes = {name: np.stack([run.codes[name] for run in done]) for name in outputs}
    known = run_host_ops(artifact.epilogue, {**values, **codes})
    return RunResult(
        outputs={name: known[name] for name in artifact.outputs},
        codes=codes,
        cycles=tuple(run.cycles for run in done),
        seconds=time.perf_counter() - begin,
    )


def dump_layers(
    board: Board,
    artifact: Artifact,
    codes: Mapping[str, Array],
    on_layer: Callable[[int, Int8Array], bool],
) -> None:
    """Run one input with a pause after each layer, whose codes `on_layer` gets with its index.

    Ends, and resets the accelerator, when `on_layer` returns False.
    """
    write_tensors(board.link, (*artifact.stored, *artifact.accelerator_inputs), codes)
    for index, place in enumerate(artifact.layers):
        if index == 0:
            board.link.start(artifact.program_address, stop_after=place.done)
        else:
            board.link.resume(stop_after=place.done)
        status = board.finished(board.link.wait(RUN_SECONDS))
        if status.layers != place.done:
            raise BoardError(
                f"{board.name}: the accelerator paused after {status.layers} layers,"
                f" not {place.done}",
                help="program the board again: qcompile flash DIR",
            )
        if not on_layer(index, read_tensor(board.link, place)):
            board.link.abort()
            return
    if board.link.status().state == State.PAUSED:
        board.link.resume(stop_after=ALL_LAYERS)
        board.finished(board.link.wait(RUN_SECONDS))


def self_test(board: Board, artifact: Artifact) -> SelfTest:
    """Replay golden.npz: every layer of its first input, then all outputs."""
    golden = artifact.tensors(GOLDEN)
    stored = stored_codes(artifact)
    inputs = {p.name: golden[f"input/{p.name}"] for p in artifact.accelerator_inputs}
    count = len(next(iter(inputs.values())))
    failures: list[str] = []

    def sample(index: int) -> dict[str, Array]:
        return {**stored, **{name: codes[index] for name, codes in inputs.items()}}

    def compare(index: int, codes: Int8Array) -> bool:
        expected = golden[f"layer/{index}"].reshape(codes.shape)
        same = np.array_equal(codes, expected)
        if not same:
            failures.append(_difference(artifact.layers[index], index, codes, expected))
        return same

    dump_layers(board, artifact, sample(0), compare)
    for index in range(count if not failures else 0):
        run_codes(board, artifact, sample(index))
        for place in artifact.accelerator_outputs:
            wanted = golden[f"output/{place.name}"][index].reshape(place.shape)
            if not np.array_equal(read_tensor(board.link, place), wanted):
                failures.append(f"output '{place.name}' of input {index} differs")
    return SelfTest(
        layers=len(artifact.layers),
        inputs=count,
        failure=failures[0] if failures else None,
    )


def _difference(place: Place, index: int, codes: Int8Array, expected: Array) -> str:
    channel, row, column = (int(axis[0]) for axis in np.nonzero(codes != expected))
    return (
        f"layer {index} '{place.name}' differs from channel {channel}, row {row}, column {column}"
        f" on: expected {int(expected[channel, row, column])},"
        f" got {int(codes[channel, row, column])}"
    )
