"""Quantized level to integer level: float scales become mantissas, shifts and tables.

From here on no float exists in the accelerator's graph. All codes are int8; zero points and bounds
of uint8 values move down by 128, which changes no result: rounding happens before an even number is
subtracted.

A pool over the whole image has ONNX Runtime's global scale sx / (sy * count), the zero point
outside the rounding: bit for bit the same. A smaller window with equal parameters in and out is
round(sum / count), ties to the even code: the mantissa of 1 / count with the zero point inside.
ONNX Runtime adds such windows in float32, whose rounding decides its ties: at most one step apart.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Literal

import numpy as np
import numpy.typing as npt

from qcompile.compiler import ir, ir_quantized
from qcompile.compiler.diagnostics import Problems
from qcompile.compiler.golden.float_rules import (
    code_range,
    global_average_pool_scale,
)
from qcompile.compiler.golden.log_domain import fraction_bits, limits, multiples
from qcompile.compiler.golden.log_functions import log_tables
from qcompile.compiler.golden.numerics import (
    MAX_SHIFT,
    combined_scale,
    scale_to_mantissa,
    scale_to_shift,
)
from qcompile.compiler.ir import FRACTION_BITS
from qcompile.compiler.log_format import FEWER_OCTAVES, LogFormat
from qcompile.compiler.passes.chip_softmax import steps_of
from qcompile.compiler.passes.code_ranges import code_ranges
from qcompile.compiler.passes.fit_requant import FloatSteps, fit, without_steps

Mode = Literal["exact", "shift"]

ACCUMULATOR_LIMIT = 2**31
"""ONNX Runtime accumulates in int32; a sum that may leave it has no defined result there."""


def fuse_requant(graph: ir.Graph, problems: Problems, *, mode: Mode) -> ir.Graph:
    """The integer level of the accelerator's graph; layers that do not fit it are problems."""
    fuser = _Fuser(graph, problems, mode)
    ops = [fuser.fuse(op) for op in graph.ops]
    problems.raise_if_any()
    values = {name: _int8(value) for name, value in graph.values.items()}
    return replace(graph, values=values, ops=tuple(op for op in ops if op is not None))


def _moved(dtype: str) -> int:
    """What is subtracted from codes of a type to make them int8."""
    return 128 if dtype == "uint8" else 0


def _int8(value: ir.Value) -> ir.Value:
    quantization = value.quantization
    if quantization is not None:
        zero_point = quantization.zero_point - _moved(value.dtype)
        quantization = replace(quantization, zero_point=zero_point)
    return replace(value, dtype="int8", quantization=quantization)


def _quantization(value: ir.Value) -> ir.Quantization:
    assert value.quantization is not None, f"fold_qdq gives '{value.name}' its scale"
    return value.quantization


def _reach(x: ir.Value, codes: tuple[int, int]) -> tuple[int, int]:
    """The ends of code minus zero point, in steps of the tensor's scale."""
    if x.log is None:
        zero_point = _quantization(x).zero_point
        return codes[0] - zero_point, codes[1] - zero_point
    one = 1 << fraction_bits(x.log.step)
    low, high = (int(multiples(x.log)[code]) for code in _codes_within(x.log, codes))
    return low // one, -(-high // one)


def _codes_within(log: LogFormat, codes: tuple[int, int]) -> tuple[int, int]:
    """The ends of a range, of codes that the format has."""
    low, high = (min(max(code, 0), log.levels - 1) for code in codes)
    return low, high


def _log_requant(
    op: ir_quantized.QuantizedConv | ir_quantized.QuantizedAveragePool,
    x: ir.Value,
    unit: npt.NDArray[np.float32],
    outputs: LogFormat,
) -> ir.Requant:
    """Thresholds of sums that count `unit` [channels], less where the input has half octaves."""
    parts = 1 if x.log is None else 1 << fraction_bits(x.log.step)
    found = [limits(outputs, Fraction(float(scale)) / parts) for scale in unit]
    nothing = np.zeros(len(found), np.int64)
    return ir.Requant(
        mode="log",
        mantissa=nothing,
        shift=nothing,
        zero_point=0,
        low=op.low,
        high=op.high,
        log=outputs,
        limits=np.array(found, np.int64).T,
    )


def _lacks_fraction(x: ir.Value, requant: ir.Requant) -> bool:
    """Whether sums of half octaves, no whole numbers, end in an exact requantization of whole
    ones."""
    keeps = x.log is not None and x.log.keeps_fraction
    return keeps and requant.mode == "exact" and not requant.fraction


