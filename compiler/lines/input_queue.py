"""Where inputs queue: between which layers the host writes inputs and reads outputs."""

from __future__ import annotations

from collections.abc import Sequence

from qcompile.compiler.layers import Layer
from qcompile.runtime.input_queue import InputQueue


def queue_of(
    layers: Sequence[Layer], inputs: Sequence[str], outputs: Sequence[str]
) -> InputQueue | None:
    """Of a program's layers; None where the host reads what it wrote, or no layer's output."""
    written = [index for index, layer in enumerate(layers) if layer.output in outputs]
    if not written or set(inputs) & set(outputs):
        return None
    reads = [(layer.input, layer.residual, layer.weight_source) for layer in layers]
    ends = [index for index, names in enumerate(reads, 1) if set(names) & set(inputs)]
    return InputQueue(inputs_free=max(ends, default=0), outputs_from=written[0])
