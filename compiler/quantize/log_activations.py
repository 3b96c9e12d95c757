"""Logarithmic activations: which tensors have them, and how they are written as ONNX."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt

from qcompile.compiler.errors import UsageError
from qcompile.compiler.frontend.log_quantize import (
    DOMAIN,
    NAME,
    call_attributes,
    log_quantize_function,
)
from qcompile.compiler.log_format import ARRAY_FORMS, MAX_LEVELS, OCTAVE, LogFormat
from qcompile.compiler.quantize.encoding import Encoding
from qcompile.compiler.quantize.log_quant import STEPS, find_format, near_formats
from qcompile.compiler.quantize.observe import Observations
from qcompile.compiler.quantize.options import Options
from qcompile.compiler.quantize.prepare import Network
from qcompile.compiler.quantize.signs import part_signs
from qcompile.compiler.quantize.writer import Writer

Array = npt.NDArray[Any]
Choice = Literal["mse", "entropy", "output"]
SCHEMES = ("affine", "ternary", "binary")
"""Whose weights need no particular scale of activations."""
MOST_VALUES = 1 << 20
"""Values that a format is chosen by: evenly spaced ones of a larger tensor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEncoding:
    """An `Encoding` by a LogFormat."""

    format: LogFormat

    @property
    def scale(self) -> np.float32:
        """The value of code 1, in whose steps a layer's sums count."""
        return np.float32(2.0 ** (self.format.fsr / OCTAVE))

    @property
    def zero_point(self) -> int | None:
        """Codes of logarithms have none."""
        return None

    def rounded(self, values: Array) -> Array:
        """What each value's code stands for."""
        return self.format.rounded(values)

    def write(self, writer: Writer, source: str, name: str, result: str) -> None:
        """A call of the model-local function LogQuantize."""
        writer.function(log_quantize_function())
        constants = [
            writer.constant(f"{name}/thresholds", self.format.thresholds),
            writer.constant(f"{name}/values", self.format.values),
        ]
        attributes = call_attributes(self.format)
        writer.node(NAME, [source, *constants], result, domain=DOMAIN, **attributes)


class LogActivations:
    """A `scheme.ActivationForm`: `levels` codes for every tensor that is never negative.

    Others (outputs, operands of an Add, inputs with a sign) keep the scheme's encoding; with
    `signs`, an input with a sign is parted into both in front of its layer. mse and entropy are
    `log_quant.find_format`'s, output takes the least error of the layers behind (`readers`).
    """

    def __init__(
        self,
        levels: int,
        choice: Choice = "mse",
        *,
        steps: tuple[int, ...] = STEPS,
        signs: bool = False,
    ) -> None:
        self.levels = levels
        self.choice: Choice = choice
        self.steps = steps
        self.signs = signs
        self.without_codes: set[str] = set()
        self.signed: list[str] = []
        self.found: dict[str, LogFormat] = {}

    @classmethod
    def of(cls, argument: str, options: Options) -> LogActivations:
        """What `--activations log:ARGUMENT` asks for; UsageError where there is no such form."""
        count, _, choice = argument.partition(",")
        wanted = f"log:L, log:L,entropy or log:L,output with L from 2 to {MAX_LEVELS}"
        if not (count.isdecimal() and 2 <= int(count) <= MAX_LEVELS):
            raise UsageError(f"--activations log:{argument} is not known", help=f"give {wanted}")
        if choice not in ("", *get_args(Choice)):
            raise UsageError(f"--activations log:{argument} is not known", help=f"give {wanted}")
        if options.scheme not in SCHEMES:
            raise UsageError(
                f"--activations log has no meaning in scheme {options.scheme}",
                help=f"schemes with it: {', '.join(SCHEMES)}",
            )
        steps = STEPS if options.log_step is None else (options.log_step,)
        chosen = cast(Choice, choice or "mse")
        return cls(int(count), chosen, steps=steps, signs=options.part_signs)

    def rewrite(self, network: Network, observations: Observations) -> None:
        """Part the signs of the network's inputs, where that was asked for."""
        self.without_codes = part_signs(network, observations) if self.signs else set()

    def encodings(
        self, network: Network, observations: Observations, chosen: Mapping[str, Encoding]
    ) -> dict[str, Encoding]:
        """A format for each tensor of `chosen` that gets one."""
        inputs = [value.name for value in network.inputs]
        self.signed = [name for name in inputs if observations.values(name).min() < 0]
        result = {name: one for name, one in chosen.items() if name not in self.without_codes}
        for name in result:
            values = observations.values(name)
            if name in network.outputs or values.min() < 0:
                continue
            self.found[name] = self._format(name, observations)
            result[name] = LogEncoding(format=self.found[name])
        return result

    def _format(self, name: str, observations: Observations) -> LogFormat:
        values = observations.values(name)
        sample = values.reshape(-1)[:: -(-values.size // MOST_VALUES)]
        if self.choice != "output":
            return find_format(sample, self.levels, self.choice, self.steps)
        return min(
            near_formats(sample, self.levels, self.steps),
            key=lambda one: observations.readers.error(name, LogEncoding(format=one)),
        )

    def notes(self) -> list[str]:
        """A line for each tensor with logarithmic codes, and one where no array takes them."""
        width = max([len("tensor"), *map(len, self.found)])
        return [
            f"{'tensor':{width}}  levels  {'fsr':>5}  step   (sixteenths of an octave)",
            *(
                f"{name:{width}}  {one.levels:>6}  {one.fsr:>5}  {one.step:>4}"
                for name, one in self.found.items()
            ),
            *self._without_array(),
            *(
                f"input {name} has a sign, so its codes are linear: for a board add --part-signs"
                for name in self.signed
                if not self.signs
            ),
        ]

    def _without_array(self) -> list[str]:
        forms = {(one.levels, one.step) for one in self.found.values()}
        if len(forms) == 1 and forms <= set(ARRAY_FORMS):
            return []
        wanted = sorted(step for levels, step in ARRAY_FORMS if levels == self.levels)
        if wanted:
            steps = " or ".join(f"--log-step {step}" for step in wanted)
            return [f"no array is built for these steps: for a board add {steps}"]
        counts = ", ".join(map(str, sorted({levels for levels, _ in ARRAY_FORMS})))
        return [f"no array is built for {self.levels} levels, but for {counts}"]
