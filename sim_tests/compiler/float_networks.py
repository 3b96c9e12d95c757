"""The float networks with real data: digits of examples, MNIST and keyword spotting of `shared`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from qcompile.compiler.quantize.options import Options
from qcompile.compiler.quantize.prepare import Network, load_float
from qcompile.compiler.quantize.quantizer import Quantized, accuracy, quantize

DIGITS = Path(__file__).resolve().parents[2] / "examples/digits"
CALIBRATION = 200
"""Inputs that calibrate; the others measure."""
KWS_ZERO, KWS_SCALE = 83, np.float32(0.5847029089927673)
"""real = scale * (code - zero) of data/kws01.npz."""


class Subject(NamedTuple):
    """A float network, its float32 inputs [N, ...] and their classes."""

    network: Network
    inputs: npt.NDArray[Any]
    labels: npt.NDArray[Any]

    def part(self, rows: slice) -> dict[str, npt.NDArray[Any]]:
        """Some of the inputs, by name."""
        return {self.network.inputs[0].name: self.inputs[rows]}

    def quantized(self, options: Options) -> Quantized:
        """Calibrated with the first inputs."""
        return quantize(self.network, self.part(slice(CALIBRATION)), options)

    def loss(self, made: Quantized) -> float:
        """Points of accuracy, in percent, that the others lose."""
        rest, labels = self.part(slice(CALIBRATION, None)), self.labels[CALIBRATION:]
        before = accuracy(self.network.to_model(), rest, labels)
        return 100 * (before - accuracy(made.model, rest, labels))


def digits() -> Subject:
    """examples/digits."""
    data = np.load(DIGITS / "digits_test.npz")
    return Subject(load_float(DIGITS / "digits_float.onnx"), data["x"], data["y"])


def mnist(shared: Path) -> Subject:
    """CNTK's MNIST network."""
    data = np.load(shared / "data/mnist2k.npz")
    network = load_float(shared / "models/float/mnist_float.onnx")
    return Subject(network, data["x"].astype(np.float32)[:, None], data["y"])


def kws(shared: Path) -> Subject:
    """Alibaba's keyword spotting."""
    data = np.load(shared / "data/kws01.npz")
    network = load_float(shared / "models/float/alibaba_kws_float.onnx")
    real = (data["x"].astype(np.float32) - KWS_ZERO) * KWS_SCALE
    return Subject(network, real.reshape(-1, 49, 10, 1), data["y"])
