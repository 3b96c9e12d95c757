"""What the frontend knows of an ONNX operator: the importer that reads it, and its limits in words.

Each importer module lists its operators as a dict of `Operator`; `reader.DOMAINS` joins them. The
tables of docs/operators.md are made of these entries (`qcompile.compiler.operator_table`), and
sim_tests/compiler/test_operator_table.py holds each entry to a model of the operator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from qcompile.compiler.frontend.node_reader import Importer

Place = Literal["accelerator", "folded", "host"]
"""Where an operator runs: `folded` leaves no step of its own; `host` is in front of the first layer
or behind the last one."""

Agreement = Literal["equal", "1 step", "rounding"]
"""With ONNX Runtime. `1 step`: it computes in float, and codes may be one apart; `rounding`: real
numbers may differ in their last bits."""

REAL = ("float32",)
CODES = ("int8", "uint8")
REAL_OR_CODES = (*REAL, *CODES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """An operator that is read.

    Attributes
    ----------
    read : Importer
    runs : tuple of Place
    agreement : Agreement
    types : tuple of str
        Of the first operand; `float32` between DequantizeLinear and QuantizeLinear.
    attributes : mapping of name to remark
        All that the importer asks for; the remark says which values, "" where all of ONNX's.
    remark : str
        What else is supported or not, as Markdown.
    """

    read: Importer
    runs: tuple[Place, ...]
    agreement: Agreement = "equal"
    types: tuple[str, ...] = REAL
    attributes: Mapping[str, str] = field(default_factory=dict)
    remark: str = ""
