"""What the lowering of a graph has made so far."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from qcompile.compiler import ir
from qcompile.compiler.layers import Layer
from qcompile.compiler.log_format import LogFormat
from qcompile.compiler.machine import Machine
from qcompile.compiler.passes.lowering.layer import Mode


@dataclass(slots=True)
class Lowering:
    """Layers in execution order; `alias` names the tensor in memory of a reshaped value.

    `log` has levels and step of the codes, where they are logarithmic.
    """

    graph: ir.Graph
    mode: Mode
    machine: Machine
    uses: Counter[str]
    layers: list[Layer] = field(default_factory=list)
    alias: dict[str, str] = field(default_factory=dict)
    log: LogFormat | None = None

    def source(self, name: str) -> str:
        """The tensor in memory of a value."""
        return self.alias.get(name, name)

    def bank(self, tensor: str) -> int:
        """The bank of a tensor in memory, if graph inputs lie in bank 0: `allocate` may swap."""
        for layer in reversed(self.layers):
            if layer.output == tensor:
                return 1 - self.bank(layer.input)
        return 0

    def producer(self, name: str) -> int | None:
        """Index of the one layer that makes `name`, if nothing else reads it and it may take in
        a table; None otherwise."""
        makers = [index for index, layer in enumerate(self.layers) if layer.output == name]
        if len(makers) != 1 or self.uses[name] != 1 or self.layers[makers[0]].table is not None:
            return None
        return makers[0]
