"""Importers of functions of one value."""

from __future__ import annotations

import numpy as np

from qcompile.compiler import ir_float
from qcompile.compiler.frontend.node_reader import Imported, Importer, NodeReader, Refusal
from qcompile.compiler.golden.unary import FUNCTIONS
from qcompile.compiler.ir import Value


def relu(node: NodeReader) -> Imported:
    """Relu, a Clip from 0."""
    return _clip(node, 0.0, None)


def clip(node: NodeReader) -> Imported:
    """Clip with constant bounds: attributes before opset 11, inputs since."""
    if node.opset < 11:
        low, high = (node.attribute(name, kind=float) for name in ("min", "max"))
    else:
        bounds = [node.constant(i, "bound") for i in (1, 2)]
        if any(bound is not None and bound.size != 1 for bound in bounds):
            raise Refusal("a bound is no single number", broken=True)
        low, high = (None if bound is None else float(bound.reshape(())) for bound in bounds)
    if any(bound is not None and np.isnan(bound) for bound in (low, high)):
        raise Refusal("a bound is not a number (NaN)", broken=True)
    return _clip(node, low, high)


def _clip(node: NodeReader, low: float | None, high: float | None) -> Imported:
    x = node.float_input(0)
    op = ir_float.Clip(
        inputs=(x.name,), outputs=(node.output,), origins=(node.origin,), low=low, high=high
    )
    return op, Value(name=node.output, shape=x.shape, dtype="float32")


def without_attributes(node: NodeReader) -> Imported:
    """A function of one value that has no attributes."""
    x = node.float_input(0)
    op = ir_float.Unary(
        inputs=(x.name,),
        outputs=(node.output,),
        origins=(node.origin,),
        function=node.node.op_type,
    )
    return op, Value(name=node.output, shape=x.shape, dtype="float32")


IMPORTERS: dict[str, Importer] = {
    "Clip": clip,
    "Relu": relu,
    **dict.fromkeys(FUNCTIONS, without_attributes),
}
