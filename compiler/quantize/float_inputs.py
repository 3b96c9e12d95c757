"""What a float network's inputs take: for the reader of npz files, and of arrays from Python."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompile.compiler.errors import InputError, UnsupportedError
from qcompile.compiler.quantize.prepare import Network
from qcompile.compiler.quantize.sessions import observe
from qcompile.runtime.classes import Classes, find_classes
from qcompile.runtime.inputs import InputSpec

Array = npt.NDArray[Any]
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


def float_classes(network: Network, inputs: Mapping[str, Array]) -> Classes | None:
    """The classes of a float network, where an output has them; `inputs` [N, ...] by name."""
    one = {name: array[:1] for name, array in inputs.items()}
    outputs = observe(network.to_model(), one, network.outputs)
    shapes = {name: array.shape for name, array in outputs.items()}
    return find_classes(shapes, [array.shape for array in one.values()])


def check_calibration(network: Network, inputs: Mapping[str, Array]) -> None:
    """InputError where inputs are not finite float32 [N, ...] that the network takes, N >= 1."""
    specs = input_specs("the network", network)
    names = ", ".join(spec.name for spec in specs)
    if set(inputs) != {spec.name for spec in specs}:
        given = ", ".join(inputs) or "nothing"
        raise InputError(
            f"calibration has {given} where the network takes {names}",
            help="give one array for each input, under the input's name",
        )
    counts = {len(array) if array.ndim else 0 for array in inputs.values()}
    if len(counts) > 1 or 0 in counts:
        raise InputError(
            f"calibration has {' and '.join(str(one) for one in sorted(counts))} rows",
            help="give the same number of rows for each input, one at least",
        )
    for spec in specs:
        array = inputs[spec.name]
        if array.dtype != np.float32 or array.shape[1:] != spec.shape[1:]:
            raise InputError(
                f"calibration of '{spec.name}' is {array.dtype}{list(array.shape)},"
                f" the network takes {spec}",
                help="convert and reshape it",
            )
        check_finite(f"calibration of '{spec.name}'", array)


def check_finite(what: str, array: Array) -> None:
    """InputError that names the first row of an array [N, ...] which is not finite."""
    if np.isfinite(array).all():
        return
    row = int(np.argmin(np.isfinite(array).reshape(len(array), -1).all(axis=1)))
    raise InputError(
        f"{what}, row {row}, is not finite", help="leave out rows with NaN or infinity"
    )
