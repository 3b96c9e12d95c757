"""Inputs that queue: when the host may write the next ones, and must have read the last outputs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class InputQueue:
    """Of a program whose inputs and outputs have places of their own for the whole run; so have
    stored constants, which need not be written again.

    Attributes
    ----------
    inputs_free : int
        When so many layers have ended, no layer reads an input any more.
    outputs_from : int
        So many layers come before the first one that writes an output.
    """

    inputs_free: int
    outputs_from: int
