"""What a user may ask of the quantizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from qcompile.compiler.quantize.ranges import Method, Range

Equalization = Literal["weights", "activations"]
FractionalLength = Literal["std", "grid"]
Rounding = Literal["nearest", "search"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to quantize. What only some schemes read is None where it was not asked for."""

    scheme: str = "affine"
    weights: str = "int8"
    """KIND or KIND:ARGUMENT of `registry.WEIGHT_FORMS`."""
    activations: str = "int8"
    """KIND or KIND:ARGUMENT of `registry.ACTIVATION_FORMS`."""
    range: Method | None = None
    """How `ranges.find_range` chooses; None is minmax."""
    ranges: Mapping[str, Range] | None = None
    """Given ranges, by tensor, instead of found ones."""
    equalize: Equalization | None = None
    """Scale channels between layers, by the largest weights or activations; see `equalize`."""
    relu6_to_relu: bool = False
    """Take Clips from 0 on, such as Relu6, for Relus, so that they can be equalized."""
    bias_correction: bool = False
    """Move biases by the mean error that quantization makes; see `corrections`."""
    rounding: Rounding = "nearest"
    """Of weights: to the nearest level, or to the one found by `rounding.RoundingSearch`."""
    fl: FractionalLength | None = None
    """How fractional lengths are found."""
    int8_depthwise: bool = False
    """Whether weights of depthwise layers stay int8 whatever `weights` says."""
    part_signs: bool = False
    """Whether logarithmic activations include a network's input that has a sign."""
    log_step: int | None = None
    """The only step of logarithmic activations, in sixteenths of an octave; None is the best."""
