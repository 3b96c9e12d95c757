"""`qcompile flash`: programs bitstream and flash image with openFPGALoader."""

from __future__ import annotations

import argparse

from qcompile.compiler.console import Progress
from qcompile.compiler.inputs import runtime_errors
from qcompile.runtime.artifact import open_artifact
from qcompile.runtime.flash import flash_commands, missing_bitstream, program, render


def run(arguments: argparse.Namespace) -> int:
    """Program the board, or print the exact commands."""
    with runtime_errors():
        artifact = open_artifact(arguments.build)
        commands = flash_commands(artifact, board=arguments.board)
        missing = missing_bitstream(artifact)
        if arguments.dry_run:
            print(render(commands))
            if missing is not None:
                Progress().note(missing.render())
            return 0
        if missing is not None:
            raise missing
        with Progress() as progress:
            progress.step(f"program {artifact.board}")
            program(commands, on_line=progress.detail)
    print(f"{artifact.board} holds {artifact.model_name}")
    return 0
