"""Functions of one float32 value, step by step as ONNX Runtime's CPU provider computes them.

The compiler makes tables of 256 codes of them, and the host runs them on float tensors at the
edges of a network. Every intermediate result is rounded to float32 as on x86-64 with FMA
instructions, where Sigmoid, Tanh and Erf are rational or exponential approximations of their own
(MLAS). Elu's exponential is another one (Eigen's), whose last bit may differ in 1 of 100 values.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
F32 = np.float32

SIGMOID_RANGE = 18.0
SIGMOID_ODD = (
    *(4.37031012579801e-11, 1.15627324459942e-07, 6.08574864600143e-05),
    *(8.51377133304701e-03, 2.48287947061529e-01),
)
SIGMOID_EVEN = (
    *(6.10247389755681e-13, 5.76102136993427e-09, 6.29106785017040e-06),
    *(1.70198817374094e-03, 1.16817656904453e-01, 9.93151921023180e-01),
)
"""sigmoid(x) - 1/2 = x * odd(x * x) / even(x * x); highest power first."""

TANH_RANGE = 9.0
TANH_ODD = (
    *(-2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11),
    *(5.12229709037114e-08, 1.48572235717979e-05, 6.37261928875436e-04, 4.89352455891786e-03),
)
TANH_EVEN = (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03)
"""tanh(x) = x * odd(x * x) / even(x * x)."""

ERF_SPLIT, ERF_RANGE = 0.921875, 3.925
ERF_SMALL = (
    *(-5.99104969e-4, 4.99339588e-3, -2.67667342e-2, 1.12818025e-1),
    *(-3.76124859e-1, 1.28379151e-1),
)
ERF_BIG = (
    *(1.72948930e-5, -3.83208680e-4, 3.88393435e-3, -2.42545605e-2),
    *(1.06777847e-1, 6.34846687e-1, 1.28717512e-1),
)
ERF_EXPONENTIAL = (
    *(1.38319808e-3, 8.37550033e-3, 4.16689515e-2, 1.66664466e-1, 4.99999851e-1),
    *(1.0, 1.0),
)
"""erf(x) = x + x * small(x * x), or 1 - exp(-(x + x * big(x))) above the split."""


EXP = tuple(
    float.fromhex(c)
    for c in (
        *("0x1.694000p-10", "0x1.125edcp-7", "0x1.555b5ap-5", "0x1.555450p-3"),
        *("0x1.fffff6p-2", "0x1p0", "0x1p0"),
    )
)
EXP_CEPHES = (
    *(1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3),
    *(4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1),
)


def fused_multiply_add(
    a: npt.ArrayLike, b: npt.ArrayLike, c: npt.ArrayLike
) -> npt.NDArray[np.float32]:
    """a * b + c with one rounding to float32, as the FMA instruction does.

    The product of two float32 is exact in float64. Their sum with c is rounded to odd there
    (when inexact, the neighbour with an odd last bit is taken), after which rounding to float32
    gives the correctly rounded result, because float64 has more than 24 + 2 bits.
    """
    product = np.asarray(a, dtype=np.float64) * np.asarray(b, dtype=np.float64)
    addend = np.asarray(c, dtype=np.float64)
    total = np.asarray(product + addend)
    # Knuth's two-sum: `error` is exactly what the addition lost.
    shadow = total - product
    error = (product - (total - shadow)) + (addend - shadow)
    even = (total.view(np.int64) & 1) == 0
    towards = np.where(error > 0, np.inf, -np.inf)
    to_odd = np.where((error != 0) & even, np.nextafter(total, towards), total)
    return to_odd.astype(np.float32)


def _polynomial(x: FloatArray, coefficients: tuple[float, ...]) -> FloatArray:
    """Horner's rule with fused steps."""
    result = np.full(x.shape, coefficients[0], dtype=np.float32)
    for coefficient in coefficients[1:]:
        result = fused_multiply_add(result, x, F32(coefficient))
    return result


def sigmoid(x: FloatArray) -> FloatArray:
    """Logistic function (MlasComputeLogistic)."""
    inner = np.clip(x, F32(-SIGMOID_RANGE), F32(SIGMOID_RANGE))
    square = inner * inner
    odd = _polynomial(square, SIGMOID_ODD) * inner
    ratio = odd / _polynomial(square, SIGMOID_EVEN)
    return np.asarray(np.clip(ratio + F32(0.5), F32(0), F32(1)))


def tanh(x: FloatArray) -> FloatArray:
    """Hyperbolic tangent (MlasComputeTanh)."""
    inner = np.clip(x, F32(-TANH_RANGE), F32(TANH_RANGE))
    square = inner * inner
    odd = _polynomial(square, TANH_ODD) * inner
    return np.asarray(odd / _polynomial(square, TANH_EVEN))


