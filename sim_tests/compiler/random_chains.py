"""Random chains of quantized operators, of QDQ and QOperator form, as small networks.

Every operator takes codes and gives codes. Zero points lie at the ends of their type as often as
between, scales are powers of two, arbitrary, or far from those of the operands; numbers of weights
come from a generator with a drawn seed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim_tests.compiler.dice import Dice
from sim_tests.compiler.networks import Network, Parameters

SPREAD = 50.0
"""Standard deviation of codes that fill their type well."""

MAX_ELEMENTS = 1 << 11


@dataclass(slots=True)
class Chain:
    """A network under construction, whose last value is `codes`.

    `spread` is about the standard deviation of the real numbers that the codes stand for.
    """

    network: Network
    dice: Dice
    rng: np.random.Generator
    codes: str
    shape: tuple[int, ...]
    parameters: Parameters
    spread: float

    @property
    def dtype(self) -> str:
        return self.parameters[2]

    @property
    def elements(self) -> int:
        return int(np.prod(self.shape))

    def real(self) -> str:
        """The value, dequantized."""
        return self.network.dequantize(self.codes, self.parameters)

    def end(self, real: str, shape: tuple[int, ...], spread: float, *, same: bool = False) -> None:
        """QuantizeLinear behind an operator; with `same` mostly to the operand's parameters."""
        parameters = self.parameters
        if not same or self.dice.whole(0, 3) == 3:
            dtype = self.dtype if self.dice.whole(0, 9) < 9 else self.dice.pick(("int8", "uint8"))
            parameters = random_parameters(self.dice, dtype, spread)
        self.become(self.network.quantize(real, parameters), shape, parameters, spread)

    def become(
        self, codes: str, shape: tuple[int, ...], parameters: Parameters, spread: float
    ) -> None:
        """The next operator's operand."""
        self.codes, self.shape, self.parameters = codes, shape, parameters
        self.spread = min(spread, SPREAD * 2 * parameters[0])


Operator = Callable[[Chain], None]


def random_scale(dice: Dice, around: float) -> float:
    """A float32 about as large as told: a power of two, any number, or one far away."""
    kind = dice.pick(("power", "any", "any", "far"))
    factor = 2.0 ** (dice.whole(-4, 4) / 4)
    if kind == "power":
        return float(2.0 ** np.rint(np.log2(around * factor)))
    if kind == "far":
        factor *= 2.0 ** dice.pick((-7, -4, 4, 7))
    return float(np.float32(around * factor * (1 + dice.whole(0, 1 << 16) / (1 << 17))))


def random_zero(dice: Dice, dtype: str) -> int:
    """A zero point: in the middle, at an end, or anywhere."""
    low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    return dice.pick(((low + high + 1) // 2, low, high, dice.whole(low, high)))


def random_parameters(dice: Dice, dtype: str, spread: float) -> Parameters:
    return random_scale(dice, spread / SPREAD), random_zero(dice, dtype), dtype


def begin(dice: Dice) -> Chain:
    """The network's input: codes of a line, an image or a vector, of at most 2,048 elements."""
    network = Network(dice.pick((13, 12, 17, 18, 21)))
    dtype = dice.pick(("int8", "uint8"))
    parameters = random_parameters(dice, dtype, 2.0**-5 * SPREAD)
    rank = dice.pick((4, 4, 4, 3, 2))
    channels = dice.pick((4, 1, 3, 5, 8, 12))
    sizes = [dice.whole(1, 9) for _ in range(rank - 2)]
    shape = (1, channels, *sizes)
    if dice.whole(0, 3) == 3:
        codes = network.quantize(network.input("x", "float32", shape), parameters)
    else:
        codes = network.input("x", dtype, shape)
    rng = np.random.default_rng(dice.whole(0, (1 << 32) - 1))
    return Chain(network, dice, rng, codes, shape, parameters, 74 * parameters[0])


def random_chain(
    operators: tuple[Operator, ...], ends: tuple[Operator, ...], dice: Dice, *, longest: int = 3
) -> Network:
    """One to `longest` operators behind one of `ends`, perhaps another one behind them.

    Codes, real numbers, shares or classes leave the network.
    """
    chain = begin(dice)
    before = chain.codes
    while chain.codes == before:
        dice.pick(ends)(chain)
    for _ in range(dice.whole(1, longest)):
        dice.pick(operators)(chain)
    if dice.whole(0, 1):
        dice.pick(ends)(chain)
    kind = dice.pick(("codes", "codes", "real", "Softmax", "ArgMax"))
    if kind == "real":
        chain.network.output(chain.real(), "float32")
    elif kind == "Softmax":
        shares = chain.network.node("Softmax", chain.real(), axis=len(chain.shape) - 1)
        chain.network.output(shares, "float32")
    elif kind == "ArgMax":
        chain.network.output(chain.network.node("ArgMax", chain.real(), axis=1), "int64")
    else:
        chain.network.output(chain.codes, chain.dtype)
    return chain.network


def random_weight(
    chain: Chain, shape: tuple[int, ...], axis: int, depth: int
) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.float32], int]:
    """Codes, scale (one, or one for each place along an axis) and zero point of a weight.

    ONNX Runtime multiplies uint8 weights with uint8 activations only.
    """
    dice = chain.dice
    dtype = dice.pick(("int8", "uint8")) if chain.dtype == "uint8" else "int8"
    low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    codes = chain.rng.integers(low, high + 1, shape).astype(dtype)
    if dice.whole(0, 3) == 3:
        codes = chain.rng.choice(np.asarray([low, high], dtype), shape)
    one = dice.whole(0, 1) or chain.network.opset < 13
    count = () if one else (shape[axis],)
    uneven, powers = chain.rng.uniform(0.5, 1.5, count), 2.0 ** chain.rng.integers(-3, 2, count)
    factors = np.asarray(powers if dice.whole(0, 1) else uneven)
    scale = random_scale(dice, 1 / (74 * depth**0.5)) * factors
    middle = (low + high + 1) // 2
    zero = dice.pick((middle, middle, low, high, dice.whole(low, high)))
    return codes, np.asarray(scale, np.float32), zero
