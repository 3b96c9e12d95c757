"""Codebook weights: a layer has 16 values of int8, and each weight is the index of one.

Flash, stream and buffers hold 4 bits a weight, and a table at the array's edge expands them: for
networks that wait for their weights. It goes with every scheme; here it is affine.
"""

from pathlib import Path

from steps import FLOAT, Requant, calibration, from_float_to_board

from qcompile.compiler.quantize import Options, load_float, quantize, save

OPTIONS = Options(weights="codebook:16", rounding="search", bias_correction=True)
REQUANT: Requant = "exact"


def quantized(folder: Path) -> Path:
    """The quantized network, as a file of ONNX in the folder."""
    network = load_float(FLOAT)
    result = quantize(network, calibration(network), OPTIONS)
    for tensor in result.tensors:
        print(f"{tensor.name}: scale {tensor.encoding.scale:.5g}, {tensor.sqnr_db:.1f} dB")
    path = folder / "codebook.onnx"
    save(result.model, path)
    return path


if __name__ == "__main__":
    from_float_to_board(quantized, REQUANT)
