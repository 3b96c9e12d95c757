"""Scheme binary: weights -1 and 1 with a scale a channel (BWN).

Meant for networks that were trained so; without training it needs both corrections, and depthwise
layers keep 8 bits here. Hardware is ternary's: a codebook of two values. `scheme="xnor"` has
activations of one bit too, which no network here bears without training.
"""

from pathlib import Path

from steps import FLOAT, Requant, calibration, from_float_to_board

from qcompile.compiler.quantize import Options, load_float, quantize, save

OPTIONS = Options(scheme="binary", rounding="search", bias_correction=True, int8_depthwise=True)
REQUANT: Requant = "exact"


def quantized(folder: Path) -> Path:
    """The quantized network, as a file of ONNX in the folder."""
    network = load_float(FLOAT)
    result = quantize(network, calibration(network), OPTIONS)
    for tensor in result.tensors:
        print(f"{tensor.name}: scale {tensor.encoding.scale:.5g}, {tensor.sqnr_db:.1f} dB")
    path = folder / "binary.onnx"
    save(result.model, path)
    return path


if __name__ == "__main__":
    from_float_to_board(quantized, REQUANT)
