"""Models of every scheme that has hardware of its own, in Verilator: no difference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcompile.compiler.cli import main
from qcompile.compiler.quantize.quantizer import save
from sim_tests.compiler.quantized_models import CALIBRATION, network_of, quantized

pytestmark = [pytest.mark.cosim, pytest.mark.full]

INPUTS = 3
OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "shift": ("shift", {"scheme": "shift"}),
    "f8net": ("shift", {"scheme": "f8net", "equalize": "weights"}),
    "dpu": ("shift", {"scheme": "dpu"}),
    "codebook": ("exact", {"weights": "codebook:16"}),
}


def check(path: Path, inputs: np.ndarray, folder: Path) -> None:
    """All schemes of shifts share one simulator: weights are data."""
    data = folder / "x.npz"
    np.savez(data, x=inputs[:INPUTS])
    for name, (requant, options) in OPTIONS.items():
        model, build = folder / f"{name}.onnx", folder / name
        save(quantized(path, inputs[:CALIBRATION], **options).model, model)
        assert main(["compile", str(model), "--target", "ice40", "--requant", requant,
                     "--no-bitstream", "-o", str(build)]) == 0  # fmt: skip
        assert main(["sim", str(build), "--inputs", str(data), "--layers"]) == 0
        record = json.loads((build / "sim.json").read_text())
        assert len(record["cycles"]) == INPUTS
        assert record["mismatches_vs_golden"] == 0
        assert [layer["mismatches"] for layer in record["layers"]] == [0] * len(record["layers"])
        (output,) = record["onnxruntime"]["outputs"]
        assert output["elements"] > 0
        assert output["differing"] == 0, (name, output)


def test_digits_in_verilog_equals_golden_and_onnxruntime(tmp_path: Path) -> None:
    """The network in this repository."""
    path, inputs, _ = network_of("digits", None)
    check(path, inputs, tmp_path)


@pytest.mark.parametrize("network", ["mnist", "keywords"])
def test_real_networks_in_verilog_equal_golden_and_onnxruntime(
    network: str, shared: Path, tmp_path: Path
) -> None:
    """Max pools, and a long chain of depthwise layers."""
    path, inputs, _ = network_of(network, shared)
    check(path, inputs, tmp_path)
