"""Post-training quantization: a float ONNX network and calibration inputs to QDQ ONNX.

`quantizer.quantize` is the whole way: `prepare` brings the network into one form, a scheme
(`scheme`, `schemes/`, `registry`) changes it and chooses codes from what `observe` finds when it
runs it over the calibration inputs, `corrections` improve these layer by layer, and `emit` writes
the result.

In Python, as on the command line: `load_float`, `quantize` with `Options`, `accuracy`, `save`.
"""

from qcompile.compiler.quantize.clip_ranges import load_ranges
from qcompile.compiler.quantize.options import Options
from qcompile.compiler.quantize.prepare import Network, load_float
from qcompile.compiler.quantize.quantizer import Quantized, Tensor, accuracy, quantize, save
from qcompile.compiler.quantize.ranges import Range

__all__ = [
    "Network",
    "Options",
    "Quantized",
    "Range",
    "Tensor",
    "accuracy",
    "load_float",
    "load_ranges",
    "quantize",
    "save",
]
