"""The command `qcompile`: verbs and exit codes.

Their options are in `arguments`, their work in `commands`.

Exit codes: 0 done, 1 an error that the user can mend (or a difference that `sim` found, or a model
that `check` finds too large), 2 wrong usage, 130 interrupted. Any other exception is our bug and
keeps its traceback. Modules of verbs are imported when they run, so that `qcompile --help` answers
at once.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from qcompile.compiler.arguments.common import add_json
from qcompile.compiler.arguments.examples import DESCRIPTION, EXAMPLES
from qcompile.compiler.arguments.quantize import add_quantize, add_requantize
from qcompile.compiler.arguments.verbs import (
    add_check,
    add_compile,
    add_flash,
    add_run,
    add_sim,
)
from qcompile.compiler.errors import QcompileError, UsageError

VERBS = ("compile", "check", "quantize", "requantize", "sim", "run", "flash", "doctor", "targets")
WRONG_USAGE = 2
"""As argparse has it."""
INTERRUPTED = 130
"""What shells use for a program that Ctrl-C ended: 128 + SIGINT."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        arguments = _parse(sys.argv[1:] if argv is None else argv)
        verb = importlib.import_module(f"qcompile.compiler.commands.{arguments.verb}")
        code = int(verb.run(arguments))
        sys.stdout.flush()
        return code
    except QcompileError as error:
        print(error.render(), file=sys.stderr)
        return WRONG_USAGE if isinstance(error, UsageError) else 1
    except ModuleNotFoundError as error:
        from qcompile.compiler.requirements import missing_package  # slow to import

        missing = missing_package(error)
        if missing is None:
            raise
        print(missing.render(), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except OSError as error:
        # A reader that went away, as `| head` does, is no error; a full disk is.
        if not isinstance(error, BrokenPipeError):
            print(f"{error.filename or 'output'}: {error.strerror or error}", file=sys.stderr)
        with contextlib.suppress(OSError):  # nothing may be flushed any more
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if not _was_interrupted(error):
            raise
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, previous)


def _was_interrupted(error: BaseException | None) -> bool:
    """Whether an interruption is behind an error: libraries that are being imported wrap it."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Let an end from outside clean up as Ctrl-C does."""
    raise KeyboardInterrupt


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments; wrong usage ends here, with the usage of the verb at hand."""
    parser = build_parser()
    words = list(argv) or ["--help"]
    general = ("-h", "--help", "--version")
    if words[0] not in (*VERBS, *general):
        _check_model(parser, words[0])
        words.insert(0, "compile")
    arguments, unknown = parser.parse_known_args(words)
    if unknown:
        arguments.usage_error(f"unrecognized arguments: {' '.join(unknown)}")
    return arguments


def _check_model(parser: argparse.ArgumentParser, word: str) -> None:
    """A first word that is no verb is a model to compile, or a slip."""
    if word.startswith("-") or word.endswith(".onnx") or Path(word).exists():
        return
    near = difflib.get_close_matches(word, VERBS, n=1)
    parser.error(f"no such verb or file: '{word}'" + (f"; is it '{near[0]}'?" if near else ""))


def build_parser() -> argparse.ArgumentParser:
    """All verbs and their options."""
    parser = argparse.ArgumentParser(
        prog="qcompile",
        description=DESCRIPTION,
        epilog=EXAMPLES[""],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    add_compile(_add_verb(verbs, "compile", "make Verilog, program, bitstream and report"))
    add_check(_add_verb(verbs, "check", "say in seconds whether a model fits, and how fast it is"))
    add_quantize(_add_verb(verbs, "quantize", "make an int8 model of a float one, by calibration"))
    add_requantize(
        _add_verb(
            verbs, "requantize", "give an int8 model scales that are shifts, or fewer weights"
        )
    )
    add_sim(_add_verb(verbs, "sim", "simulate, and compare with golden and ONNX Runtime"))
    add_run(_add_verb(verbs, "run", "run inputs on a board, or on the simulated board"))
    add_flash(_add_verb(verbs, "flash", "program a board with openFPGALoader"))
    add_json(_add_verb(verbs, "doctor", "name every tool, and what is missing"))
    add_json(_add_verb(verbs, "targets", "list devices and boards, and what they hold"))
    return parser


class _Version(argparse.Action):
    """--version; looks the version up only when asked."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(
            option_strings, dest, nargs=0, default=argparse.SUPPRESS, help="print the version"
        )

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        from importlib.metadata import version  # slow to import

        print(f"qcompile {version('qcompile')}")
        parser.exit()


def _add_verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], name: str, summary: str
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=EXAMPLES[name],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(usage_error=parser.error)
    return parser


if __name__ == "__main__":
    sys.exit(main())
