"""What `quantize` and `requantize` refuse to write over."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from qcompile.compiler.cli import main

DIGITS = Path(__file__).resolve().parents[2] / "examples/digits"
VERBS = {
    "quantize": ("digits_float.onnx", "--calibration"),
    "requantize": ("digits_int8.onnx", "--inputs"),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("folder", "is a folder"),
        ("pipe", "is a device or a pipe"),
        ("model", "is the model itself"),
        ("nowhere/model", "its folder does not exist"),
    ],
)
def test_only_another_file_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str, kind: str, reason: str
) -> None:
    name, option = VERBS[verb]
    shutil.copy(DIGITS / name, tmp_path / "model")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    before = (tmp_path / "model").read_bytes()
    output = tmp_path / kind
    given = [verb, str(tmp_path / "model"), option, str(DIGITS / "digits_test.npz")]
    assert main([*given, "-o", str(output)]) == 1
    assert capsys.readouterr().err.startswith(f"{output}: {reason}\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "model", "pipe"]
    assert (tmp_path / "model").read_bytes() == before
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
