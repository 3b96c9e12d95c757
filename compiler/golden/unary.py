"""Functions of one value as ONNX Runtime's CPU provider computes them, in float32.

Each takes a float32 array and its constants. `fold_qdq` turns a chain of them between
DequantizeLinear and QuantizeLinear into a table of 256 codes, evaluated function by function.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from qcompile.compiler import ir_float
from qcompile.compiler.golden.float_rules import UnaryFunction, sigmoid

FloatArray = npt.NDArray[np.float32]

FUNCTIONS: dict[str, Callable[..., FloatArray]] = {
    "Sigmoid": sigmoid,
}
"""ONNX operator to function; the constants of `ir_float.Unary.parameters` are keywords."""


def unary_function(op: ir_float.Clip | ir_float.Unary) -> UnaryFunction:
    """What an operation does with an array of float32."""
    if isinstance(op, ir_float.Clip):
        low = np.float32(-np.inf if op.low is None else op.low)
        high = np.float32(np.inf if op.high is None else op.high)
        return lambda x: np.minimum(np.maximum(x, low), high)
    function, constants = FUNCTIONS[op.function], dict(op.parameters)
    return lambda x: function(x, **constants)
