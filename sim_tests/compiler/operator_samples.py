"""A small model of every operator that docs/operators.md lists, for the test of its tables.

A sample's node is named `q`. `sample_model` puts it between or behind layers, which are named
`front` and `back`. Attributes that became inputs follow the opset.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from sim_tests.compiler.networks import Network, Parameters
from sim_tests.compiler.qoperator_networks import MICROSOFT, tensor

QONNX = "qonnx.custom_op.general"
Context = Literal["behind", "between", "end"]
Build = Callable[[Network, str, str], str]
"""Takes the operand's name and type, and gives the result's name."""

CODES: dict[str, Parameters] = {"int8": (0.05, -100, "int8"), "uint8": (0.05, 28, "uint8")}
OUT: dict[str, Parameters] = {"int8": (0.04, -60, "int8"), "uint8": (0.04, 68, "uint8")}

TYPE_NUMBERS = {
    "float32": TensorProto.FLOAT,
    "int8": TensorProto.INT8,
    "int64": TensorProto.INT64,
    "uint8": TensorProto.UINT8,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """An operator on an operand of a shape.

    With `from_codes` it takes codes of CODES and gives codes of OUT; else the result has the
    operand's type, or the type `result`.
    """

    build: Build
    shape: tuple[int, ...] = (1, 4, 4, 4)
    from_codes: bool = False
    result: str | None = None


def codes_of(dtype: str, parameters: Mapping[str, Parameters] = CODES) -> Parameters:
    """Of an operand's type; float32 is one that the operator refuses."""
    return parameters.get(dtype, parameters["int8"])


def q(network: Network, operator: str, *inputs: str, **attributes: Any) -> str:
    return network.node(operator, *inputs, name="q", **attributes)


def plain(operator: str, domain: str = "", **attributes: Any) -> Sample:
    """An operator of one operand."""
    return Sample(build=lambda network, x, _: q(network, operator, x, domain=domain, **attributes))


def with_constants(operator: str, *constants: Any, domain: str = "", **attributes: Any) -> Sample:
    """Operands behind the first are constants: float32, or int64 where they are whole numbers."""

    def build(network: Network, x: str, dtype: str) -> str:
        kinds = ["int64" if np.asarray(c).dtype.kind == "i" else "float32" for c in constants]
        names = [network.constant(c, kind) for c, kind in zip(constants, kinds, strict=True)]
        return q(network, operator, x, *names, domain=domain, **attributes)

    return Sample(build=build)


def with_list(operator: str, since: int, name: str, values: Sequence[int], **rest: Any) -> Sample:
    """A list that is an attribute before an opset and an input from then on."""

    def build(network: Network, x: str, dtype: str) -> str:
        if network.opset < since:
            return q(network, operator, x, **{name: values}, **rest)
        return q(network, operator, x, network.constant(values, "int64"), **rest)

    return Sample(build=build, shape=(1, 4, 4, 4))


WINDOW = {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [0, 0, 1, 1], "dilations": [1, 1]}


def weight(*shape: int) -> npt.NDArray[np.int8]:
    return np.random.default_rng(3).integers(-127, 128, shape).astype(np.int8)


def conv(network: Network, x: str, dtype: str) -> str:
    return q(network, "Conv", x, network.weight(weight(4, 2, 2, 2), 0.01), group=2, **WINDOW)


def conv_transpose(network: Network, x: str, dtype: str) -> str:
    w = network.weight(weight(4, 2, 3, 3), 0.005)
    window = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 0, 1], "dilations": [1, 1]}
    return q(network, "ConvTranspose", x, w, group=2, output_padding=[1, 0], **window)


def gemm(network: Network, x: str, dtype: str) -> str:
    scale = np.float32(CODES["int8"][0]) * np.float32(0.01)
    bias = network.weight(np.asarray([100, 0, -77], np.int32), scale)
    return q(network, "Gemm", x, network.weight(weight(3, 4), 0.01), bias, transB=1)


def split(network: Network, x: str, dtype: str) -> str:
    attributes: dict[str, Any] = {"split": [1, 3]} if network.opset < 13 else {}
    names = [network.constant([1, 3], "int64")] if 13 <= network.opset < 18 else []
    if network.opset >= 18:
        attributes = {"num_outputs": 2}
    outputs = [network.fresh("part"), network.fresh("part")]
    made = helper.make_node("Split", [x, *names], outputs, name="q", axis=3, **attributes)
    network.nodes.append(made)
    return outputs[1]