def erf(x: FloatArray) -> FloatArray:
    """Error function (MlasComputeErf)."""
    size = np.minimum(np.abs(x), F32(ERF_RANGE))
    small = fused_multiply_add(_polynomial(size * size, ERF_SMALL), size, size)
    power = -fused_multiply_add(_polynomial(size, ERF_BIG), size, size)
    rounding = F32(12582912.0)  # 1.5 * 2**23: adding it rounds to a whole number
    whole = fused_multiply_add(power, F32(1.44269504088896341), rounding) - rounding
    # ln(2) in two parts, so that power - whole * ln(2) loses no bits.
    rest = fused_multiply_add(whole, F32(-6.93145752e-1), power)
    rest = fused_multiply_add(whole, F32(-1.42860677e-6), rest)
    exponential = np.ldexp(_polynomial(rest, ERF_EXPONENTIAL), whole.astype(np.int32))
    big = F32(1) - exponential
    return np.copysign(np.where(size > F32(ERF_SPLIT), big, small), x).astype(np.float32)


def exp(x: FloatArray) -> FloatArray:
    """Exponential by MLAS's range reduction and polynomial (MlasComputeExp)."""
    inner = np.clip(x, F32(-103.9720840454), F32(88.7762626647950))  # smallest and largest float32
    rounding = F32(12582912.0)  # 1.5 * 2**23: adding it rounds to a whole number
    power = fused_multiply_add(inner, F32(1.44269504088896341), rounding) - rounding
    # ln(2) in two parts, so that inner - power * ln(2) loses no bits.
    rest = fused_multiply_add(power, F32(-6.93145752e-1), inner)
    rest = fused_multiply_add(power, F32(-1.42860677e-6), rest)
    with np.errstate(over="ignore", under="ignore"):
        result = np.ldexp(_polynomial(rest, EXP), power.astype(np.int32))
    return np.asarray(result, dtype=np.float32)


def _exp_cephes(x: FloatArray) -> FloatArray:
    """Exponential of x <= 0 by the Cephes library's polynomial, products and sums rounded apart."""
    power = np.floor(x * F32(1.44269504088896341) + F32(0.5))
    rest = (x - power * F32(0.693359375)) - power * F32(-2.12194440e-4)
    square = rest * rest
    p = [F32(c) for c in EXP_CEPHES]
    high = (p[0] * rest + p[1]) * rest + p[2]
    middle = (p[3] * rest + p[4]) * rest + p[5]
    result = (high * (square * rest) + middle) * square + (rest + F32(1))
    with np.errstate(under="ignore"):
        return np.asarray(np.ldexp(result, power.astype(np.int32)), dtype=np.float32)


def elu(x: FloatArray, *, alpha: float = 1.0) -> FloatArray:
    """x where it is not negative, else alpha * (exp(x) - 1)."""
    below = F32(alpha) * (_exp_cephes(np.clip(x, F32(-88), F32(0))) - F32(1))
    return np.where(x >= 0, x, below)


def leaky_relu(x: FloatArray, *, alpha: float = 0.01) -> FloatArray:
    """x where it is not negative, else alpha * x."""
    return np.where(x >= 0, x, F32(alpha) * x)


def hard_sigmoid(x: FloatArray, *, alpha: float = 0.2, beta: float = 0.5) -> FloatArray:
    """alpha * x + beta between 0 and 1."""
    return np.asarray(np.clip(F32(alpha) * x + F32(beta), F32(0), F32(1)))


def hard_swish(x: FloatArray) -> FloatArray:
    """x * hard_sigmoid(x) with alpha 1/6, which is what ONNX Runtime makes of HardSwish."""
    return x * hard_sigmoid(x, alpha=1 / 6, beta=0.5)


def gelu(x: FloatArray) -> FloatArray:
    """x / 2 * (1 + erf(x / sqrt(2)))."""
    inner = erf(x * F32(0.70710678118654752440))
    return np.asarray((F32(0.5) * x) * (inner + F32(1)), dtype=np.float32)


def gelu_tanh(x: FloatArray) -> FloatArray:
    """The approximation of Gelu by tanh."""
    cubic = (F32(0.035677408136300125) * x) * x + F32(0.7978845608028654)
    inner = tanh(np.asarray(x * cubic, dtype=np.float32))
    return np.asarray((F32(0.5) * x) * (inner + F32(1)), dtype=np.float32)


