"""Logarithmic activations: zero and seven powers of two, so that the array has no multiplier.

A product is a shift of the weight. It is for devices without DSP blocks, hence the iCE40HX8K.
`log_step=8` has half octaves, with less loss in accuracy, two sums for each output and a larger
encoder. An input with a sign needs `part_signs=True` (docs/log_domain.md).
"""

from pathlib import Path

from steps import FLOAT, Requant, calibration, from_float_to_board

from qcompile.compiler.quantize import Options, load_float, quantize, save

OPTIONS = Options(activations="log:8,output", log_step=16, bias_correction=True)
REQUANT: Requant = "exact"


def quantized(folder: Path) -> Path:
    """The quantized network, as a file of ONNX in the folder."""
    network = load_float(FLOAT)
    result = quantize(network, calibration(network), OPTIONS)
    for tensor in result.tensors:
        print(f"{tensor.name}: scale {tensor.encoding.scale:.5g}, {tensor.sqnr_db:.1f} dB")
    path = folder / "log.onnx"
    save(result.model, path)
    return path


if __name__ == "__main__":
    from_float_to_board(quantized, REQUANT, board="ice40_hx8k_b_evn")
