"""Scheme affine: int8 activations with a zero point, int8 weights with a scale a channel.

The one to begin with: it is nearest to the float network, and int8 models of other tools have this
form. Each output is multiplied by its channel's 24-bit factor (`--requant exact`), which takes more
logic than a shift.
"""

from pathlib import Path

from steps import FLOAT, Requant, calibration, from_float_to_board

from qcompile.compiler.quantize import Options, load_float, quantize, save

OPTIONS = Options(range="mse", equalize="activations", rounding="search", bias_correction=True)
REQUANT: Requant = "exact"


def quantized(folder: Path) -> Path:
    """The quantized network, as a file of ONNX in the folder."""
    network = load_float(FLOAT)
    result = quantize(network, calibration(network), OPTIONS)
    for tensor in result.tensors:
        print(f"{tensor.name}: scale {tensor.encoding.scale:.5g}, {tensor.sqnr_db:.1f} dB")
    path = folder / "affine.onnx"
    save(result.model, path)
    return path


if __name__ == "__main__":
    from_float_to_board(quantized, REQUANT)
