"""Brings a float network into the one form that is quantized.

Opset 17, constants as initializers, what depends on constants alone computed, BatchNormalization
and an Add of a constant a channel folded into Conv, ConvTranspose and MatMul (which becomes Gemm).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, helper, numpy_helper, version_converter
from onnx.reference import ReferenceEvaluator

from qcompile.compiler.errors import ModelError, QcompileError, UnsupportedError

Array = npt.NDArray[Any]
OPSET = 17
IR_VERSION = 8
"""Of ONNX 1.12, which has opset 17."""
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
SAME_CODES = (
    *("MaxPool", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity", "Dropout"),
)
"""Operators whose result has the codes of their operand."""
POOLS = ("AveragePool", "GlobalAveragePool")
SPATIAL = ("Conv", "ConvTranspose", "MaxPool", *POOLS)
OTHERS = ("Relu", "Clip", "Add", "Softmax")
COMPUTING = (*LAYERS, *POOLS, "Add", "MaxPool")
"""Operators that become layers of an accelerator by themselves."""
KNOWN = (*LAYERS, *SAME_CODES, *POOLS, *OTHERS)
DEFAULT_EPSILON = 1e-5
"""BatchNormalization's, as ONNX has it."""


class Network:
    """A float network while it is being changed.

    Attributes
    ----------
    model : ModelProto
        Everything but nodes and constants.
    nodes : list of NodeProto
        In the order of execution.
    constants : dict of name to array
    functions : list of FunctionProto
        Model-local functions that nodes call.
    ranks : dict of name to int
        Axes of tensors, where they can be inferred.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.nodes: list[NodeProto] = list(model.graph.node)
        self.constants: dict[str, Array] = {
            tensor.name: np.array(numpy_helper.to_array(tensor))
            for tensor in model.graph.initializer
        }
        self.inputs = [value for value in model.graph.input if value.name not in self.constants]
        self.outputs = [value.name for value in model.graph.output]
        self.functions: list[onnx.FunctionProto] = list(model.functions)
        inferred = onnx.shape_inference.infer_shapes(model).graph
        self.ranks = {
            value.name: len(value.type.tensor_type.shape.dim)
            for value in (*inferred.value_info, *inferred.output)
        }

    def consumers(self, name: str) -> list[NodeProto]:
        """Nodes that read a tensor."""
        return [node for node in self.nodes if name in node.input]

    def only_consumer(self, name: str) -> NodeProto | None:
        """The node that reads a tensor, where there is one and the tensor is no output."""
        found = self.consumers(name)
        return found[0] if len(found) == 1 and name not in self.outputs else None

    def behind_activation(self, node: NodeProto) -> str:
        """Tensor behind a node's only Relu or Clip, or the node's own where there is none."""
        behind = self.only_consumer(node.output[0])
        fused = behind is not None and behind.op_type in ("Relu", "Clip")
        return str(behind.output[0] if behind is not None and fused else node.output[0])

    def copy(self) -> Network:
        """Another network, which can be changed without this one."""
        return Network(self.to_model())

    def to_model(self) -> onnx.ModelProto:
        """The network as it is now."""
        graph = helper.make_graph(
            self.nodes,
            self.model.graph.name or "network",
            self.inputs,
            list(self.model.graph.output),
            [numpy_helper.from_array(array, name) for name, array in self.constants.items()],
        )
        domains = sorted({function.domain for function in self.functions})
        imports = [
            helper.make_opsetid("", OPSET),
            *(helper.make_opsetid(one, 1) for one in domains),
        ]
        return helper.make_model(
            graph, opset_imports=imports, ir_version=IR_VERSION, functions=self.functions
        )


def load_float(path: Path) -> Network:
    """Read and prepare a float network; ModelError or UnsupportedError where it cannot be."""
    return prepare(path, read_model(path, "a float"))


def read_model(path: Path, kind: str) -> onnx.ModelProto:
    """A valid model; ModelError where there is none, asking for `kind`: "a float", "an int8"."""
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "no such file"
        raise ModelError(f"{path}: {what}", help=f"give {kind} ONNX model")
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf's and the checker's have no common base
        raise ModelError(f"{path}: not a valid ONNX model ({_first_line(error)})") from error
    _check_names(path, model.graph.node)
    return model


def _check_names(path: Path, nodes: Sequence[NodeProto]) -> None:
    """ModelError where two nodes share a name, which ONNX Runtime refuses."""
    known: dict[str, int] = {}
    for place, node in enumerate(nodes):
        first = known.setdefault(node.name, place) if node.name else place
        if first != place:
            kinds = f"{nodes[first].op_type} (node {first}) and {node.op_type} (node {place})"
            raise ModelError(
                f"{path}: {kinds} have the same name '{node.name}'",
                help="give each node a name of its own, or none",
            )


def prepare(path: Path, model: onnx.ModelProto) -> Network:
    """A float network in the form that is quantized; `path` is what errors name."""
    try:
        network = Network(version_converter.convert_version(model, OPSET))
    except Exception as error:
        raise UnsupportedError(
            f"{path}: cannot be brought to opset {OPSET} ({_first_line(error)})",
            help=f"export the model with opset {OPSET}",
        ) from error
    name_nodes(network)
    fold_constants(network)
    _fold_behind_layers(network)
    _check(path.name, network)
    return network


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def name_nodes(network: Network) -> None:
    """Every node gets a name of its own: that of its result where it has none."""
    taken = {node.name for node in network.nodes}
    for node in network.nodes:
        if not node.name:
            free = (node.output[0] + ":node" * times for times in itertools.count())
            node.name = next(name for name in free if name not in taken)
            taken.add(node.name)


def fold_constants(network: Network) -> None:
    """Compute what depends on constants alone."""
    kept = []
    for node in network.nodes:
        if any(name and name not in network.constants for name in node.input):
            kept.append(node)
            continue
        given = {name: network.constants[name] for name in node.input if name}
        results = ReferenceEvaluator(node).run(None, given)
        for name, array in zip(node.output, results, strict=True):
            network.constants[name] = np.asarray(array)
    network.nodes = kept


def attributes(node: NodeProto) -> dict[str, Any]:
    """A node's attributes by name."""
    return {one.name: helper.get_attribute_value(one) for one in node.attribute}


