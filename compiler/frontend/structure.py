"""Checks names and order of a graph's nodes: every value defined once, before use, no cycle."""

from __future__ import annotations

import heapq

import onnx

from qcompile.compiler.diagnostics import Problems, printable


def describe(node: onnx.NodeProto, index: int) -> str:
    """How messages call a node: `Conv 'block2/conv' (node 14)`."""
    name = f" '{printable(node.name)}'" if node.name else ""
    return f"{printable(node.op_type)}{name} (node {index})"


def ordered_nodes(
    graph: onnx.GraphProto, problems: Problems
) -> tuple[tuple[int, onnx.NodeProto], ...]:
    """Index and node, in an order in which every input comes before its use.

    Files are usually ordered already. What cannot be ordered is a problem, as are values without a
    name, values defined twice and inputs that nobody defines.
    """
    known = _check_names(graph, problems)
    made = {name for node in graph.node for name in node.output}
    waiting: dict[int, set[str]] = {}
    readers: dict[str, list[int]] = {}
    for index, node in enumerate(graph.node):
        waiting[index] = {name for name in node.input if name in made or name not in known} - {""}
        for name in waiting[index]:
            readers.setdefault(name, []).append(index)
    ready = [index for index, missing in waiting.items() if not missing]
    done: list[tuple[int, onnx.NodeProto]] = []
    while ready:  # a heap: of the nodes that are ready, the first one of the file
        index = heapq.heappop(ready)
        del waiting[index]
        done.append((index, graph.node[index]))
        for name in filter(None, graph.node[index].output):
            for reader in readers.pop(name, ()):
                waiting[reader].discard(name)
                if not waiting[reader]:
                    heapq.heappush(ready, reader)
    _report_stuck({index: graph.node[index] for index in waiting}, known, problems)
    return tuple(done)


def _check_names(graph: onnx.GraphProto, problems: Problems) -> set[str]:
    known: set[str] = {i.name for i in graph.initializer}
    if len(known) < len(graph.initializer):
        problems.broken("two constants have the same name")
    inputs = [value.name for value in graph.input]
    if len(set(inputs)) < len(inputs):
        problems.broken("two inputs have the same name")
    known.update(inputs)
    for index, node in enumerate(graph.node):
        if not node.output or not any(node.output):
            problems.broken(f"{describe(node, index)}: has no named output")
        for name in filter(None, node.output):
            if name in known:
                problems.broken(
                    f"{describe(node, index)}: defines '{name}', which is defined already",
                    help="give every value one definition; the file was edited or is damaged",
                )
            known.add(name)
    for value in graph.output:
        if value.name not in known:
            problems.broken(f"output '{value.name}' is defined by no node")
    if not graph.output or any(not value.name for value in (*graph.input, *graph.output)):
        problems.broken(
            "has no outputs, or an input or output without a name",
            help="list the tensors that the model gives in its graph's outputs, all with names",
        )
    return known


def _report_stuck(waiting: dict[int, onnx.NodeProto], known: set[str], problems: Problems) -> None:
    undefined = False
    for index, node in waiting.items():
        for name in node.input:
            if name and name not in known:
                undefined = True
                problems.broken(f"{describe(node, index)}: input '{name}' is defined by no node")
    if waiting and not undefined:
        index, node = next(iter(waiting.items()))
        problems.broken(
            f"{describe(node, index)}: its inputs depend on its own output",
            context=(f"{len(waiting)} nodes form or follow a cycle",),
            help="a graph must not have cycles; unroll the loop when exporting",
        )
