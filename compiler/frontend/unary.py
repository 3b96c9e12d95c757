"""Importers of functions of one value."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qcompile.compiler import ir_float
from qcompile.compiler.frontend.node_reader import Imported, Importer, NodeReader, Refusal
from qcompile.compiler.frontend.operators import REAL_OR_CODES, Operator
from qcompile.compiler.ir import Value

WITHOUT_ATTRIBUTES = (
    "Abs",
    "Ceil",
    "Erf",
    "Exp",
    "Floor",
    "HardSwish",
    "Neg",
    "Reciprocal",
    "Round",
    "Sigmoid",
    "Sign",
    "Softsign",
    "Sqrt",
    "Tanh",
)


def relu(node: NodeReader) -> Imported:
    """Relu, a Clip from 0."""
    return _clip(node, node.float_input(0), 0.0, None)


def clip(node: NodeReader) -> Imported:
    """Clip with constant bounds, of real numbers or of codes; attributes before opset 11."""
    x = node.value(0)
    if x.dtype not in ("int8", "uint8"):
        x = node.float_input(0)
    if node.opset < 11:
        low, high = (node.attribute(name, kind=float) for name in ("min", "max"))
    else:
        bounds = [node.constant(i, "bound") for i in (1, 2)]
        if any(bound is not None and bound.size != 1 for bound in bounds):
            raise Refusal("a bound is no single number", broken=True)
        if any(bound is not None and bound.dtype.name != x.dtype for bound in bounds):
            raise Refusal(f"a bound is not of type {x.dtype}", broken=True)
        low, high = (None if bound is None else float(bound.reshape(())) for bound in bounds)
    if any(bound is not None and np.isnan(bound) for bound in (low, high)):
        raise Refusal("a bound is not a number (NaN)", broken=True)
    return _clip(node, x, low, high)


def _clip(node: NodeReader, x: Value, low: float | None, high: float | None) -> Imported:
    op = ir_float.Clip(
        inputs=(x.name,), outputs=(node.output,), origins=(node.origin,), low=low, high=high
    )
    return op, Value(name=node.output, shape=x.shape, dtype=x.dtype)


def _unary(node: NodeReader, function: str, **constants: float) -> Imported:
    x = node.float_input(0)
    op = ir_float.Unary(
        inputs=(x.name,),
        outputs=(node.output,),
        origins=(node.origin,),
        function=function,
        parameters=tuple(constants.items()),
    )
    return op, Value(name=node.output, shape=x.shape, dtype="float32")


def without_attributes(node: NodeReader) -> Imported:
    """A function of one value that has no attributes."""
    return _unary(node, node.node.op_type)


def sigmoid(node: NodeReader) -> Imported:
    """Sigmoid, of QLinearSigmoid too."""
    return _unary(node, "Sigmoid")


def elu(node: NodeReader) -> Imported:
    """Elu."""
    return _unary(node, "Elu", alpha=node.attribute("alpha", 1.0))


def leaky_relu(node: NodeReader) -> Imported:
    """LeakyRelu."""
    return _unary(node, "LeakyRelu", alpha=node.attribute("alpha", 0.01))


def selu(node: NodeReader) -> Imported:
    """Selu, with the defaults of ONNX."""
    alpha = node.attribute("alpha", 1.67326319217681884765625)
    gamma = node.attribute("gamma", 1.05070102214813232421875)
    return _unary(node, "Selu", alpha=alpha, gamma=gamma)


def celu(node: NodeReader) -> Imported:
    """Celu."""
    alpha = node.attribute("alpha", 1.0)
    if not alpha > 0:
        raise Refusal(f"alpha={alpha} is not supported", help="only numbers above 0")
    return _unary(node, "Celu", alpha=alpha)


def quick_gelu(node: NodeReader) -> Imported:
    """QuickGelu of com.microsoft."""
    return _unary(node, "QuickGelu", alpha=node.attribute("alpha", 1.702))


def largest(node: NodeReader) -> Imported:
    """Max with one number, which is a Clip."""
    return _bounded(node, lowest=True)


def smallest(node: NodeReader) -> Imported:
    """Min with one number, which is a Clip."""
    return _bounded(node, lowest=False)


def _bounded(node: NodeReader, *, lowest: bool) -> Imported:
    constants = [node.known(position) for position in range(len(node.node.input))]
    numbers = [i for i, c in enumerate(constants) if c is not None and c.size == 1]
    others = [i for i, c in enumerate(constants) if c is None]
    if len(numbers) != 1 or len(others) != 1 or len(constants) != 2:
        raise Refusal(
            "is supported for an activation and one number only", help="or use Relu or Clip"
        )
    x, bound = node.float_input(others[0]), constants[numbers[0]]
    assert bound is not None, "only constants are numbers"
    if bound.ndim > len(x.shape) or np.isnan(bound).any():
        raise Refusal(f"the bound {bound.tolist()} does not fit {list(x.shape)}", broken=True)
    number = float(bound.reshape(()))
    return _clip(node, x, number if lowest else None, None if lowest else number)


def thresholded_relu(node: NodeReader) -> Imported:
    """ThresholdedRelu."""
    return _unary(node, "ThresholdedRelu", alpha=node.attribute("alpha", 1.0))


def hard_sigmoid(node: NodeReader) -> Imported:
    """HardSigmoid."""
    alpha, beta = node.attribute("alpha", 0.2), node.attribute("beta", 0.5)
    return _unary(node, "HardSigmoid", alpha=alpha, beta=beta)


def gelu(node: NodeReader) -> Imported:
    """Gelu, exact or approximated by tanh."""
    functions = {"none": "Gelu", "tanh": "GeluTanh"}
    approximate = node.attribute("approximate", "none")
    if approximate not in functions:
        raise Refusal(f"approximate={approximate!r} is not known", broken=True)
    return _unary(node, functions[approximate])


_TABLE = "any chain of functions of one value is one table of 256 codes"


def _function(read: Importer, **attributes: str) -> Operator:
    return Operator(read=read, runs=("accelerator", "host"), attributes=attributes, remark=_TABLE)


def _rounded_function(read: Importer, **attributes: str) -> Operator:
    """One whose last bit is not ONNX Runtime's; a code may differ where that decides a tie."""
    return replace(_function(read, **attributes), agreement="rounding")


