"""Scheme ternary: weights -1, 0 and 1 with a scale a channel (TWN).

Meant for networks that were trained so; without training it needs both corrections and suits small
networks. The first and the last layer keep 8 bits. It runs on the int8 array; where that saves
cycles, the compiler stores weights as 4-bit indices of a codebook, as it does for any few values.
`binary.py` goes the same way.
"""

from pathlib import Path

from steps import FLOAT, Requant, calibration, from_float_to_board

from qcompile.compiler.quantize import Options, load_float, quantize, save

OPTIONS = Options(scheme="ternary", rounding="search", bias_correction=True)
REQUANT: Requant = "exact"


def quantized(folder: Path) -> Path:
    """The quantized network, as a file of ONNX in the folder."""
    network = load_float(FLOAT)
    result = quantize(network, calibration(network), OPTIONS)
    for tensor in result.tensors:
        print(f"{tensor.name}: scale {tensor.encoding.scale:.5g}, {tensor.sqnr_db:.1f} dB")
    path = folder / "ternary.onnx"
    save(result.model, path)
    return path


if __name__ == "__main__":
    from_float_to_board(quantized, REQUANT)
