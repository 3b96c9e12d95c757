"""Importer of QONNX's Trunc, which drops the lowest bits of quantized numbers.

Its input is real numbers that are `scale` times whole ones. Version 1 (five inputs) keeps the
scale, version 2 (six) states the result's scale and clamps. It becomes a function of one value,
with QuantizeLinear and DequantizeLinear behind it where the result's codes are known; version 1
does not tell whether they have a sign, so that codes of 8 bits must be told by what follows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qcompile.compiler import ir_float
from qcompile.compiler.frontend.node_reader import Imported, NodeReader, Refusal
from qcompile.compiler.frontend.operators import Operator
from qcompile.compiler.frontend.qonnx import (
    MAX_BITS,
    Quantizer,
    code_bounds,
    codes_and_back,
    quantizer_scale,
    refuse_channels,
    whole_number,
)
from qcompile.compiler.golden.float_rules import code_range
from qcompile.compiler.ir import Value

TRUNCATED = ":truncated"
ROUNDINGS = ("ROUND", "CEIL", "FLOOR")
INPUTS = {5: 1, 6: 2}
"""Versions by the number of inputs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Truncation:
    """(round(clip(rint(x / scale + zero_point) * factor)) - out_zero) * out_scale, in float32.

    `low` and `high` are the clip's, None in version 1; `bits` of the result, `signed` if known.
    """

    scale: np.float32
    zero_point: int
    factor: float
    rounding: str
    low: int | None
    high: int | None
    out_zero: float
    out_scale: np.float32
    bits: int
    signed: bool | None

    def quantizer(self) -> Quantizer | None:
        """The result's codes; None where they are not known or have no whole zero point."""
        signed = self.signed
        if signed is None and self.bits < MAX_BITS:
            signed = True  # int8 holds 7 bits with a sign or without
        dtype = "int8" if signed else "uint8"
        low, high = code_range(dtype)
        if signed is None or not float(self.out_zero).is_integer():
            return None
        if not low <= self.out_zero <= high:
            return None
        return Quantizer(
            scale=np.asarray(self.out_scale),
            zero_point=int(self.out_zero),
            low=low,
            high=high,
            dtype=dtype,
            axis=0,
        )


def read_truncation(node: NodeReader) -> Truncation:
    """The node's constants and attributes, by its version's definition."""
    inputs = len(node.node.input)
    if inputs not in INPUTS:
        raise Refusal(f"has {inputs} inputs, not 5 or 6", broken=True)
    rounding = str(node.attribute("rounding_mode", "FLOOR")).upper()
    signed = bool(node.attribute("signed", 1)) if INPUTS[inputs] == 2 else None
    narrow = bool(node.attribute("narrow", 0)) if INPUTS[inputs] == 2 else False
    if rounding not in ROUNDINGS:
        raise Refusal(
            f"rounding_mode={rounding} is not supported", help=f"one of {', '.join(ROUNDINGS)}"
        )
    scale = _one_scale(node, 1)
    zero_point = whole_number(node, 2, "zero point")
    before = whole_number(node, 3, "input bit width")
    after = whole_number(node, inputs - 1, "bit width")
    if not 1 <= after <= MAX_BITS or not after <= before <= 32:
        raise Refusal(
            f"truncates {before} bits to {after}", help=f"truncate to {MAX_BITS} bits or fewer"
        )
    if signed is None:
        return Truncation(
            scale=scale,
            zero_point=zero_point,
            factor=2.0 ** (after - before),
            rounding=rounding,
            low=None,
            high=None,
            out_zero=zero_point,
            out_scale=scale,
            bits=after,
            signed=None,
        )
    out_scale = _one_scale(node, 4)
    factor = 2.0 ** -float(np.round(np.log2(out_scale / scale)))
    low, high = code_bounds(after, signed=signed, narrow=narrow)
    return Truncation(
        scale=scale,
        zero_point=zero_point,
        factor=factor,
        rounding=rounding,
        low=low,
        high=high,
        out_zero=zero_point * factor,
        out_scale=out_scale,
        bits=after,
        signed=signed,
    )


def trunc(node: NodeReader) -> Imported:
    """Trunc of either version."""
    x = node.float_input(0)
    meaning = read_truncation(node)
    quantizer = meaning.quantizer()
    name = node.output if quantizer is None else node.output + TRUNCATED
    bounds = [] if meaning.low is None else [("low", meaning.low), ("high", meaning.high)]
    op = ir_float.Unary(
        inputs=(x.name,),
        outputs=(name,),
        origins=(node.origin,),
        function=f"Trunc{meaning.rounding.title()}",
        parameters=(
            ("scale", float(meaning.scale)),
            ("zero_point", float(meaning.zero_point)),
            ("factor", meaning.factor),
            *((name, float(bound)) for name, bound in bounds if bound is not None),
            ("out_zero", float(meaning.out_zero)),
            ("out_scale", float(meaning.out_scale)),
        ),
    )
    value = Value(name=name, shape=x.shape, dtype="float32")
    if quantizer is None:
        return op, value
    return [(op, value), *codes_and_back(node, value, quantizer)]


def _one_scale(node: NodeReader, position: int) -> np.float32:
    scale, _ = quantizer_scale(node, node.value(0), position)
    refuse_channels(scale)
    return np.float32(scale)


OPERATORS: dict[str, Operator] = {
    "Trunc": Operator(
        read=trunc,
        runs=("accelerator", "host"),
        attributes={"narrow": "", "rounding_mode": "ROUND, CEIL, FLOOR", "signed": ""},
        remark="of five inputs (keeps the scale) or six (states the result's), to 8 bits or fewer; "
        "as a chain of functions with QuantizeLinear and DequantizeLinear behind, in ONNX Runtime "
        "too; behind a layer, or an AveragePool times its area, it truncates the sums. With five "
        "inputs to 8 bits, or a zero point that is no whole number behind it, another quantizer "
        "must follow; with five inputs codes saturate as int8",
    )
}
