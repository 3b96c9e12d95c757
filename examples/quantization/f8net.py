"""Scheme f8net: fixed-point numbers of 8 bits, after Jin et al. (ICLR 2022).

All weights of a layer share one format, activations have no free zero point, and every
requantization is a shift. The paper trains its networks so; without training, channels want to be
equalized first. The formats of each layer are printed.
"""

from pathlib import Path

from steps import FLOAT, Requant, calibration, from_float_to_board

from qcompile.compiler.quantize import Options, load_float, quantize, save

OPTIONS = Options(scheme="f8net", equalize="weights")
REQUANT: Requant = "shift"


def quantized(folder: Path) -> Path:
    """The quantized network, as a file of ONNX in the folder."""
    network = load_float(FLOAT)
    result = quantize(network, calibration(network), OPTIONS)
    print(*result.notes, sep="\n")
    path = folder / "f8net.onnx"
    save(result.model, path)
    return path


if __name__ == "__main__":
    from_float_to_board(quantized, REQUANT)
