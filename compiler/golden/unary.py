"""What float operators of one value do, as ONNX Runtime's CPU provider computes them in float32.

`fold_qdq` turns a chain of them between DequantizeLinear and QuantizeLinear into a table of 256
codes, evaluated operator by operator.
"""

from __future__ import annotations

import numpy as np

from qcompile.compiler import ir_float
from qcompile.compiler.golden.float_rules import UnaryFunction
from qcompile.runtime.float_functions import ARITHMETIC, FUNCTIONS

UnaryOp = ir_float.Clip | ir_float.Unary | ir_float.Arithmetic


def unary_function(op: UnaryOp) -> UnaryFunction:
    """What an operation does with an array of float32."""
    if isinstance(op, ir_float.Clip):
        low = np.float32(-np.inf if op.low is None else op.low)
        high = np.float32(np.inf if op.high is None else op.high)
        return lambda x: np.minimum(np.maximum(x, low), high)
    if isinstance(op, ir_float.Arithmetic):
        return _arithmetic(op)
    function, constants = FUNCTIONS[op.function], dict(op.parameters)
    return lambda x: function(x, **constants)


def _arithmetic(op: ir_float.Arithmetic) -> UnaryFunction:
    function, constant = ARITHMETIC[op.function], op.constant
    if op.constant_first:
        return lambda x: function(constant, x)
    return lambda x: function(x, constant)