def channel_axis(node: NodeProto) -> int:
    """Axis of a layer's weights that counts its output channels."""
    if node.op_type == "Gemm":
        return 0 if attributes(node).get("transB", 0) else 1
    return 0 if node.op_type == "Conv" else 1


def _fold_behind_layers(network: Network) -> None:
    """Fold BatchNormalization and constant Add behind layers, until there is none left."""
    while any(_fold_one(network, layer) for layer in list(network.nodes)):
        pass


def _fold_one(network: Network, layer: NodeProto) -> bool:
    behind = network.only_consumer(layer.output[0])
    if layer.op_type not in LAYERS or behind is None or not _constant(network, layer.input[1:]):
        return False
    if behind.op_type == "BatchNormalization" and layer.op_type in ("Conv", "ConvTranspose"):
        if not _constant(network, behind.input[1:]):
            return False
        scale, shift = _normalization(network, behind)
    else:
        added = _added(network, layer, behind) if behind.op_type == "Add" else None
        if added is None:
            return False
        scale, shift = np.ones(1), added
    _scale_layer(network, layer, scale, shift)
    layer.output[0] = behind.output[0]
    network.nodes.remove(behind)
    return True


def _constant(network: Network, names: Iterable[str]) -> bool:
    return all(name in network.constants for name in names if name)


def _normalization(network: Network, node: NodeProto) -> tuple[Array, Array]:
    """BatchNormalization as scale and shift of each channel."""
    gamma, beta, mean, variance = (
        network.constants[name].astype(np.float64) for name in node.input[1:5]
    )
    scale = gamma / np.sqrt(variance + attributes(node).get("epsilon", DEFAULT_EPSILON))
    return scale, beta - mean * scale


def _added(network: Network, layer: NodeProto, node: NodeProto) -> Array | None:
    """What an Add behind a layer adds to each channel; None where it is no such constant."""
    others = [name for name in node.input if name != layer.output[0]]
    array = network.constants.get(others[0]) if len(others) == 1 else None
    if array is None:
        return None
    if layer.op_type == "MatMul" and network.ranks.get(layer.output[0]) != 2:
        return None
    channels = _channels(network, layer)
    rank = 2 if layer.op_type in ("Gemm", "MatMul") else network.constants[layer.input[1]].ndim
    shape = (1,) * (rank - array.ndim) + array.shape
    wanted = tuple(channels if axis == 1 else 1 for axis in range(rank))
    return array.astype(np.float64).reshape(-1) if shape in (wanted, (1,) * rank) else None


def _channels(network: Network, layer: NodeProto) -> int:
    weights = network.constants[layer.input[1]]
    groups = int(attributes(layer).get("group", 1)) if layer.op_type == "ConvTranspose" else 1
    return int(weights.shape[channel_axis(layer)]) * groups


