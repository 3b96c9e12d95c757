"""What an encoding of one tensor does to the layers that read it: a measure of encodings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import NodeProto

from qcompile.compiler.quantize.encoding import Encoding
from qcompile.compiler.quantize.prepare import LAYERS, Network
from qcompile.compiler.quantize.run_node import NodeRunner
from qcompile.compiler.quantize.sessions import batch_constants, batches

Array = npt.NDArray[Any]
ROWS = 64
"""Inputs that are looked at, at most."""
LEAST_VARIANCE = 1e-12


class Readers:
    """Errors of the layers behind a tensor, each tensor on its own and everything else in float.

    A tensor's rare large values matter as much as the weights that they meet, which their own
    squared error does not know.

    Parameters
    ----------
    network : Network
    inputs : float32 arrays [N, ...] by input name
    values : function of a tensor's name to float32 [N, ...]
    """

    def __init__(
        self, network: Network, inputs: Mapping[str, Array], values: Callable[[str], Array]
    ) -> None:
        self.network = network
        self.values = values
        self.constants = batch_constants(network)
        self.usable = batches(network, inputs)
        self._runners: dict[str, NodeRunner] = {}

    def error(self, name: str, encoding: Encoding) -> float:
        """Mean over channels of squared error by variance, summed over the nodes that are reached.

        Moves and pools are followed up to the layer behind them; of what nobody reads, and where
        the network takes one input at a time, it is the tensor's own error; that of an output of
        the network counts beside those of its readers.
        """
        values = self._rows(name)
        return self._behind(name, values, encoding.rounded(values).astype(np.float32))

    def _rows(self, name: str) -> Array:
        values = self.values(name)
        return values[:: -(-len(values) // ROWS)]

    def _behind(self, name: str, real: Array, rounded: Array) -> float:
        readers = self.network.consumers(name) if self.usable else []
        own = 0.0
        if not readers or name in self.network.outputs:
            own = _relative(real, rounded, real.ndim > 2)
        return own + sum(self._of(node, name, real, rounded) for node in readers)

    def _of(self, node: NodeProto, name: str, real: Array, rounded: Array) -> float:
        runner = self._runners.setdefault(node.name, NodeRunner(node))
        others = {
            one: self._rows(one) for one in node.input if one and one not in (name, *self.constants)
        }
        feed = {**self.constants, **others}
        before, after = (runner.run({**feed, name: values}) for values in (real, rounded))
        if node.op_type not in LAYERS and node.op_type not in ("Add", "Relu", "Clip"):
            return self._behind(node.output[0], before, after)
        by_axis_1 = "Conv" in node.op_type or (node.op_type not in LAYERS and before.ndim > 2)
        return _relative(before, after, by_axis_1)


def _relative(real: Array, rounded: Array, channels_at_1: bool) -> float:
    """Mean over channels of mean squared error by variance."""
    flat = [np.moveaxis(one, 1, -1) if channels_at_1 else one for one in (real, rounded)]
    rows = [one.reshape(-1, one.shape[-1]).astype(np.float64) for one in flat]
    errors = np.mean((rows[1] - rows[0]) ** 2, axis=0)
    return float(np.mean(errors / np.maximum(rows[0].var(axis=0), LEAST_VARIANCE)))
