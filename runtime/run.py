"""Runs inputs through a build on a board, and replays the build's golden vectors."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompile.runtime.artifact import GOLDEN, Artifact, Place
from qcompile.runtime.driver import Board
from qcompile.runtime.errors import BoardError
from qcompile.runtime.host_ops import run_host_ops
from qcompile.runtime.layouts import PROGRAM_ADDRESS, pack_tensor, unpack_tensor
from qcompile.runtime.link import Words
from qcompile.runtime.protocol import ALL_LAYERS, State

Array = npt.NDArray[Any]
Int8Array = npt.NDArray[np.int8]

RUN_SECONDS = 10.0
"""Longest time of one inference before it counts as hung."""


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
    """Run N inputs, arrays [N, ...] by the model's input names, one after the other.

    `board.check` must have accepted the build. `progress` gets the number of inputs done.
    """
    begin = time.perf_counter()
    values = run_host_ops(artifact.prologue, inputs)
    count = len(next(iter(inputs.values())))
    results: dict[str, list[Int8Array]] = {p.name: [] for p in artifact.accelerator_outputs}
    cycles = []
    for index in range(count):
        sample = {p.name: values[p.name][index] for p in artifact.accelerator_inputs}
        cycles.append(run_codes(board, artifact, sample))
        for place in artifact.accelerator_outputs:
            results[place.name].append(_read(board, place))
        progress(index + 1)
    codes = {name: np.stack(tensors) for name, tensors in results.items()}
    known = run_host_ops(artifact.epilogue, {**values, **codes})
    return RunResult(
        outputs={name: known[name] for name in artifact.outputs},
        codes=codes,
        cycles=tuple(cycles),
        seconds=time.perf_counter() - begin,
    )


def run_codes(board: Board, artifact: Artifact, codes: Mapping[str, Array]) -> int:
    """One run on int8 codes by accelerator input; returns its cycles."""
    write_codes(board, artifact, codes)
    board.link.start(PROGRAM_ADDRESS)
    return board.finished(board.link.wait(RUN_SECONDS)).cycles


def write_codes(board: Board, artifact: Artifact, codes: Mapping[str, Array]) -> None:
    """Put one input's int8 codes into the board's memory."""
    board.link.write_all(
        [
            (place.address, pack_tensor(codes[place.name].reshape(place.shape)))
            for place in artifact.accelerator_inputs
        ]
    )


def dump_layers(
    board: Board,
    artifact: Artifact,
    codes: Mapping[str, Array],
    on_layer: Callable[[int, Words], bool],
) -> None:
    """Run one input with a pause after each layer, whose words `on_layer` gets with its index.

    Ends, and resets the accelerator, when `on_layer` returns False.
    """
    write_codes(board, artifact, codes)
    for index, place in enumerate(artifact.layers):
        if index == 0:
            board.link.start(PROGRAM_ADDRESS, stop_after=place.done)
        else:
            board.link.resume(stop_after=place.done)
        status = board.finished(board.link.wait(RUN_SECONDS))
        if status.layers != place.done:
            raise BoardError(
                f"{board.name}: the accelerator paused after {status.layers} layers,"
                f" not {place.done}",
                help="program the board again: qcompile flash DIR",
            )
        if not on_layer(index, board.link.read_memory(place.address, place.words)):
            board.link.abort()
            return
    if board.link.status().state == State.PAUSED:
        board.link.resume(stop_after=ALL_LAYERS)
        board.finished(board.link.wait(RUN_SECONDS))


def self_test(board: Board, artifact: Artifact) -> SelfTest:
    """Replay golden.npz: every layer of its first input by checksum, then all outputs."""
    with np.load(artifact.part(GOLDEN)) as archive:
        golden = {name: archive[name] for name in archive.files}
    inputs = {p.name: golden[f"input/{p.name}"] for p in artifact.accelerator_inputs}
    count = len(next(iter(inputs.values())))
    failures: list[str] = []

    def compare(index: int, words: Words) -> bool:
        expected = np.asarray(golden[f"layer/{index}"]).reshape(-1)
        # Channels that only fill a word up may hold anything; golden has zeros there.
        shape = artifact.layers[index].shape
        words = pack_tensor(unpack_tensor(np.asarray(words), *shape))
        crc, wanted = _crc(words), _crc(expected)
        if crc != wanted:
            failures.append(_difference(artifact.layers[index], index, words, expected))
        return crc == wanted

    dump_layers(board, artifact, {name: codes[0] for name, codes in inputs.items()}, compare)
    for index in range(count if not failures else 0):
        run_codes(board, artifact, {name: codes[index] for name, codes in inputs.items()})
        for place in artifact.accelerator_outputs:
            wanted = golden[f"output/{place.name}"][index].reshape(place.shape)
            if not np.array_equal(_read(board, place), wanted):
                failures.append(f"output '{place.name}' of input {index} differs")
    return SelfTest(
        layers=len(artifact.layers),
        inputs=count,
        failure=failures[0] if failures else None,
    )


def _read(board: Board, place: Place) -> Int8Array:
    return unpack_tensor(board.link.read_memory(place.address, place.words), *place.shape)


def _crc(words: Array) -> int:
    return zlib.crc32(words.astype("<u4").tobytes())


def _difference(place: Place, index: int, words: Words, expected: Array) -> str:
    first = int(np.flatnonzero(words != expected)[0])
    return (
        f"layer {index} '{place.name}' differs from word {first} on: expected"
        f" {int(expected[first]):08x}, got {int(words[first]):08x}"
    )