def pad(network: Network, x: str, dtype: str) -> str:
    pads = [0, 0, 1, 0, 0, 0, 0, 2]
    if network.opset < 11:
        return q(network, "Pad", x, pads=pads, value=0.5, mode="constant")
    return q(network, "Pad", x, network.constant(pads, "int64"), mode="edge")


def clip(network: Network, x: str, dtype: str) -> str:
    if network.opset < 11:
        return q(network, "Clip", x, min=-0.5, max=1.5)
    return q(network, "Clip", x, *(network.constant(bound, dtype) for bound in (1, 2)))


def resize(network: Network, x: str, dtype: str) -> str:
    scales = network.constant([1, 1, 2, 2], "float32")
    operands = [scales] if network.opset < 11 else ["", scales]
    return q(network, "Resize", x, *operands, mode="nearest")


def resize_linear(network: Network, x: str, dtype: str) -> str:
    scales = network.constant([1, 1, 2, 0.5], "float32")
    if network.opset < 11:
        return q(network, "Resize", x, scales, mode="linear")
    return q(network, "Resize", x, "", scales, mode="linear", antialias=0)


def resize_to_sizes(network: Network, x: str, dtype: str) -> str:
    if network.opset < 11:
        return resize(network, x, dtype)
    sizes = network.constant([1, 4, 8, 8], "int64")
    return q(network, "Resize", x, "", "", sizes, nearest_mode="floor")


def constant_operand(**attributes: Any) -> Sample:
    """A Constant of numbers, which are added."""

    def build(network: Network, x: str, dtype: str) -> str:
        number = network.node("Cast", q(network, "Constant", **attributes), to=TensorProto.FLOAT)
        return network.node("Add", x, number)

    return Sample(build=build)


def quantize_linear(domain: str) -> Build:
    def build(network: Network, x: str, dtype: str) -> str:
        names = tensor(network, "", OUT["int8"])
        made = q(network, "QuantizeLinear", x, *names, domain=domain)
        return network.dequantize(made, OUT["int8"])

    return build


def dequantize_linear(domain: str) -> list[Sample]:
    """To codes of another scale, and of the same one."""

    def build(network: Network, x: str, dtype: str, after: Mapping[str, Parameters]) -> str:
        names = tensor(network, x, codes_of(dtype))
        made = q(network, "DequantizeLinear", *names, domain=domain)
        return network.quantize(made, codes_of(dtype, after))

    return [
        Sample(build=partial(build, after=OUT), from_codes=True),
        Sample(build=partial(build, after=CODES)),
    ]


def zero_of(dtype: str) -> int:
    return codes_of(dtype)[1]


def integer_product(operator: str, weights: npt.NDArray[Any], **attributes: Any) -> Sample:
    def build(network: Network, x: str, dtype: str) -> str:
        w = network.constant(weights, "int8")
        zero = network.constant(zero_of(dtype), dtype)
        sums = network.node("Cast", q(network, operator, x, w, zero, **attributes), to=1)
        return network.quantize(
            network.node("Mul", sums, network.constant(0.001, "float32")), codes_of(dtype, OUT)
        )

    return Sample(build=build, from_codes=True)


def quantized(operator: str, *middle: Any, domain: str = MICROSOFT, **attributes: Any) -> Sample:
    """Operand, further operands, result, each with scale and zero point.

    A further operand is int8 weights, a code of the operand's own parameters, or "x": the operand
    again.
    """

    def build(network: Network, x: str, dtype: str) -> str:
        names = tensor(network, x, codes_of(dtype))
        for entry in middle:
            if isinstance(entry, str):
                names += tensor(network, x, codes_of(dtype))
            elif isinstance(entry, int):
                names += tensor(network, network.constant(entry, dtype), codes_of(dtype))
            else:
                names += tensor(network, network.constant(entry, "int8"), (0.01, 0, "int8"))
        names += tensor(network, "", codes_of(dtype, OUT))
        return q(network, operator, *names, domain=domain, **attributes)

    return Sample(build=build, from_codes=True)


def qgemm(network: Network, x: str, dtype: str, *, real: bool = False) -> str:
    names = tensor(network, x, codes_of(dtype))
    names += tensor(network, network.constant(weight(3, 4), "int8"), (0.01, 0, "int8"))
    bias = network.constant([1, 2, 3], "int32")
    ends = [] if real else tensor(network, "", codes_of(dtype, OUT))
    return q(network, "QGemm", *names, bias, *ends, domain=MICROSOFT, transB=1, alpha=1.0)


