"""Clips of codes behind a QuantizeLinear, as models of fewer than 8 bits have them.

Clip(QuantizeLinear(x)) is QuantizeLinear(Clip(x)) with the real numbers of the bounds: rounding
keeps the order of values, and a bound's own real number is quantized to the bound.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qcompile.compiler import ir_float
from qcompile.compiler.golden.float_rules import dequantize_linear
from qcompile.compiler.ir import Graph, Op, Quantization

REAL = ":clipped"
"""Suffix of the real tensor in front of a QuantizeLinear whose codes are clipped."""


def clips_before_quantize(graph: Graph) -> Graph:
    """The graph with every Clip of a QuantizeLinear's codes in front of it."""
    quantizers = {op.name: op for op in graph.ops if isinstance(op, ir_float.QuantizeLinear)}
    values = dict(graph.values)
    ops: list[Op] = []
    for op in graph.ops:
        quantize = quantizers.get(op.inputs[0]) if isinstance(op, ir_float.Clip) else None
        if not isinstance(op, ir_float.Clip) or quantize is None or quantize.scale.ndim:
            ops.append(op)
            continue
        name = op.name + REAL
        values[name] = replace(values[quantize.inputs[0]], name=name)
        ops.append(_real_clip(op, quantize, name))
        ops.append(replace(quantize, inputs=(name,), outputs=op.outputs))
    return replace(graph, values=values, ops=tuple(ops))


def _real_clip(op: ir_float.Clip, quantize: ir_float.QuantizeLinear, name: str) -> ir_float.Clip:
    quantization = Quantization(scale=float(quantize.scale), zero_point=int(quantize.zero_point))
    low, high = (
        None if bound is None else float(dequantize_linear(np.asarray(bound), quantization))
        for bound in (op.low, op.high)
    )
    return ir_float.Clip(
        inputs=quantize.inputs,
        outputs=(name,),
        origins=op.origins,
        low=low,
        high=high,
        of_codes=True,
    )
