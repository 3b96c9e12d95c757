"""Sets tensors aside whose names look like those that passes make up; see `compiler.names`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import onnx

from qcompile.compiler.frontend.loader import ModelFile
from qcompile.compiler.names import MARK


def set_aside(file: ModelFile) -> tuple[ModelFile, dict[str, str]]:
    """The file without tensors `<tensor>:...` beside `<tensor>`; name there to own name.

    Files without such tensors, which are nearly all, come back as they are.
    """
    names = set(_names(file.proto.graph))
    aside: dict[str, str] = {}
    for name in sorted(names):
        if not any(name[:end] in names for end in _marks(name)):
            continue
        other = name.replace(MARK, "_")
        while other in names or other in aside.values():
            other += "_"
        aside[name] = other
    if not aside:
        return file, {}
    proto = onnx.ModelProto()
    proto.CopyFrom(file.proto)
    _rename(proto.graph, aside)
    return replace(file, proto=proto), {other: name for name, other in aside.items()}


def _marks(name: str) -> Iterator[int]:
    return (end for end, letter in enumerate(name) if letter == MARK and end > 0)


def _names(graph: onnx.GraphProto) -> Iterator[str]:
    for listed in (graph.input, graph.initializer, graph.output):
        yield from (entry.name for entry in listed)
    for node in graph.node:
        yield from node.input
        yield from node.output


def _rename(graph: onnx.GraphProto, aside: dict[str, str]) -> None:
    for listed in (graph.input, graph.initializer, graph.output, graph.value_info):
        for entry in listed:
            entry.name = aside.get(entry.name, entry.name)
    for node in graph.node:
        node.input[:] = [aside.get(name, name) for name in node.input]
        node.output[:] = [aside.get(name, name) for name in node.output]
