"""The board host's command line: options, and what it prints of a run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcompile.runtime import cli
from qcompile.runtime.artifact import Artifact, open_artifact
from qcompile.runtime.errors import BoardError
from qcompile.runtime.inputs import Samples
from qcompile.runtime.run import RunResult
from sim_tests.runtime import small_build


class CheckedBoard:
    """A board that accepts every build."""

    def check(self, artifact: Artifact) -> None:
        """Accept."""


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Any:
    """Runs `serve` on a board that gave these scores; what it printed."""
    artifact = open_artifact(small_build.write(tmp_path / "small"))

    def serve(scores: list[list[int]], labels: list[int] | None, **options: Any) -> str:
        outputs = {"y": np.array(scores, np.int8)}
        result = RunResult(
            outputs=outputs, codes={}, cycles=tuple([24_000] * len(scores)), seconds=0.5
        )

        def run_inputs(*arguments: object, progress: Any) -> RunResult:
            for done in range(len(scores)):
                progress(done + 1)
            return result

        monkeypatch.setattr(cli, "run_inputs", run_inputs)
        samples = Samples(
            tensors={"x": np.zeros((len(scores), 3, 2, 2), np.float32)},
            labels=None if labels is None else np.array(labels),
            notes=(),
        )
        board: Any = CheckedBoard()
        assert cli.serve(board, artifact, samples, **{"as_json": False, **options}) == 0
        captured = capsys.readouterr()
        assert captured.err == "", "no progress where nobody watches"
        return str(captured.out)

    return serve


def test_a_few_inputs_are_counted(served: Any) -> None:
    assert served([[0, 3, 1], [3, 0, 1], [0, 1, 3]], [1, 0, 1]) == (
        "small: 3 inputs in 0.50 s\n"
        "  input 0: 24,000 cycles, class 1, y [0 3 1]\n"
        "  input 1: 24,000 cycles, class 0, y [3 0 1]\n"
        "  input 2: 24,000 cycles, class 2, y [0 1 3]\n"
        "accuracy: 2 of 3\n"
    )


def test_the_time_of_a_simulation_is_not_a_boards(served: Any) -> None:
    text = served([[0, 3, 1]] * 40, [1] * 39 + [0], simulated=True)
    assert text.startswith("small: 40 inputs simulated in 0.50 s\n")
    assert text.endswith("  and 30 more\naccuracy: 97.50%\n")


def test_json_has_an_accuracy_where_there_are_labels(served: Any) -> None:
    record = json.loads(served([[0, 3, 1], [3, 0, 1]], [1, 1], as_json=True, simulated=True))
    assert record["classes"] == [1, 0]
    assert record["accuracy"] == 0.5
    assert record["simulated"] is True
    assert record["core_milliseconds"] == [1.0, 1.0]
    assert "accuracy" not in json.loads(served([[0, 3, 1]], None, as_json=True))


@pytest.fixture
def result() -> RunResult:
    """Outputs under names that numpy.savez has for itself."""
    outputs: dict[str, Any] = {
        "file": np.arange(3),
        "allow_pickle": np.zeros((2, 2), np.int8),
        "a/b": np.ones(1),
    }
    return RunResult(outputs=outputs, codes={}, cycles=(), seconds=0.0)


def test_outputs_of_any_name_are_written(tmp_path: Path, result: RunResult) -> None:
    cli.write_outputs(tmp_path / "y.npz", result)
    with np.load(tmp_path / "y.npz") as archive:
        assert set(archive.files) == {"file", "allow_pickle", "a/b"}
        np.testing.assert_array_equal(archive["file"], [0, 1, 2])
    assert [path.name for path in tmp_path.iterdir()] == ["y.npz"]


def test_outputs_never_replace_what_is_no_file(tmp_path: Path, result: RunResult) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("fifo")
    for name in ("fifo", "link"):
        with pytest.raises(BoardError, match="/fifo: is no plain file, and is not replaced"):
            cli.write_outputs(tmp_path / name, result)
    assert (tmp_path / "fifo").is_fifo()
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        (
            ("--limit", "9" * 5000),
            f"argument --limit: '{'9' * 37}...' is not a whole number of 1 or more",
        ),
        (("--limit", "0"), "argument --limit: '0' is not a whole number of 1 or more"),
        (("--mean", "a"), "argument --mean: 'a' is not a number or a list such as 0.48,0.45,0.4"),
        ((), "--inputs X.npz or --selftest is needed"),
    ],
)
def test_wrong_usage_ends_with_exit_code_2(
    option: tuple[str, ...], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        cli.main(["b", "--port", "/dev/ttyUSB1", *option])
    assert raised.value.code == 2
    assert capsys.readouterr().err.endswith(f"error: {problem}\n")


def test_numbers_of_normalization_are_joined_by_commas(tmp_path: Path) -> None:
    arguments = cli._parser().parse_args(["b", "--port", "p", "--mean", "0.5,0.25,1", "--std", "2"])
    assert (arguments.mean, arguments.std) == ((0.5, 0.25, 1.0), (2.0,))


def test_an_interruption_is_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(folder: Path) -> Artifact:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "open_artifact", interrupted)
    assert cli.main(["b", "--port", "p", "--selftest"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_the_simulated_board_is_said_to_be_elsewhere(tmp_path: Path, capsys: Any) -> None:
    build = small_build.write(tmp_path / "small")
    assert cli.main([str(build), "--selftest", "--port", "sim"]) == 1
    assert capsys.readouterr().err == (
        "sim: the simulated board is not part of the runtime alone\n"
        "  help: install all of qcompile and use `qcompile run ... --port sim`\n"
    )


def test_json_has_no_infinity_and_no_nan() -> None:
    outputs = {"y": [[1.5, float("inf")], [float("nan"), -2.0]]}
    text = cli._to_json({"model": "small", "outputs": outputs})
    assert json.loads(text)["outputs"] == {"y": [[1.5, None], [None, -2.0]]}
