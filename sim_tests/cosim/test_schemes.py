"""Models whose requantizations are shifts, in Verilator with --requant shift: no difference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qcompile.compiler.cli import main
from qcompile.compiler.quantize.quantizer import save
from sim_tests.compiler.quantized_models import CALIBRATION, EXAMPLES, digits, quantized

pytestmark = [pytest.mark.cosim, pytest.mark.full]

OPTIONS: dict[str, dict[str, Any]] = {
    "shift": {},
    "f8net": {"equalize": "weights"},
    "dpu": {},
}


def test_verilog_with_shifts_equals_golden_and_onnxruntime(tmp_path: Path) -> None:
    """All share one simulator: weights are data."""
    path, inputs, _ = digits()
    for scheme, options in OPTIONS.items():
        model, build = tmp_path / f"{scheme}.onnx", tmp_path / scheme
        save(quantized(path, inputs[:CALIBRATION], scheme=scheme, **options).model, model)
        assert main(["compile", str(model), "--target", "ice40", "--requant", "shift",
                     "--no-bitstream", "-o", str(build)]) == 0  # fmt: skip
        data = str(EXAMPLES / "digits/digits_test.npz")
        assert main(["sim", str(build), "--inputs", data, "--layers"]) == 0
        record = json.loads((build / "sim.json").read_text())
        assert record["mismatches_vs_golden"] == 0
        assert [layer["mismatches"] for layer in record["layers"]] == [0] * len(record["layers"])
        (output,) = record["onnxruntime"]["outputs"]
        assert (output["elements"], output["differing"]) == (30, 0)
