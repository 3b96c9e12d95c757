"""`qcompile run`: inputs through a board, or through the simulated board, with one driver."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qcompile.compiler.console import Progress
from qcompile.compiler.errors import UsageError
from qcompile.compiler.inputs import normalization_of, runtime_errors
from qcompile.runtime.artifact import Artifact, open_artifact
from qcompile.runtime.classes import fit_labels
from qcompile.runtime.cli import serve
from qcompile.runtime.driver import Board
from qcompile.runtime.inputs import Samples, load_samples
from qcompile.runtime.layouts import image_address
from qcompile.runtime.link import Link
from qcompile.runtime.ports import open_link
from qcompile.runtime.serial_link import SerialLink
from qcompile.runtime.transport import SimTransport, Transport

SIMULATED = "sim"


def run(arguments: argparse.Namespace) -> int:
    """Run the inputs (or the self-test) and print; 1 where the self-test fails."""
    if not arguments.selftest and arguments.inputs is None:
        raise UsageError("run needs inputs", help="add --inputs X.npz, or --selftest")
    with runtime_errors():
        artifact = open_artifact(arguments.build)
        if artifact.note is not None:
            Progress().note(artifact.note)
        samples = None if arguments.selftest else _samples(arguments, artifact)
        with _connected(arguments, artifact) as link:
            return serve(
                Board(link),
                artifact,
                samples,
                as_json=arguments.json,
                output=arguments.output,
                simulated=arguments.port == SIMULATED,
            )


def _samples(arguments: argparse.Namespace, artifact: Artifact) -> Samples:
    samples = load_samples(
        arguments.inputs,
        artifact.inputs,
        normalization=normalization_of(arguments.mean, arguments.std),
        limit=arguments.limit,
    )
    samples = fit_labels(arguments.inputs, samples, artifact.classes)
    for note in samples.notes:
        Progress().note(note)
    return samples


@contextmanager
def _connected(arguments: argparse.Namespace, artifact: Artifact) -> Iterator[Link]:
    """The link to the board, closed in the end."""
    link = (
        SerialLink(_simulated(artifact, arguments.seed), name=SIMULATED)
        if arguments.port == SIMULATED
        else open_link(arguments.port)
    )
    try:
        yield link
    finally:
        link.close()


def _simulated(artifact: Artifact, seed: int) -> Transport:
    """The build's top level in Verilator with a UART at bit level and a strict flash."""
    from qcompile.compiler.cache import cache_folder
    from qcompile.compiler.simulated_board import build_simulated_board
    from qcompile.compiler.targets import board_of_build

    with Progress() as progress:
        progress.step("prepare the simulated board")
        executable = build_simulated_board(
            artifact.part("top.v"),
            cache_folder("simulations"),
            board=board_of_build(artifact.folder, artifact.board),
            progress=progress.step,
            on_line=progress.detail,
        )
    return SimTransport(
        executable,
        Path(artifact.part("flash.bin")),
        clock_hz=artifact.clock_hz,
        flash_offset=image_address(artifact.program_address),
        seed=seed,
    )
