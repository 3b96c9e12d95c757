"""Nodes and constants of a quantized model while they are being made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import FunctionProto, NodeProto, helper

Array = npt.NDArray[Any]


class Writer:
    """Takes nodes in the order of execution.

    Attributes
    ----------
    nodes, constants
        What was written.
    functions : dict of (domain, name) to FunctionProto
        Model-local functions, once each.
    """

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, Array] = {}
        self.functions: dict[tuple[str, str], FunctionProto] = {}

    def constant(self, name: str, value: Any) -> str:
        """An initializer; returns its name."""
        self.constants[name] = np.asarray(value)
        return name

    def node(
        self, kind: str, inputs: Sequence[str], output: str, *, domain: str = "", **attributes: Any
    ) -> str:
        """A node with one result; returns the result's name."""
        self.nodes.append(
            helper.make_node(
                kind, inputs, [output], name=f"{output}:{kind}", domain=domain, **attributes
            )
        )
        return output

    def function(self, function: FunctionProto) -> None:
        """A model-local function that nodes of its domain may call."""
        self.functions[function.domain, function.name] = function
