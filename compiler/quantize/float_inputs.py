"""What a float network's inputs take, for the reader of npz files."""

from __future__ import annotations

from qcompile.compiler.errors import UnsupportedError
from qcompile.compiler.quantize.prepare import Network
from qcompile.runtime.inputs import InputSpec

FLOAT = 1
"""onnx.TensorProto.FLOAT."""


def input_specs(name: str, network: Network) -> list[InputSpec]:
    """One for each input; UnsupportedError where one is not float32 with known sizes.

    The first axis counts inputs: where it has no size, it is one input.
    """
    specs = []
    for value in network.inputs:
        tensor = value.type.tensor_type
        sizes = [dim.dim_value for dim in tensor.shape.dim]
        if tensor.elem_type != FLOAT or not sizes or sizes[0] > 1 or 0 in sizes[1:]:
            raise UnsupportedError(
                f"{name}: input '{value.name}' is no float32 [1, ...] with known sizes",
                help="export the model for one input, with fixed sizes",
            )
        specs.append(InputSpec(name=value.name, shape=(1, *sizes[1:]), dtype="float32"))
    return specs