def _bound(read: Importer) -> Operator:
    return Operator(
        read=read,
        runs=("accelerator", "folded", "host"),
        remark="of an activation and one number, as Clip",
    )


OPERATORS: dict[str, Operator] = {
    "Clip": Operator(
        read=clip,
        runs=("accelerator", "folded", "host"),
        types=REAL_OR_CODES,
        attributes={"max": "before opset 11", "min": "before opset 11"},
        remark="constant bounds; behind a layer: [islands](#float-islands)",
    ),
    "Elu": _function(elu, alpha=""),
    "Gelu": _function(gelu, approximate=""),
    "HardSigmoid": _function(hard_sigmoid, alpha="", beta=""),
    "LeakyRelu": _function(leaky_relu, alpha=""),
    "Relu": Operator(
        read=relu,
        runs=("accelerator", "folded", "host"),
        remark="behind a layer: [islands](#float-islands)",
    ),
    **{name: _function(without_attributes) for name in WITHOUT_ATTRIBUTES if name != "Neg"},
    "Celu": _rounded_function(celu, alpha=""),
    "Log": _rounded_function(without_attributes),
    "Max": _bound(largest),
    "Min": _bound(smallest),
    "Mish": _rounded_function(without_attributes),
    "Selu": _rounded_function(selu, alpha="", gamma=""),
    "Softplus": _rounded_function(without_attributes),
    "ThresholdedRelu": _function(thresholded_relu, alpha=""),
    "Neg": Operator(
        read=without_attributes,
        runs=("accelerator", "folded", "host"),
        remark="as Sub from 0: [steps behind layers](#steps-behind-layers)",
    ),
}

CONTRIBUTED: dict[str, Operator] = {
    "Gelu": _function(without_attributes),
    "QuickGelu": _function(quick_gelu, alpha=""),
}
"""Of the domain com.microsoft."""
