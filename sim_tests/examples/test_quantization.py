"""Every script of examples/quantization up to the golden model, and the figures that docs have."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcompile.compiler.cli import main
from qcompile.compiler.golden.interpreter import run_model
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.reference import Reference

SCHEMES = ("affine", "shift", "f8net", "dpu", "ternary", "binary", "codebook", "log")
CALIBRATION = 200


@pytest.fixture(scope="module")
def held_out(project: Path) -> tuple[Any, Any]:
    """Images that did not calibrate, and their labels."""
    data = np.load(project / "examples/digits/digits_test.npz")
    return data["x"][CALIBRATION:], data["y"][CALIBRATION:]


@pytest.fixture(scope="module")
def figures(project: Path) -> dict[str, Any]:
    """What plot.py measured."""
    found: dict[str, Any] = json.loads((project / "docs/schemes.json").read_text())
    return found


@pytest.fixture
def folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The scripts' folder, from which their modules can be imported."""
    path = project / "examples/quantization"
    monkeypatch.syspath_prepend(str(path))
    return path


def test_every_script_is_tested_and_measured(folder: Path) -> None:
    scripts = {path.stem for path in folder.glob("*.py")} - {"steps", "plot"}
    assert scripts == set(SCHEMES) == set(importlib.import_module("plot").SCHEMES)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_golden_equals_onnxruntime_and_figures_and_the_model_fits_both_devices(
    scheme: str,
    folder: Path,
    held_out: tuple[Any, Any],
    figures: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    script, steps = importlib.import_module(scheme), importlib.import_module("steps")
    path, (x, y) = script.quantized(tmp_path), held_out
    found = run_model(load_model(path, requant=script.REQUANT), {"image": x})["logits"]
    expected = Reference(path, ()).run({"image": x}).outputs["logits"]
    assert np.array_equal(found, expected)
    right = expected.reshape(len(y), -1).argmax(axis=1) == y
    assert steps.golden_accuracy(path, script.REQUANT) == np.mean(right)
    (stated,) = (row for row in figures["schemes"] if row["scheme"] == scheme)
    # Calibration is in float: another processor may decide one image otherwise.
    assert np.mean(right) == pytest.approx(stated["accuracy"], abs=1.01 / len(y))
    for device in ("hx8k", "up5k"):
        options = ["--device", device, "--requant", script.REQUANT]
        capsys.readouterr()
        assert main(["check", str(path), *options, "--json"]) == 0
        (target,) = json.loads(capsys.readouterr().out)["targets"]
        # Further away the figures are old: measure again, with plot.py.
        assert target["cycles"] == pytest.approx(stated["designs"][device]["cycles"], rel=0.02)


def test_docs_have_the_table_of_the_figures(
    folder: Path, project: Path, figures: dict[str, Any]
) -> None:
    table = importlib.import_module("plot").table(figures)
    assert table in (project / "docs/quantization.md").read_text()


def test_a_script_as_a_user_starts_it(folder: Path) -> None:
    words = [sys.executable, str(folder / "shift.py"), "--golden"]
    printed = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    found = re.search(r"accuracy of 160 images: ([\d.]+) float, ([\d.]+) shift", printed)
    assert found is not None
    before, after = (float(text) for text in found.groups())
    assert abs(after - before) <= 2 / 160