def _scale_layer(network: Network, layer: NodeProto, scale: Array, shift: Array) -> None:
    """result * scale + shift, by channel, as the layer's own weights and bias."""
    weights = network.constants[layer.input[1]].astype(np.float64)
    channels = _channels(network, layer)
    factors = np.broadcast_to(scale, channels)
    bias = np.zeros(channels)
    if len(layer.input) > 2 and layer.input[2]:
        bias = np.broadcast_to(network.constants[layer.input[2]].astype(np.float64), channels)
    names = [f"{layer.name}/weight", f"{layer.name}/bias"]
    network.constants[names[0]] = _times(layer, weights, factors).astype(np.float32)
    network.constants[names[1]] = (bias * factors + shift).astype(np.float32)
    if layer.op_type == "MatMul":
        layer.op_type = "Gemm"
    del layer.input[1:]
    layer.input.extend(names)


def _times(layer: NodeProto, weights: Array, factors: Array) -> Array:
    """Weights times a factor for each output channel; those of ConvTranspose come by groups."""
    if layer.op_type == "ConvTranspose":
        groups = int(attributes(layer).get("group", 1))
        ins, outs = weights.shape[:2]
        grouped = weights.reshape(groups, ins // groups, outs, -1)
        return (grouped * factors.reshape(groups, 1, outs, 1)).reshape(weights.shape)
    shape = [1] * weights.ndim
    shape[channel_axis(layer)] = -1
    return weights * factors.reshape(shape)


def _check(name: str, network: Network) -> None:
    """Refuse, all at once, what is not quantized; then a network that nothing computes."""
    problems = [
        QcompileError(f"{name}: {node.op_type} '{node.name}' {reason}", help=way_out)
        for node in network.nodes
        for reason, way_out in _refusal(network, node)
    ]
    if problems:
        raise UnsupportedError("\n".join(one.render() for one in problems), problems=problems)
    if not any(node.op_type in COMPUTING for node in network.nodes):
        raise UnsupportedError(
            f"{name}: has no operator for the accelerator",
            help=f"the model needs at least one of: {', '.join(sorted(COMPUTING))}",
        )


def _refusal(network: Network, node: NodeProto) -> list[tuple[str, str]]:
    if node.op_type not in KNOWN:
        return [("is not quantized", f"these operators are: {', '.join(sorted(KNOWN))}")]
    if node.op_type == "Softmax" and node.output[0] not in network.outputs:
        return [("is inside the network", "only a last Softmax stays, in float")]
    if node.op_type in LAYERS and not _constant(network, node.input[1:]):
        return [("has weights or a bias that are no constants", "make them initializers")]
    if node.op_type == "MatMul" and network.constants[node.input[1]].ndim != 2:
        return [("has weights that are no matrix", "give them two axes, [inputs, outputs]")]
    if node.op_type == "Add" and any(name in network.constants for name in node.input):
        return [_unfolded(network, node)]
    if node.op_type in SPATIAL and _axes(network, node) not in (None, 1, 2):
        return [(f"has {_axes(network, node)} axes of space", "only images and lines are computed")]
    found = attributes(node)
    if node.op_type == "Gemm" and (
        found.get("alpha", 1.0) != 1 or found.get("beta", 1.0) != 1 or found.get("transA", 0)
    ):
        return [("has alpha, beta or transA", "fold them into weights and bias")]
    bad = [name for name in node.input if not _finite(network.constants.get(name))]
    if bad:
        return [(f"has NaN or infinity in '{bad[0]}'", "train it again, or repair the model")]
    return []


def _axes(network: Network, node: NodeProto) -> int | None:
    """Axes of an operator's windows; None where that is not known."""
    if node.op_type in LAYERS:
        return network.constants[node.input[1]].ndim - 2
    rank = network.ranks.get(node.output[0])
    return None if rank is None else rank - 2


def _unfolded(network: Network, node: NodeProto) -> tuple[str, str]:
    """Why an Add of a constant is no bias, and what to do."""
    makers = {output: one for one in network.nodes for output in one.output}
    layer = next((makers[name] for name in node.input if name in makers), None)
    axes = network.ranks.get(node.output[0])
    if layer is not None and layer.op_type == "MatMul" and axes != 2:
        where = f"{axes} axes" if axes else "an unknown number of axes"
        return (
            f"adds a constant to the result of MatMul '{layer.name}', which has {where}, not 2",
            f"give MatMul '{layer.name}' an operand with two axes, by a Reshape in front of it",
        )
    return (
        "adds a constant that is not one number a channel behind a layer",
        "make it the bias of a layer",
    )


def _finite(array: Array | None) -> bool:
    return array is None or array.dtype.kind != "f" or bool(np.isfinite(array).all())
