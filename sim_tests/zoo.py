"""Networks that others trained, in `shared` beside the project: their inputs and figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompile.compiler.pipeline import load_model
from sim_tests.compiler.agreement import Inputs, random_inputs

PROJECT = Path(__file__).resolve().parent.parent
SHARED = PROJECT.parent / "shared"
SEED = 7
MUSTS = {
    ("mlpt_ic_resnet8", "xc7a35t"): 110_000,
    ("mlpt_ic_resnet8", "xc7z020"): 49_500,
    ("mlpt_ic_resnet8", "xc7a100t"): 45_000,
    ("mlpt_kws_dscnn", "xc7a35t"): 36_000,
    ("mlpt_kws_dscnn", "xc7z020"): 17_600,
    ("mlpt_kws_dscnn", "xc7a100t"): 16_000,
    ("mlpt_vww_mbv1_025", "xc7z020"): 66_000,
    ("mlpt_vww_mbv1_025", "xc7a100t"): 60_000,
    ("mlpt_ad_toycar", "xc7z020"): 5_500,
    ("mlpt_ad_toycar", "xc7a100t"): 5_000,
}
"""Cycles that a network may take on a device at most."""

REAL = {
    "mlpt_kws_dscnn": "kws01",
    "tflm_micro_speech": "micro_speech2",
    "tflm_person_detect": "person_bmp2",
    "qonnx_kws_mlp_w3a3_v07_qcdq": "kws_finn400",
    "ort_mnist_qdq_u8u8": "mnist2k",
    "qonnx_TFC_2W2A_qcdq": "mnist2k",
    "coral_mobilenet_v2_1.0_224_quant": "coral4_224",
}
"""Data that a network takes as it is, or divided by what `DIVISORS` says."""
DIVISORS = {"qonnx_TFC_2W2A_qcdq": 255}


def networks() -> list[Path]:
    """The networks beside the project, by name."""
    return sorted((SHARED / "models").glob("*.onnx"))


def real_inputs(path: Path, count: int) -> Inputs | None:
    """Real inputs in the model's own shape; None where there are none."""
    if path.stem not in REAL:
        return None
    (value,) = load_model(path).inputs
    x: npt.NDArray[Any] = np.load(SHARED / "data" / f"{REAL[path.stem]}.npz")["x"][:count]
    if value.dtype == "float32":
        x = (x / DIVISORS.get(path.stem, 1)).astype(np.float32)
    return {value.name: x.reshape(len(x), *value.shape[1:])}


def save_inputs(path: Path, folder: Path, count: int) -> Path:
    """Real or random inputs as an npz file."""
    inputs = real_inputs(path, count)
    if inputs is None:
        inputs = random_inputs(load_model(path), np.random.default_rng(SEED), count)
    target = folder / f"{path.stem}.npz"
    np.savez(target, allow_pickle=False, **inputs)
    return target
