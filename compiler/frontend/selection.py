"""Importers of operators that put values in other places: one list of indices for each of them."""

from __future__ import annotations

from qcompile.compiler import ir_float
from qcompile.compiler.frontend.node_reader import (
    Imported,
    Importer,
    NodeReader,
    Refusal,
    resolved_axis,
)
from qcompile.compiler.ir import Value


def concat(node: NodeReader) -> Imported:
    """Concat along one axis."""
    values = [node.value(i) for i in range(len(node.node.input))]
    first = values[0]
    rank = len(first.shape)
    axis = resolved_axis(int(node.attribute("axis", 0)), rank)
    for value in values:
        others = (value.shape[:axis], value.shape[axis + 1 :])
        if others != (first.shape[:axis], first.shape[axis + 1 :]) or value.dtype != first.dtype:
            raise Refusal(
                f"'{value.name}' {value.dtype}{list(value.shape)} does not fit "
                f"{first.dtype}{list(first.shape)}",
                broken=True,
            )
    op = ir_float.Concat(
        inputs=tuple(value.name for value in values),
        outputs=(node.output,),
        origins=(node.origin,),
        axis=axis,
    )
    length = sum(value.shape[axis] for value in values)
    shape = (*first.shape[:axis], length, *first.shape[axis + 1 :])
    return op, Value(name=node.output, shape=shape, dtype=first.dtype)


IMPORTERS: dict[str, Importer] = {
    "Concat": concat,
}
