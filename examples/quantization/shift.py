"""Scheme shift: affine, but every requantization is one rounding shift.

What is left of a channel's factor beside a power of two goes into its weights. So `--requant shift`
is exact, in ONNX Runtime too, and a barrel shifter stands in the multiplier's place.
"""

from pathlib import Path

from steps import FLOAT, Requant, calibration, from_float_to_board

from qcompile.compiler.quantize import Options, load_float, quantize, save

OPTIONS = Options(scheme="shift", bias_correction=True)
REQUANT: Requant = "shift"


def quantized(folder: Path) -> Path:
    """The quantized network, as a file of ONNX in the folder."""
    network = load_float(FLOAT)
    result = quantize(network, calibration(network), OPTIONS)
    for tensor in result.tensors:
        print(f"{tensor.name}: scale {tensor.encoding.scale:.5g}, {tensor.sqnr_db:.1f} dB")
    path = folder / "shift.onnx"
    save(result.model, path)
    return path


if __name__ == "__main__":
    from_float_to_board(quantized, REQUANT)
