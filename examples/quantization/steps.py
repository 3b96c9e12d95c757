"""What the scripts of this folder share: a network, its images, accuracies and the way to a board.

python examples/quantization/SCHEME.py            # place and route takes a minute or more, once
python examples/quantization/SCHEME.py --golden   # the accuracy alone, in seconds
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from qcompile.compiler.cli import main
from qcompile.compiler.golden.interpreter import run_model
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.quantize import Network, accuracy, load_float

PROJECT = Path(__file__).resolve().parents[2]
FLOAT = PROJECT / "examples/digits/digits_plain_float.onnx"
"""The network without a residual sum, so that the hardware of every scheme runs it."""
IMAGES = PROJECT / "examples/digits/digits_test.npz"
BUILD = Path(os.path.relpath(PROJECT / "build/quantization"))
CALIBRATION = 200
"""Images that calibrate; the others measure."""

Array = npt.NDArray[Any]
Requant = Literal["exact", "shift"]


def calibration(network: Network) -> dict[str, Array]:
    """Images that were held out of training, float32 [200, 1, 8, 8], under the input's name."""
    return {network.inputs[0].name: np.load(IMAGES)["x"][:CALIBRATION]}


def held_out() -> tuple[Array, Array]:
    """The images that neither trained nor calibrated, float32 [160, 1, 8, 8], and labels [160]."""
    data = np.load(IMAGES)
    return data["x"][CALIBRATION:], data["y"][CALIBRATION:]


def float_accuracy() -> float:
    """Of the float network in ONNX Runtime, on the held-out images."""
    network = load_float(FLOAT)
    x, y = held_out()
    return accuracy(network.to_model(), {network.inputs[0].name: x}, y)


def golden_accuracy(path: Path, requant: Requant) -> float:
    """Of a quantized model in the golden model, to which the hardware is bit-identical."""
    model = load_model(path, requant=requant)
    x, y = held_out()
    (logits,) = run_model(model, {model.inputs[0].name: x}).values()
    return float(np.mean(logits.reshape(len(y), -1).argmax(axis=1) == y))


def show_accuracy(path: Path, requant: Requant) -> None:
    """Before and after quantization."""
    count = len(held_out()[1])
    found = golden_accuracy(path, requant)
    print(f"accuracy of {count} images: {float_accuracy():.4f} float, {found:.4f} {path.stem}")


def from_float_to_board(
    quantized: Callable[[Path], Path], requant: Requant, board: str = "icebreaker"
) -> None:
    """A whole script: quantize into `BUILD`, tell the accuracy, go to the simulated board."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--golden", action="store_true", help="stop behind the accuracy")
    golden = parser.parse_args().golden
    BUILD.mkdir(parents=True, exist_ok=True)
    path = quantized(BUILD)
    show_accuracy(path, requant)
    if not golden:
        to_board(path, requant, board)


def to_board(path: Path, requant: Requant, board: str) -> None:
    """Compile with place and route, classify on the simulated board, say how a real one is used."""
    build, inputs = BUILD / path.stem, BUILD / "held_out.npz"
    x, y = held_out()
    np.savez(inputs, x=x, y=y)
    qcompile("compile", path, "--board", board, "--requant", requant, "-o", build, "--force")
    qcompile("run", build, "--inputs", inputs, "--port", "sim", "--limit", "3")
    print(
        f"\nOn a real {board} (apt install libusb-1.0-0 libftdi1-2):\n"
        f"  qcompile flash {build}\n"
        f"  qcompile run {build} --inputs {inputs} --port /dev/ttyUSB1"
    )


def qcompile(*arguments: str | Path) -> None:
    """One command of `qcompile`, in this process and in sight of the user; a failure ends all."""
    words = [str(argument) for argument in arguments]
    print(f"\n$ {shlex.join(['qcompile', *words])}", flush=True)
    code = main(words)
    if code != 0:
        sys.exit(code)
