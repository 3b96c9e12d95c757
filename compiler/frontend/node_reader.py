"""One ONNX node as importers see it: attributes that are tracked, inputs with their types.

An importer asks for every attribute that it understands; `finish` reports those that it did not
ask for, because an attribute that nobody reads would be a guess.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from qcompile.compiler.diagnostics import printable
from qcompile.compiler.frontend.constants import dequantize_constant
from qcompile.compiler.frontend.structure import describe
from qcompile.compiler.ir import Op, Origin, Value
from qcompile.compiler.ir_float import DequantizeLinear

Imported = tuple[Op, Value] | list[tuple[Op, Value]]
"""What a node becomes: one operation with its value, or several in order."""


class Refusal(Exception):
    """An importer cannot take this node: the message's end, and the way out."""

    def __init__(self, message: str, *, help: str = "", broken: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.help = help
        self.broken = broken


class NodeReader:
    """A node with the values that its inputs name.

    Parameters
    ----------
    node, index : the node and its place in the file
    opset : version of the standard operators that the file imports
    values : all values defined so far
    constants : arrays of those values that are constants
    dequantized : DequantizeLinear of constants, by the real value's name
    read : gives the array of a tensor attribute, whose data may lie in another file
    """

    def __init__(
        self,
        node: onnx.NodeProto,
        index: int,
        *,
        opset: int,
        values: Mapping[str, Value],
        constants: Mapping[str, npt.NDArray[Any]],
        dequantized: Mapping[str, DequantizeLinear] | None = None,
        read: Callable[[onnx.TensorProto], npt.NDArray[Any]],
    ) -> None:
        self.node = node
        self.index = index
        self.opset = opset
        self._values = values
        self._constants = constants
        self._dequantized = dequantized or {}
        self._read = read
        self._attributes = {attribute.name: attribute for attribute in node.attribute}
        self._unread = set(self._attributes)

    @property
    def title(self) -> str:
        """How messages call the node."""
        return describe(self.node, self.index)

    @property
    def origin(self) -> Origin:
        """Where operations made of this node come from."""
        return Origin(node=printable(self.node.name), operator=self.node.op_type, index=self.index)

    @property
    def output(self) -> str:
        """Name of the only output."""
        named = [name for name in self.node.output if name]
        if len(named) != 1:
            raise Refusal(f"has {len(named)} outputs; only the first is supported")
        return str(named[0])

    def attribute(
        self, name: str, default: Any = None, *, kind: type | None = None, of: type = int
    ) -> Any:
        """An attribute's value (strings as str, lists as lists), or the default.

        Its type must be that of the default, or `kind` where there is no default; a list holds
        numbers of the type `of`.
        """
        self._unread.discard(name)
        if name not in self._attributes:
            return default
        try:
            value = helper.get_attribute_value(self._attributes[name])
        except ValueError as error:
            raise Refusal(f"attribute {name} is damaged: {error}", broken=True) from None
        value = value.decode(errors="replace") if isinstance(value, bytes) else value
        wanted = kind or (None if default is None else type(default))
        if wanted is not None and not isinstance(value, wanted):
            raise Refusal(f"attribute {name} is no {wanted.__name__}", broken=True)
        if isinstance(value, list) and not all(isinstance(item, of) for item in value):
            raise Refusal(f"attribute {name} is no list of {of.__name__}", broken=True)
        return value

    def tensor(self, name: str) -> npt.NDArray[Any] | None:
        """The array of a tensor attribute, None where it is absent or no tensor."""
        value = self.attribute(name)
        return self._read(value) if isinstance(value, onnx.TensorProto) else None

    def expect(self, name: str, wanted: Any, *, help: str = "") -> None:
        """Refuse the node unless the attribute is absent or has the one supported value."""
        value = self.attribute(name, wanted)
        if value != wanted:
            raise Refusal(f"{name}={value} is not supported", help=help or f"only {name}={wanted}")

    def name_of(self, position: int) -> str | None:
        """Name of an input, None where it is absent."""
        if position >= len(self.node.input):
            return None
        return self.node.input[position] or None

    def value(self, position: int) -> Value:
        """An input that must be there."""
        name = self.name_of(position)
        if name is None:
            raise Refusal(f"input {position} is missing", broken=True)
        return self._values[name]

    def float_input(self, position: int) -> Value:
        """An input that must be there and real."""
        value = self.value(position)
        if value.dtype != "float32":
            raise Refusal(
                f"input '{value.name}' has type {value.dtype}",
                help="quantize the model in QDQ form: float32 operators between "
                "DequantizeLinear and QuantizeLinear",
            )
        return value

    def inner(
        self, inputs: Sequence[Value], output: str, *, opset: int | None = None
    ) -> NodeReader:
        """The float operator inside this node, for that operator's own importer.

        It has this node's attributes and origin, `inputs` for operands and another output.
        """
        proto = onnx.NodeProto()
        proto.CopyFrom(self.node)
        proto.input[:] = [value.name for value in inputs]
        proto.output[:] = [output]
        reader = NodeReader(
            proto,
            self.index,
            opset=opset or self.opset,
            values={value.name: value for value in inputs},
            constants={},
            read=self._read,
        )
        reader._unread = self._unread  # what either of the two asks for is read
        return reader

    def known(self, position: int) -> npt.NDArray[Any] | None:
        """An input's array where it is a constant, else None."""
        name = self.name_of(position)
        return None if name is None else self._constants.get(name)

    def constant(self, position: int, what: str) -> npt.NDArray[Any] | None:
        """An input that must be a constant where it is present, as it is or of constant codes."""
        name = self.name_of(position)
        if name is None:
            return None
        if name in self._dequantized:
            op = self._dequantized[name]
            return dequantize_constant(self._constants[op.inputs[0]], op)
        if name not in self._constants:
            raise Refusal(
                f"{what} '{name}' is computed at run time",
                help=f"export the model with a constant {what}",
            )
        return self._constants[name]

    def integers(self, position: int, what: str) -> tuple[int, ...] | None:
        """A constant list of whole numbers."""
        array = self.constant(position, what)
        if array is None:
            return None
        if array.dtype.kind not in "iu" or array.ndim > 1:
            raise Refusal(f"{what} must be a list of integers", broken=True)
        return tuple(int(x) for x in np.atleast_1d(array))

    def unread_attributes(self) -> tuple[str, ...]:
        """Attributes that no importer asked for, as `name=value`."""
        return tuple(self._printed(name) for name in sorted(self._unread))

    def _printed(self, name: str) -> str:
        try:
            return f"{name}={helper.get_attribute_value(self._attributes[name])}"
        except ValueError:  # of a type that ONNX does not have
            return name

    def context(self) -> str:
        """The inputs with their types and shapes, for messages."""
        parts = []
        for name in filter(None, self.node.input):
            value = self._values.get(name)
            kind = "constant" if name in self._constants else "input"
            shape = "" if value is None else f" {value.dtype}{list(value.shape)}"
            parts.append(f"{kind} '{name}'{shape}".replace(", ", ","))
        return "; ".join(parts)


Importer = Callable[[NodeReader], Imported]
"""Makes float-level operations of a node; asks for every attribute that it understands."""


def resolved_axis(axis: int, rank: int) -> int:
    """An axis counted from the front; refused where the tensor has no such axis."""
    if not -rank <= axis < rank:
        raise Refusal(f"axis={axis} is not an axis of {rank} dimensions", broken=True)
    return axis % rank
