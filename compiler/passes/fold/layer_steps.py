"""Float operators between a layer's sums and its QuantizeLinear: batch normalization, scaling."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qcompile.compiler import ir_float
from qcompile.compiler.golden.unary import UnaryOp, unary_function
from qcompile.compiler.passes.fold.groups import NotFoldable, Pending

MONOTONIC = ("Bipolar", "Neg", "TruncCeil", "TruncFloor", "TruncRound")
"""Functions without a straight line whose codes rise, or fall, with the sum all the same."""


def split_steps(
    pending: Pending, shape: tuple[int, ...], channel: int
) -> tuple[Pending, tuple[UnaryOp, ...]]:
    """The group with its sums and the clamps of its codes alone, and the operators between them.

    `shape` is that of the layer's result and `channel` the axis of its output channels. A bias of
    real numbers in front of other operators is the first of them.
    """
    after = _clips_last(pending.after)
    last = max(
        (i for i, step in enumerate(after) if not isinstance(step, ir_float.Clip)),
        default=-1,
    )
    real_bias = isinstance(pending.bias, np.ndarray) and not _has_factors(pending)
    if last < 0 and not (real_bias and pending.in_float):
        return pending, ()
    steps = tuple(_by_channel(step, shape, channel) for step in after[: last + 1])
    if isinstance(pending.bias, np.ndarray) and real_bias:
        bias = ir_float.Arithmetic(
            inputs=(), outputs=(), function="Add", constant=pending.bias.reshape(-1)
        )
        steps = (bias, *steps)
        pending = replace(pending, bias=None)
    return replace(pending, after=after[last + 1 :]), steps


def _clips_last(steps: tuple[UnaryOp, ...]) -> tuple[UnaryOp, ...]:
    """Clamps behind the operators with one number that follow them, which keep or turn the order.

    Rounding keeps the order too, so that every result stays what it is.
    """
    done: list[UnaryOp] = []
    clips: list[ir_float.Clip] = []
    for step in steps:
        if isinstance(step, ir_float.Clip):
            clips.append(step)
            continue
        if isinstance(step, ir_float.Arithmetic) and not step.constant.ndim:
            clips = [_behind(clip, step) for clip in clips]
        else:
            done += clips
            clips = []
        done.append(step)
    return (*done, *clips)


def _behind(clip: ir_float.Clip, step: ir_float.Arithmetic) -> ir_float.Clip:
    function = unary_function(step)
    low, high = (
        None if bound is None else float(function(np.asarray(bound, dtype=np.float32)))
        for bound in (clip.low, clip.high)
    )
    zero, one = function(np.asarray([0, 1], dtype=np.float32))
    return replace(clip, low=high, high=low) if one < zero else replace(clip, low=low, high=high)


def _has_factors(pending: Pending) -> bool:
    op = pending.op
    return isinstance(op, ir_float.FloatMatMul) and not op.alpha == op.beta == 1


def _by_channel(step: UnaryOp, shape: tuple[int, ...], channel: int) -> UnaryOp:
    """A function that rises or falls with its value, its constants [] or [channels]."""
    if isinstance(step, ir_float.Clip):
        return step
    linear = isinstance(step, ir_float.Unary) and step.function in MONOTONIC
    if isinstance(step, ir_float.Arithmetic):
        linear = step.function != "Prelu" and (step.function != "Div" or not step.constant_first)
    if not linear:
        operator = step.origins[0].operator
        raise NotFoldable(
            f"{operator} reads the float result",
            f"add QuantizeLinear and DequantizeLinear in front of {operator}",
        )
    if isinstance(step, ir_float.Unary):
        return step
    if not np.all(np.isfinite(step.constant)):
        raise NotFoldable(
            f"{step.origins[0].operator} has a constant that is not finite",
            "train or export the model again",
        )
    if not step.constant.ndim:
        return step
    aligned = (1,) * (len(shape) - step.constant.ndim) + step.constant.shape
    if any(d != 1 and i != channel for i, d in enumerate(aligned)):
        raise NotFoldable(
            f"{step.origins[0].operator} has a constant {list(step.constant.shape)} for "
            f"{list(shape)}",
            "use one value for each output channel",
        )
    return replace(step, constant=step.constant.reshape(-1))