def qconcat(network: Network, x: str, dtype: str) -> str:
    operands = tensor(network, x, codes_of(dtype)) * 2
    names = [*tensor(network, "", codes_of(dtype, OUT)), *operands]
    return q(network, "QLinearConcat", *names, domain=MICROSOFT, axis=1)


def batch_normalization(network: Network, x: str, dtype: str) -> str:
    names = [network.constant(values, "float32") for values in ([1.1] * 4, [0.1] * 4, [0.2] * 4)]
    return q(network, "BatchNormalization", x, *names, network.constant([1.0] * 4, "float32"))


def quant(operator: str) -> list[Sample]:
    """Of 4 bits, and of OUT."""
    mode = {"signed": 1, "narrow": 0, "rounding_mode": "ROUND"}
    return [
        with_constants(operator, *constants, domain=QONNX, **mode)
        for constants in ((0.5, 0.0, 4.0), (0.04, -60.0, 8.0))
    ]


NUMBERS = {"value_float": 0.5, "value_floats": [0.5], "value_int": 2, "value_ints": [2]}
FUNCTIONS = (
    *("Abs", "Ceil", "Celu", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish"),
    *("LeakyRelu", "Log", "Mish", "Neg", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign"),
    *("Softplus", "Softsign", "Sqrt", "Tanh", "ThresholdedRelu"),
)
STANDARD: Mapping[str, Sample | Sequence[Sample]] = {
    **{name: plain(name) for name in FUNCTIONS},
    **{
        name: with_constants(name, 0.8)
        for name in ("Add", "Div", "Max", "Min", "Mul", "PRelu", "Sub")
    },
    "ArgMax": Sample(build=plain("ArgMax", axis=1).build, result="int64"),
    "AveragePool": plain("AveragePool", kernel_shape=[2, 2]),
    "BatchNormalization": Sample(build=batch_normalization),
    "Cast": Sample(build=lambda n, x, dtype: q(n, "Cast", x, to=TYPE_NUMBERS[dtype])),
    "Clip": Sample(build=clip),
    "Concat": Sample(build=lambda network, x, _: q(network, "Concat", x, x, axis=1)),
    "Constant": [
        constant_operand(value=numpy_helper.from_array(np.asarray(0.5, np.float32), "half")),
        *(constant_operand(**{name: value}) for name, value in NUMBERS.items()),
    ],
    "Conv": Sample(build=conv),
    "ConvInteger": integer_product("ConvInteger", weight(3, 4, 2, 2)),
    "ConvTranspose": Sample(build=conv_transpose),
    "DepthToSpace": plain("DepthToSpace", blocksize=2),
    "DequantizeLinear": dequantize_linear(""),
    "Dropout": plain("Dropout"),
    "Expand": [replace(with_constants("Expand", [1, 4, 4, 4]), shape=(1, 4, 1, 4))],
    "Flatten": plain("Flatten"),
    "Gather": with_constants("Gather", [2, 0], axis=3),
    "Gemm": Sample(build=gemm, shape=(1, 4)),
    "GlobalAveragePool": plain("GlobalAveragePool"),
    "GlobalMaxPool": plain("GlobalMaxPool"),
    "Identity": plain("Identity"),
    "MatMul": Sample(
        build=lambda n, x, _: q(n, "MatMul", x, n.weight(weight(4, 3), 0.01)), shape=(1, 2, 4)
    ),
    "MatMulInteger": integer_product("MatMulInteger", weight(4, 3)),
    "MaxPool": plain("MaxPool", kernel_shape=[2, 2]),
    "Pad": Sample(build=pad),
    "QLinearConv": quantized("QLinearConv", weight(4, 2, 2, 2), domain="", group=2, **WINDOW),
    "QLinearMatMul": quantized("QLinearMatMul", weight(4, 3), domain=""),
    "QuantizeLinear": Sample(build=quantize_linear("")),
    "ReduceMax": [with_list("ReduceMax", 18, "axes", [2, 3]), plain("ReduceMax")],
    "ReduceMean": [with_list("ReduceMean", 18, "axes", [2, 3]), plain("ReduceMean")],
    "Reshape": with_constants("Reshape", [1, 16, 4]),
    "Resize": [Sample(build=build) for build in (resize, resize_to_sizes, resize_linear)],
    "Shape": Sample(build=lambda n, x, _: n.node("Reshape", x, q(n, "Shape", x))),
    "Slice": with_constants("Slice", [1], [3], [2]),
    "Softmax": plain("Softmax", axis=-1),
    "SpaceToDepth": plain("SpaceToDepth", blocksize=2),
    "Split": Sample(build=split),
    "Squeeze": [
        Sample(build=with_list("Squeeze", 13, "axes", [axis]).build, shape=shape)
        for axis, shape in ((3, (1, 4, 4, 1)), (1, (1, 1, 4, 4)))
    ],
    "Tile": with_constants("Tile", [1, 1, 2, 1]),
    "Transpose": plain("Transpose", perm=[0, 2, 3, 1]),
    "Unsqueeze": with_list("Unsqueeze", 13, "axes", [4]),
}
CONTRIBUTED: Mapping[str, Sample | Sequence[Sample]] = {
    "DequantizeLinear": dequantize_linear(MICROSOFT),
    "QGemm": [
        Sample(build=qgemm, shape=(1, 4), from_codes=True),
        Sample(build=partial(qgemm, real=True), shape=(1, 4), result="float32"),
    ],
    "Gelu": plain("Gelu", MICROSOFT),
    "QuickGelu": plain("QuickGelu", MICROSOFT),
    "QLinearAdd": [quantized("QLinearAdd", "x"), quantized("QLinearAdd", 50)],
    "QLinearAveragePool": quantized("QLinearAveragePool", kernel_shape=[2, 2]),
    "QLinearConcat": Sample(build=qconcat, from_codes=True),
    "QLinearGlobalAveragePool": quantized("QLinearGlobalAveragePool", channels_last=0),
    "QLinearLeakyRelu": quantized("QLinearLeakyRelu", alpha=0.2),
    "QLinearMul": [quantized("QLinearMul", "x"), quantized("QLinearMul", 50)],
    "QLinearSigmoid": quantized("QLinearSigmoid"),
    "QLinearSoftmax": quantized("QLinearSoftmax", axis=-1, opset=13),
    "QuantizeLinear": Sample(build=quantize_linear(MICROSOFT)),
}
QUANTIZERS: Mapping[str, Sample | Sequence[Sample]] = {
    "BipolarQuant": with_constants("BipolarQuant", 0.5, domain=QONNX),
    "IntQuant": quant("IntQuant"),
    "Quant": quant("Quant"),
    "Trunc": [
        with_constants("Trunc", 0.05, 0.0, 8.0, 4.0, domain=QONNX, rounding_mode="FLOOR"),
        with_constants("Trunc", 0.05, 0.0, 8.0, 0.2, 6.0, domain=QONNX, signed=1, narrow=0),
    ],
}
SAMPLES = {
    domain: {
        name: [samples] if isinstance(samples, Sample) else list(samples)
        for name, samples in table.items()
    }
    for domain, table in (("", STANDARD), (MICROSOFT, CONTRIBUTED), (QONNX, QUANTIZERS))
}
"""Samples by domain and operator."""


def sample_model(sample: Sample, context: Context, dtype: str, opset: int) -> onnx.ModelProto:
    """The operator on an operand of a type, behind a layer.

    `behind` leaves real numbers unquantized between layer and operator; `between` has another
    layer at the end; `end` ends with the operator's own result.
    """
    network = Network(opset)
    before = CODES["uint8" if dtype == "uint8" else "int8"]
    x = network.dequantize(network.input("x", before[2], sample.shape), before)
    real = _layer(network, x, sample.shape)
    if context == "behind" and dtype == "float32":
        operand = real
    else:
        codes = network.quantize(real, before)
        operand = network.dequantize(codes, before) if dtype == "float32" else codes
    made = sample.build(network, operand, dtype)
    if sample.from_codes or (dtype == "float32" and context != "end"):
        before = OUT[before[2]]
        made = made if sample.from_codes else network.quantize(made, before)
        dtype = before[2]
    if context == "between":
        x = network.dequantize(made, before)
        twice = (2 * before[0], *before[1:])
        made = network.quantize(network.node("Add", x, x, name="back"), twice)
        dtype = before[2]
    network.output(made, sample.result or dtype)
    model = network.model()
    model.opset_import.append(helper.make_opsetid(QONNX, 1))
    return model


def _layer(network: Network, x: str, shape: tuple[int, ...]) -> str:
    if len(shape) == 4:
        w = network.weight(weight(shape[1], shape[1], 1, 1), 0.004)
        return network.node("Conv", x, w, name="front")
    w = network.weight(weight(shape[-1], shape[-1]), 0.004)
    return network.node("MatMul", x, w, name="front")