def _truncation(rounding: Callable[[FloatArray], FloatArray]) -> Callable[..., FloatArray]:
    """QONNX Trunc: whole numbers of `scale`, times `factor`, clamped, rounded, real again."""

    def function(
        x: FloatArray,
        *,
        scale: float,
        zero_point: float,
        factor: float,
        out_zero: float,
        out_scale: float,
        low: float = -np.inf,
        high: float = np.inf,
    ) -> FloatArray:
        whole = np.rint(x / F32(scale) + F32(zero_point)) * F32(factor)
        codes = rounding(np.minimum(np.maximum(whole, F32(low)), F32(high)))
        return np.asarray((codes - F32(out_zero)) * F32(out_scale), dtype=np.float32)

    return function


def bipolar(x: FloatArray, *, scale: float = 1.0) -> FloatArray:
    """`scale` where x is not negative, else -scale (QONNX BipolarQuant)."""
    return np.where(x >= 0, F32(scale), F32(-scale))


def _log(x: FloatArray) -> FloatArray:
    """Natural logarithm, correctly rounded; ONNX Runtime's last bit may differ."""
    with np.errstate(all="ignore"):
        return np.asarray(np.log(x.astype(np.float64)), dtype=np.float32)


def _exp_rounded(x: FloatArray) -> FloatArray:
    """Exponential, correctly rounded."""
    with np.errstate(all="ignore"):
        return np.asarray(np.exp(x.astype(np.float64)), dtype=np.float32)


def softplus(x: FloatArray) -> FloatArray:
    """log(1 + exp(x)), without overflow."""
    return np.maximum(x, F32(0)) + _log(_exp_rounded(-np.abs(x)) + F32(1))


def mish(x: FloatArray) -> FloatArray:
    """x * tanh(softplus(x))."""
    return np.asarray(x * tanh(softplus(x)), dtype=np.float32)


def selu(x: FloatArray, *, alpha: float, gamma: float) -> FloatArray:
    """gamma * x where x is positive, else gamma * alpha * (exp(x) - 1)."""
    below = F32(alpha) * (_exp_cephes(np.clip(x, F32(-88), F32(0))) - F32(1))
    sides = np.maximum(x, F32(0)) + np.minimum(below, F32(0))
    return np.asarray(F32(gamma) * sides, dtype=np.float32)


def celu(x: FloatArray, *, alpha: float) -> FloatArray:
    """max(x, 0) + min(alpha * (exp(x / alpha) - 1), 0)."""
    below = F32(alpha) * (_exp_cephes(np.clip(x / F32(alpha), F32(-88), F32(0))) - F32(1))
    return np.asarray(np.maximum(x, F32(0)) + np.minimum(below, F32(0)), dtype=np.float32)


def quick_gelu(x: FloatArray, *, alpha: float) -> FloatArray:
    """x * sigmoid(alpha * x)."""
    return np.asarray(x * sigmoid(F32(alpha) * x), dtype=np.float32)


def softsign(x: FloatArray) -> FloatArray:
    """x / (1 + |x|), as a product with the reciprocal."""
    return (F32(1) / (F32(1) + np.abs(x))) * x


FUNCTIONS: dict[str, Callable[..., FloatArray]] = {
    "Abs": np.abs,
    "Bipolar": bipolar,
    **{
        f"Trunc{name}": _truncation(rounding)
        for name, rounding in (("Ceil", np.ceil), ("Floor", np.floor), ("Round", np.rint))
    },
    "Ceil": np.ceil,
    "Celu": celu,
    "Elu": elu,
    "Erf": erf,
    "Exp": exp,
    "Floor": np.floor,
    "Gelu": gelu,
    "GeluTanh": gelu_tanh,
    "HardSigmoid": hard_sigmoid,
    "HardSwish": hard_swish,
    "LeakyRelu": leaky_relu,
    "Log": _log,
    "Mish": mish,
    "Neg": np.negative,
    "QuickGelu": quick_gelu,
    "Reciprocal": lambda x: F32(1) / x,
    "Round": np.rint,
    "Selu": selu,
    "Sigmoid": sigmoid,
    "Sign": np.sign,
    "Softplus": softplus,
    "Softsign": softsign,
    "Sqrt": np.sqrt,
    "Tanh": tanh,
    "ThresholdedRelu": lambda x, *, alpha=1.0: np.where(x > F32(alpha), x, F32(0)),
}
"""Functions by name; their constants are keywords."""

ARITHMETIC: dict[str, Callable[[FloatArray, FloatArray], FloatArray]] = {
    "Add": np.add,
    "Div": np.divide,
    "Mul": np.multiply,
    "Prelu": lambda x, slope: np.where(x >= 0, x, slope * x),
    "Sub": np.subtract,
}
"""Functions of two float32 arrays by name."""
