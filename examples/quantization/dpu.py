"""Scheme dpu: power-of-two positions a tensor, as Xilinx's DPU has them.

To see what a model will do on that accelerator, with its search and its limits of shifts. The
positions of each layer are printed. On qcompile's boards it runs as any model of shifts.
"""

from pathlib import Path

from steps import FLOAT, Requant, calibration, from_float_to_board

from qcompile.compiler.quantize import Options, load_float, quantize, save

OPTIONS = Options(scheme="dpu")
REQUANT: Requant = "shift"


def quantized(folder: Path) -> Path:
    """The quantized network, as a file of ONNX in the folder."""
    network = load_float(FLOAT)
    result = quantize(network, calibration(network), OPTIONS)
    print(*result.notes, sep="\n")
    path = folder / "dpu.onnx"
    save(result.model, path)
    return path


if __name__ == "__main__":
    from_float_to_board(quantized, REQUANT)
