"""Another form of a graph input, and the convolution that makes the same sums of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qcompile.compiler.ir import Int16Array
from qcompile.compiler.layers import Shape3


@dataclass(frozen=True, slots=True, kw_only=True)
class SentForm:
    """What the host sends, and the convolution of it.

    Attributes
    ----------
    operation : str
        Of `runtime.host_ops`, which makes it; `attributes` are the operation's, without `fill`.
    suffix : str
        Of the sent tensor's name.
    shape : Shape3
        Of the sent tensor.
    weight : int16 [out, in, kh, kw]
    strides, dilations, pads
        As `ir.Conv`'s.
    """

    operation: str
    suffix: str
    attributes: Mapping[str, object]
    shape: Shape3
    weight: Int16Array
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]
