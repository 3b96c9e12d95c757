"""Correctly rounded shares and functions of codes, by decimal arithmetic where float64 may err."""

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Float64Array = npt.NDArray[np.float64]
DIGITS = 60
DOUBT = 1e-9
"""Distance from a tie within which float64 does not say where a number is rounded to."""


def rounded(values: Float64Array, exact: Callable[[int], Decimal]) -> npt.NDArray[np.int64]:
    """Nearest whole numbers; `exact` gives the number of a flat index where float64 may err."""
    flat = values.reshape(-1)
    whole = np.rint(flat).astype(np.int64)
    doubtful = np.flatnonzero(np.abs(np.abs(flat - whole) - 0.5) < DOUBT)
    with localcontext() as context:
        context.prec = DIGITS
        for index in doubtful.tolist():
            whole[index] = int(exact(index).to_integral_value(ROUND_HALF_EVEN))
    return whole.reshape(values.shape)


def shares(x: npt.NDArray[np.int8], scale: float, steps: int) -> npt.NDArray[np.int64]:
    """Softmax of scale * x [N, classes] in parts of 1 / steps, correctly rounded, 255 at most."""
    step = float(np.float32(scale))
    below = x.astype(np.float64) - x.max(axis=1, keepdims=True)
    powers = np.exp(step * below)
    values = steps * powers / powers.sum(axis=1, keepdims=True)

    def exact(index: int) -> Decimal:
        row, column = divmod(index, x.shape[1])
        terms = [_power(step, int(b)) for b in below[row]]
        share: Decimal = steps * terms[column] / sum(terms, Decimal(0))
        return share

    return np.minimum(rounded(values, exact), 255)


@lru_cache(maxsize=1 << 12)
def _power(step: float, below: int) -> Decimal:
    return (Decimal(step) * below).exp()


def function_codes(
    name: str, reals: Float64Array, scale: float, zero_point: int, limits: tuple[int, int]
) -> npt.NDArray[np.int64]:
    """Codes of Sigmoid, Tanh or Exp of real numbers, correctly rounded, then clamped to limits."""
    functions: dict[str, Callable[[Float64Array], Float64Array]] = {
        "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
        "Tanh": np.tanh,
        "Exp": np.exp,
    }

    def exact(index: int) -> Decimal:
        x = Decimal(float(reals[index]))
        power = x.exp()
        value = {
            "Sigmoid": power / (1 + power),
            "Tanh": (power * power - 1) / (power * power + 1),
            "Exp": power,
        }[name]
        return value / Decimal(scale)

    low, high = limits
    quotients = np.clip(functions[name](reals) / scale, -1e6, 1e6)
    return np.clip(rounded(quotients, exact) + zero_point, low, high)
