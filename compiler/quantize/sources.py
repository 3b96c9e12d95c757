"""Which activations have codes, and whose."""

from __future__ import annotations

from qcompile.compiler.quantize.prepare import LAYERS, POOLS, SAME_CODES, Network


def sources_of(network: Network) -> dict[str, str]:
    """For each activation with codes, the one whose encoding it has: often itself.

    A layer or Add in front of its only Relu or Clip has no codes, nor has a last Softmax.
    """
    sources = {value.name: value.name for value in network.inputs}
    for node in network.nodes:
        name = node.output[0]
        fused = network.behind_activation(node) != name
        if node.op_type in (*SAME_CODES, *POOLS):
            sources[name] = sources[node.input[0]]
        elif node.op_type != "Softmax" and not (fused and node.op_type in (*LAYERS, "Add")):
            sources[name] = name
    return sources


def own_encodings(network: Network) -> list[str]:
    """Activations with codes of their own, in the order of execution."""
    return list(dict.fromkeys(sources_of(network).values()))