def _with_fraction(requant: ir.Requant) -> ir.Requant:
    """The same of sums that count 2**-FRACTION_BITS."""
    shift = requant.shift + FRACTION_BITS
    live = (requant.mantissa > 0) & (shift <= MAX_SHIFT)  # the others are 0 of every sum
    return replace(
        requant,
        mantissa=np.where(live, requant.mantissa, 0),
        shift=np.where(live, shift, 0),
        fraction=FRACTION_BITS,
    )


class _Fuser:
    def __init__(self, graph: ir.Graph, problems: Problems, mode: Mode) -> None:
        self.values = graph.values
        self.ranges = code_ranges(graph)
        self.problems = problems
        self.mode: Mode = mode

    def fuse(self, op: ir.Op) -> ir.Op | None:
        """The integer operation, None after a problem."""
        for name in (*op.inputs, *op.outputs):
            shape = self.values[name].shape
            if len(shape) != 4 and not isinstance(op, ir.Reshape | ir.Select):
                self._refuse(
                    op,
                    f"works on '{name}' {list(shape)}",
                    "only images [1, channels, height, width] and vectors of MatMul are supported",
                )
                return None
        match op:
            case ir_quantized.QuantizedConv():
                return self._conv(op)
            case ir_quantized.QuantizedAveragePool():
                return self._average_pool(op)
            case ir_quantized.QuantizedBinary():
                return ir.Binary(
                    inputs=op.inputs, outputs=op.outputs, origins=op.origins, table=op.table
                )
            case ir_quantized.ChipSoftmax():
                return self._softmax(op)
            case ir.Constant() | ir.Lookup() | ir.MaxPool() | ir.Reshape() | ir.Select():
                return op
            case _:
                raise AssertionError(f"split_host leaves no {type(op).__name__}")

    def _conv(self, op: ir_quantized.QuantizedConv) -> ir.Op | None:
        if op.steps and self.values[op.name].log is not None:
            self._refuse(
                op,
                "has other operators than Relu in front of its logarithmic codes",
                "fold BatchNormalization into the layer: `qcompile quantize` does",
            )
            return None
        fitted = self._fitted(op) if op.steps else (op, None)
        if fitted is None:
            return None
        op, requant = fitted
        x, y = self.values[op.inputs[0]], self.values[op.name]
        if y.log is not None:
            requant = _log_requant(op, x, op.acc_scale, y.log)
        elif requant is None:
            scale = combined_scale(1.0, op.acc_scale, _quantization(y).scale)
            requant = self._requant(op, scale, op.low, op.high, inside=False)
        if requant is not None and _lacks_fraction(x, requant):
            op, requant = replace(op, bias=op.bias << FRACTION_BITS), _with_fraction(requant)
        if requant is None or not self._fits(op, x, requant):
            return None
        return ir.Conv(
            inputs=op.inputs,
            outputs=op.outputs,
            origins=op.origins,
            weight=op.weight,
            bias=op.bias,
            input_zero_point=_quantization(x).zero_point - _moved(x.dtype),
            strides=op.strides,
            dilations=op.dilations,
            pads=op.pads,
            group=op.group,
            requant=requant,
            log=x.log,
        )

    def _fits(self, op: ir_quantized.QuantizedConv, x: ir.Value, requant: ir.Requant) -> bool:
        """Whether all sums have 32 bits; a problem where not."""
        farthest = max(abs(end) for end in _reach(x, code_range(x.dtype)))
        weights = np.abs(op.weight.astype(np.int64)).reshape(op.weight.shape[0], -1).sum(axis=1)
        bounds = (weights * farthest << requant.fraction) + np.abs(op.bias)
        bound = int(np.max(bounds))
        if bound >= ACCUMULATOR_LIMIT:
            bias = int(np.abs(op.bias[np.argmax(bounds)]))
            advice = [] if x.log is None else [FEWER_OCTAVES]
            if x.log is None or 2 * bias > bound:
                advice.insert(0, "check the bias: a dead channel should have the bias 0")
            self._refuse(op, f"its sums reach {bound:,}, beyond 32 bits", "; or ".join(advice))
        return bound < ACCUMULATOR_LIMIT

    def _fitted(
        self, op: ir_quantized.QuantizedConv
    ) -> tuple[ir_quantized.QuantizedConv, ir.Requant | None] | None:
        """A layer without float operators behind its sums; None after a problem."""
        x, y = self.values[op.inputs[0]], self.values[op.name]
        low, high = _reach(x, self.ranges[x.name])
        inputs = (min(low, 0), max(high, 0))  # padding adds nothing
        steps = FloatSteps(
            acc_scale=op.acc_scale,
            steps=op.steps,
            quantization=_quantization(y),
            dtype=y.dtype,
            low=op.low,
            high=op.high,
        )
        if self.mode == "shift":
            return without_steps(op, steps), None
        found = fit(steps, op.weight, op.bias, inputs)
        if found.steps_off > 1:
            self._refuse(
                op,
                f"the float operators behind it would be {found.steps_off} steps off",
                "add QuantizeLinear and DequantizeLinear between the operators",
            )
            return None
        moved = _moved(y.dtype)
        requant = ir.Requant(
            mode="exact",
            mantissa=found.mantissa,
            shift=found.shift,
            zero_point=_quantization(y).zero_point - moved,
            low=op.low - moved,
            high=op.high - moved,
            fraction=found.fraction,
        )
        factor = found.factor.reshape(-1, 1, 1, 1)
        weight = (op.weight.astype(np.int64) * factor).astype(np.int16)
        return replace(op, weight=weight, bias=found.bias, steps=()), requant

    def _average_pool(self, op: ir_quantized.QuantizedAveragePool) -> ir.Op | None:
        x, y = self.values[op.inputs[0]], self.values[op.name]
        xq, yq = _quantization(x), _quantization(y)
        channels = y.shape[1]
        same = xq.scale == yq.scale and not op.whole_image
        ratio = global_average_pool_scale(xq.scale, yq.scale, op.divisor)[0]
        mean = 1 / op.divisor if same else float(ratio)
        weight = _pool_weight(mean, self.mode, exact_ties=same)
        scale = np.asarray([mean / weight], dtype=np.float32)
        if y.log is not None:
            weight = 1
            unit = np.full(channels, np.float32(xq.scale) / np.float32(op.divisor), np.float32)
            requant: ir.Requant | None = _log_requant(op, x, unit, y.log)
        else:
            requant = self._requant(
                op, np.repeat(scale, channels), op.low, op.high, inside=not op.whole_image
            )
            if requant is not None and _lacks_fraction(x, requant):
                requant = _with_fraction(requant)
        if requant is None:
            return None
        return ir.AveragePool(
            inputs=op.inputs,
            outputs=op.outputs,
            origins=op.origins,
            kernel=op.kernel,
            strides=op.strides,
            pads=op.pads,
            input_zero_point=xq.zero_point - _moved(x.dtype),
            requant=requant,
            weight=weight,
            log=x.log,
        )

    def _softmax(self, op: ir_quantized.ChipSoftmax) -> ir.Op:
        powers, logs = log_tables(_quantization(self.values[op.inputs[0]]).scale)
        return ir.Softmax(
            inputs=op.inputs,
            outputs=op.outputs,
            origins=op.origins,
            mode=self.mode,
            axis=1,
            steps=steps_of(_quantization(self.values[op.name])),
            powers=powers,
            logs=logs,
        )

    def _requant(
        self, op: ir.Op, scale: npt.NDArray[np.float32], low: int, high: int, *, inside: bool
    ) -> ir.Requant | None:
        y = self.values[op.name]
        moved = _moved(y.dtype)
        largest = float(scale.max())
        if self.mode == "shift":
            shift, mantissa = scale_to_shift(scale), np.ones(scale.shape, dtype=np.int64)
            allowed = bool(np.all(shift >= 0))
        else:
            allowed = largest < 2.0**24
            mantissa, shift = scale_to_mantissa(scale if allowed else np.zeros_like(scale))
        if not allowed:
            self._refuse(
                op,
                f"multiplies its sums by {largest:.6g}, which no right shift can do",
                "use --requant exact"
                if self.mode == "shift"
                else "quantize the model again: its scales do not fit together",
            )
            return None
        return ir.Requant(
            mode=self.mode,
            mantissa=mantissa,
            shift=shift,
            zero_point=_quantization(y).zero_point - moved,
            low=low - moved,
            high=high - moved,
            zero_point_inside=inside,
        )

    def _refuse(self, op: ir.Op, message: str, help: str) -> None:
        origin = op.origins[0]
        name = f" '{origin.node}'" if origin.node else ""
        self.problems.unsupported(
            f"{origin.operator}{name} (node {origin.index}): {message}", help=help
        )


def _pool_weight(mean: float, mode: Mode, *, exact_ties: bool) -> int:
    """The weight of a pool's taps, 1..127, with which requantization by mean / weight is best.

    Mode `shift`: mean / weight is nearest to a power of two. Mode `exact` with `exact_ties`: its
    float32 is so near that a sum of half the divisor comes out as a tie, because rounding to 24
    bits, which moves a product by up to 2**-25 of it, makes up for the rest.
    """
    weights = np.arange(1, 128)
    scales = mean / weights
    if mode == "shift":
        logs = np.log2(scales)
        return int(weights[np.argmin(np.abs(logs - np.rint(logs)).round(6))])
    if not exact_ties:
        return 1
    near = np.abs(scales.astype(np.float32) / scales - 1) < 2.0**-26
    return int(weights[np.argmax(near)])
