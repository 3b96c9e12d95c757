"""`python -m qcompile.runtime`: runs a build on a board, with numpy and pyserial only."""

from __future__ import annotations

import argparse
import json
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qcompile.runtime.artifact import Artifact, open_artifact
from qcompile.runtime.classes import chosen_classes, counted, fit_labels, share
from qcompile.runtime.driver import Board
from qcompile.runtime.errors import BoardError
from qcompile.runtime.fpga_manager import load
from qcompile.runtime.inputs import InputsError, Normalization, Samples, load_samples
from qcompile.runtime.options import PORT_HELP, parse_numbers, positive
from qcompile.runtime.ports import open_link
from qcompile.runtime.run import RunResult, run_inputs, self_test

INTERRUPTED = 130
"""What shells use for a program that Ctrl-C ended: 128 + SIGINT."""
SHOWN_INPUTS = 10
SHOWN_VALUES = 12


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 0 done, 1 an error or a failed self-test, 2 usage, 130 interrupted."""
    arguments = _parser().parse_args(argv)
    if not arguments.load and arguments.port is None:
        _parser().error("--port is needed")
    if not arguments.load and not arguments.selftest and arguments.inputs is None:
        _parser().error("--inputs X.npz or --selftest is needed")
    try:
        return _run(arguments)
    except BoardError as error:
        print(error.render(), file=sys.stderr)
    except InputsError as error:
        print(f"{error.message}\n  help: {error.help}", file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m qcompile.runtime",
        description="Run a build directory of qcompile on a board.",
    )
    parser.add_argument("build", type=Path, metavar="DIR")
    parser.add_argument("--inputs", type=Path, metavar="X.npz")
    parser.add_argument("--port", help=PORT_HELP)
    parser.add_argument("--limit", type=positive, metavar="N", help="use only the first N inputs")
    for name, what in (("mean", "is subtracted from raw pixels"), ("std", "then divides them")):
        parser.add_argument(
            f"--{name}",
            type=parse_numbers,
            metavar="M[,M...]",
            help=f"one number, or one a channel, that {what}",
        )
    parser.add_argument("--selftest", action="store_true", help="replay the golden vectors")
    parser.add_argument(
        "--load", action="store_true", help="load top.bit into the device beside this processor"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="Y.npz", help="write the outputs")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    artifact = open_artifact(arguments.build)
    if artifact.note is not None:
        print(f"note: {artifact.note}", file=sys.stderr)
    if arguments.load:
        load(artifact)
        print(f"{artifact.board} holds {artifact.model_name}")
        return 0
    samples = None if arguments.selftest else _samples(arguments, artifact)
    if arguments.port == "sim":
        raise BoardError(
            "sim: the simulated board is not part of the runtime alone",
            help="install all of qcompile and use `qcompile run ... --port sim`",
        )
    link = open_link(arguments.port)
    try:
        board = Board(link)
        return serve(board, artifact, samples, as_json=arguments.json, output=arguments.output)
    finally:
        link.close()


def _samples(arguments: argparse.Namespace, artifact: Artifact) -> Samples:
    normalization = None
    if arguments.mean is not None or arguments.std is not None:
        normalization = Normalization(mean=arguments.mean or (0.0,), std=arguments.std or (1.0,))
    samples = load_samples(
        arguments.inputs, artifact.inputs, normalization=normalization, limit=arguments.limit
    )
    samples = fit_labels(arguments.inputs, samples, artifact.classes)
    for note in samples.notes:
        print(note, file=sys.stderr)
    return samples


def serve(
    board: Board,
    artifact: Artifact,
    samples: Samples | None,
    *,
    as_json: bool,
    output: Path | None = None,
    simulated: bool = False,
) -> int:
    """Check the board, run the samples (None: the self-test), print; returns the exit code."""
    board.check(artifact)
    if samples is None:
        return _self_test(board, artifact, as_json=as_json)

    def progress(done: int) -> None:
        end = "\n" if done == samples.count else ""
        if sys.stderr.isatty():
            print(f"\r{done} of {counted(samples.count, 'input')}", end=end, file=sys.stderr)
            sys.stderr.flush()

    result = run_inputs(board, artifact, samples.tensors, progress=progress)
    if output is not None:
        write_outputs(output, result)
    record = summary(artifact, samples, result, simulated=simulated)
    print(_to_json(record) if as_json else table(record))
    return 0


def _to_json(record: dict[str, Any]) -> str:
    """JSON has no infinity and no NaN: null."""
    outputs = {name: _finite(values) for name, values in record["outputs"].items()}
    return json.dumps({**record, "outputs": outputs}, indent=2, allow_nan=False)


def _finite(values: Any) -> Any:
    if isinstance(values, list):
        return [_finite(value) for value in values]
    return values if np.isfinite(values) else None


def _self_test(board: Board, artifact: Artifact, *, as_json: bool) -> int:
    test = self_test(board, artifact)
    passed = test.failure is None
    if as_json:
        record = {"passed": passed, "layers": test.layers, "inputs": test.inputs}
        print(json.dumps({**record, "failure": test.failure}, indent=2))
    elif passed:
        print(f"self-test passed: {test.layers} layers, outputs of {test.inputs} inputs")
    else:
        print(f"self-test FAILED: {test.failure}")
    return 0 if passed else 1


def write_outputs(path: Path, result: RunResult) -> None:
    """The outputs as npz, written beside and renamed."""
    path = path.resolve()  # a link's target is what is replaced
    if path.exists() and not path.is_file():
        raise BoardError(f"{path}: is no plain file, and is not replaced", help="choose another")
    partial = path.with_name(f".{path.name}.partial.npz")
    try:
        # Not numpy.savez: names of outputs would meet its own parameters.
        with zipfile.ZipFile(partial, "w") as archive:
            for name, array in result.outputs.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, array, allow_pickle=False)
        partial.replace(path)
    except OSError as error:
        raise BoardError(f"{path}: cannot be written ({error})", help="choose another") from error
    finally:
        partial.unlink(missing_ok=True)


def summary(
    artifact: Artifact, samples: Samples, result: RunResult, *, simulated: bool
) -> dict[str, Any]:
    """What --json prints: outputs, classes where there are some, accuracy where labels are."""
    known = artifact.classes
    classes = None if known is None else chosen_classes(result.outputs[known.output])
    record: dict[str, Any] = {
        "model": artifact.model_name,
        "simulated": simulated,
        "inputs": samples.count,
        "classes": None if classes is None else classes.tolist(),
    }
    if samples.labels is not None and classes is not None:
        record["accuracy"] = float(np.mean(classes == samples.labels))
    return record | {
        "cycles": list(result.cycles),
        "core_milliseconds": [1e3 * cycles / artifact.clock_hz for cycles in result.cycles],
        "seconds": result.seconds,
        "outputs": {name: array.tolist() for name, array in result.outputs.items()},
    }


def table(record: dict[str, Any]) -> str:
    """The summary for people."""
    count = record["inputs"]
    how = "simulated in" if record["simulated"] else "in"
    lines = [f"{record['model']}: {counted(count, 'input')} {how} {record['seconds']:.2f} s"]
    for index in range(min(count, SHOWN_INPUTS)):
        text = f"  input {index}: {record['cycles'][index]:,} cycles"
        if record["classes"] is not None:
            text += f", class {record['classes'][index]}"
        for name, array in record["outputs"].items():
            values = np.asarray(array[index]).reshape(-1)
            if values.size <= SHOWN_VALUES:
                text += f", {name} {np.array2string(values, precision=4, max_line_width=200)}"
        lines.append(text)
    if count > SHOWN_INPUTS:
        lines.append(f"  and {count - SHOWN_INPUTS:,} more")
    if "accuracy" in record:
        lines.append(f"accuracy: {share(record['accuracy'], count)}")
    return "\n".join(lines)
