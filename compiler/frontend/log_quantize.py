"""LogQuantize: the model-local function that carries logarithmic activations through ONNX.

ONNX has no such operator, so files bring its body along, made of standard operators: the code of a
value is the number of thresholds that it reaches, and the result is what that code stands for.
Comparisons of float32 are exact; a logarithm would not be. The attributes tell readers the format.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx
from onnx import FunctionProto, TensorProto, helper

from qcompile.compiler import ir_float
from qcompile.compiler.diagnostics import Problems, printable
from qcompile.compiler.frontend.node_reader import Imported, NodeReader, Refusal
from qcompile.compiler.frontend.operators import Operator
from qcompile.compiler.frontend.qonnx import CODES
from qcompile.compiler.ir import Value
from qcompile.compiler.log_format import OCTAVE, LogFormat

DOMAIN = "qcompile"
NAME = "LogQuantize"
ATTRIBUTES = ("fsr", "step", "levels")
BODY_OPSET = 17
OPSETS = range(13, 22)
"""Versions of the standard operators that mean the same by the body's nodes."""
VALUE_ERROR = 2.0**-22
"""Relative error of a float32 value in a file: exponentials differ in their last bits."""
MOST_OCTAVES = 30
"""Between codes that are read: the largest shift of a weight, so that sums have 64 bits."""
AGAIN = "quantize the model again with `qcompile quantize`"


def log_quantize_function() -> FunctionProto:
    """(x, thresholds [levels - 1], values [levels]) to y of x's shape, all float32."""
    nodes = [
        helper.make_node("Constant", [], ["last"], value_ints=[-1]),
        helper.make_node("Unsqueeze", ["x", "last"], ["column"]),
        helper.make_node("GreaterOrEqual", ["column", "thresholds"], ["reached"]),
        helper.make_node("Cast", ["reached"], ["counts"], to=TensorProto.INT32),
        helper.make_node("ReduceSum", ["counts", "last"], ["code"], keepdims=0),
        helper.make_node("Gather", ["values", "code"], ["y"]),
    ]
    return helper.make_function(
        DOMAIN,
        NAME,
        ["x", "thresholds", "values"],
        ["y"],
        nodes,
        [helper.make_opsetid("", BODY_OPSET)],
        list(ATTRIBUTES),
    )


def is_log_quantize(function: FunctionProto) -> bool:
    """Whether a function of a file is this one, with this body."""
    return _content(function) == _content(log_quantize_function())


def _content(function: FunctionProto) -> tuple[object, ...]:
    """All that decides what a function computes."""
    nodes = []
    for node in function.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.name = copy.doc_string = ""
        nodes.append(copy.SerializeToString(deterministic=True))
    opsets = [(entry.domain, entry.version in OPSETS) for entry in function.opset_import]
    attributes = sorted(function.attribute)
    names = (function.domain, function.name, list(function.input), list(function.output))
    return (*names, attributes, opsets, nodes)


def check_functions(proto: onnx.ModelProto, problems: Problems) -> None:
    """Add to `problems` local functions that are not read, and calls that nothing can resolve."""
    own: list[str] = []
    for function in proto.functions:
        if (function.domain, function.name) == (DOMAIN, NAME):
            own.append(function.overload)
            if not is_log_quantize(function):
                problems.unsupported(
                    f"local function '{NAME}' has another body than the one that qcompile writes",
                    help=AGAIN,
                )
        else:
            problems.unsupported(
                f"local function '{printable(function.name)}' is not supported",
                help="inline the functions (onnx.inliner.inline_local_functions)",
            )
    if len(set(own)) < len(own):
        problems.broken(f"holds the local function '{NAME}' twice", help=AGAIN)
    calls = [node for node in proto.graph.node if (node.domain, node.op_type) == (DOMAIN, NAME)]
    if any(call.overload not in own for call in calls):
        problems.broken(f"calls '{NAME}', whose local function it lacks", help=AGAIN)
    if calls and all(entry.domain != DOMAIN for entry in proto.opset_import):
        problems.broken(
            f"calls '{NAME}' and imports no version of its domain '{DOMAIN}'", help=AGAIN
        )


def read_log_quantize(node: NodeReader) -> LogFormat:
    """The format of a call, whose constants must be those of its attributes."""
    fsr, step, levels = (node.attribute(name, kind=int) for name in ATTRIBUTES)
    if None in (fsr, step, levels):
        raise Refusal("lacks fsr, step or levels", broken=True)
    try:
        found = LogFormat(fsr=fsr, step=step, levels=levels)
    except ValueError as error:
        raise Refusal(f"has a format that is not supported: {error}") from None
    _check(node, 1, "thresholds", found.thresholds, 0.0)
    _check(node, 2, "values", found.values, VALUE_ERROR)
    return found


def _check(
    node: NodeReader, position: int, what: str, expected: npt.NDArray[np.float32], error: float
) -> None:
    given = node.constant(position, what)
    if given is None or given.dtype != np.float32 or given.shape != expected.shape:
        raise Refusal(f"{what} are no float32 {list(expected.shape)}", broken=True)
    if not np.allclose(given, expected, rtol=error, atol=0):
        raise Refusal(
            f"{what} are not those of its fsr, step and levels",
            help=AGAIN,
            broken=True,
        )


def call_attributes(found: LogFormat) -> Mapping[str, int]:
    """The attributes of a call."""
    return {name: getattr(found, name) for name in ATTRIBUTES}


def log_quantize(node: NodeReader) -> Imported:
    """Codes, and what they stand for, with the value of code 1 as their scale."""
    x = node.float_input(0)
    found = read_log_quantize(node)
    if found.octaves > MOST_OCTAVES:
        most = 2 + ((MOST_OCTAVES + 1) * OCTAVE - 1) // found.step
        raise Refusal(
            f"codes of {found.levels} levels, {found.step} sixteenths of an octave apart, span "
            f"{found.octaves} octaves, more than {MOST_OCTAVES}",
            help="quantize again with fewer levels or a smaller step: "
            f"--activations log:{most}, or less, with --log-step {found.step}",
        )
    scale = np.asarray(found.values[1])
    zero_point = np.asarray(0, dtype=np.int64)
    codes = Value(name=node.output + CODES, shape=x.shape, dtype="int8", log=found)
    quantize = ir_float.LogQuantize(
        inputs=(x.name,),
        outputs=(codes.name,),
        origins=(node.origin,),
        scale=scale,
        zero_point=zero_point,
    )
    dequantize = ir_float.DequantizeLinear(
        inputs=(codes.name,),
        outputs=(node.output,),
        origins=(node.origin,),
        scale=scale,
        zero_point=zero_point,
        axis=0,
    )
    return [
        (quantize, codes),
        (dequantize, Value(name=node.output, shape=x.shape, dtype="float32")),
    ]


OPERATORS = {
    NAME: Operator(
        read=log_quantize,
        runs=("accelerator", "host"),
        agreement="equal",
        attributes={
            "fsr": "",
            "levels": "any; on the accelerator 8, 16 or 32",
            "step": "any; on the accelerator 8 or 16",
        },
        remark="the model-local function that `qcompile quantize --activations log:16` writes; "
        "[log_domain.md](log_domain.md)",
    )
}
