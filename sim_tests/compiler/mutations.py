"""Mutants of ONNX files: a few damaged bytes, or a few wrong edits of the graph.

An edit that has nothing to edit in a model raises IndexError or ValueError, as `random` does for an
empty choice; `mutate` then takes another one.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from sim_tests.compiler.test_frontend_damage import EDITS as DAMAGE
from sim_tests.compiler.test_frontend_damage import ODD_NUMBERS

Edit = Callable[[onnx.ModelProto, random.Random], None]

ODD_REALS = (0.0, -0.0, -0.05, 1.0, 1e-42, 1e-30, 1e30, 3e38, float("inf"), float("nan"))
ODD_NAMES = ("", "x", "/", "a b", "..", "ä", "y:max0", "\n", "a" * 300)
ATTRIBUTES = (
    *("axis", "alpha", "beta", "group", "pads", "strides", "dilations", "kernel_shape", "perm"),
    *("auto_pad", "ceil_mode", "count_include_pad", "keepdims", "transA", "transB", "mode", "odd"),
)

ATTRIBUTE_TYPES = (
    *(AttributeProto.UNDEFINED, AttributeProto.FLOAT, AttributeProto.INT, AttributeProto.STRING),
    *(AttributeProto.TENSOR, AttributeProto.FLOATS, AttributeProto.INTS, AttributeProto.STRINGS),
)


def drop_node(model: onnx.ModelProto, dice: random.Random) -> None:
    del model.graph.node[dice.randrange(len(model.graph.node))]


def bypass_node(model: onnx.ModelProto, dice: random.Random) -> None:
    """Leave a node out; what read its result reads its first operand."""
    index = dice.randrange(len(model.graph.node))
    node = model.graph.node[index]
    before, after = node.input[0], node.output[0]
    del model.graph.node[index]
    for other in model.graph.node:
        other.input[:] = [before if name == after else name for name in other.input]


def duplicate_node(model: onnx.ModelProto, dice: random.Random) -> None:
    """The same node again; sometimes with a result of its own that others read."""
    nodes = model.graph.node
    index = dice.randrange(len(nodes))
    again = onnx.NodeProto()
    again.CopyFrom(nodes[index])
    again.name += "_again"  # ONNX Runtime loads no two nodes of one name
    if dice.random() < 0.7:
        before, after = again.output[0], again.output[0] + "_again"
        again.output[0] = after
        for node in nodes[index + 1 :]:
            if dice.random() < 0.5:
                node.input[:] = [after if name == before else name for name in node.input]
    nodes.insert(index + 1, again)


def repeat_node(model: onnx.ModelProto, dice: random.Random) -> None:
    """The same node once more behind itself."""
    nodes = model.graph.node
    index = dice.randrange(len(nodes))
    again = onnx.NodeProto()
    again.CopyFrom(nodes[index])
    again.name += "_again"
    nodes[index].output[0] += "_first"
    again.input[0] = nodes[index].output[0]
    nodes.insert(index + 1, again)


def swap_nodes(model: onnx.ModelProto, dice: random.Random) -> None:
    first, second = dice.sample(list(model.graph.node), 2)
    first.op_type, second.op_type = second.op_type, first.op_type


def reorder_nodes(model: onnx.ModelProto, dice: random.Random) -> None:
    node = model.graph.node.pop(dice.randrange(len(model.graph.node)))
    model.graph.node.insert(dice.randrange(len(model.graph.node) + 1), node)


def swap_inputs(model: onnx.ModelProto, dice: random.Random) -> None:
    node = dice.choice([node for node in model.graph.node if len(node.input) > 1])
    first, second = dice.sample(range(len(node.input)), 2)
    node.input[first], node.input[second] = node.input[second], node.input[first]


def add_input(model: onnx.ModelProto, dice: random.Random) -> None:
    names = ["", *(tensor.name for tensor in model.graph.initializer)]
    dice.choice(model.graph.node).input.append(dice.choice(names))


def change_attribute(model: onnx.ModelProto, dice: random.Random) -> None:
    """Another name, no value, one number more or less, or another type."""
    attributes = dice.choice([node for node in model.graph.node if node.attribute]).attribute
    index = dice.randrange(len(attributes))
    attribute = attributes[index]
    match dice.randrange(5):
        case 0:
            del attributes[index]
        case 1:
            attribute.name = dice.choice(ATTRIBUTES)
        case 2:
            attribute.ints.append(dice.choice(ODD_NUMBERS))
        case 3:
            attribute.type = dice.choice(ATTRIBUTE_TYPES)
        case _:
            del attribute.ints[dice.randrange(len(attribute.ints)) :]


def add_attribute(model: onnx.ModelProto, dice: random.Random) -> None:
    values = (1, 0, -1, 0.5, float("nan"), "SAME_UPPER", "?", [1, 1], [2, 2], [0, 0, 1, 1], [1, 0])
    attribute = helper.make_attribute(dice.choice(ATTRIBUTES), dice.choice(values))
    dice.choice(model.graph.node).attribute.append(attribute)


def change_opset(model: onnx.ModelProto, dice: random.Random) -> None:
    dice.choice(model.opset_import).version = dice.choice((*range(9, 23), 0, -1, 2**40))


def change_domain(model: onnx.ModelProto, dice: random.Random) -> None:
    domains = ("", "ai.onnx", "com.microsoft", "qonnx.custom_op.general", "odd")
    dice.choice(model.graph.node).domain = dice.choice(domains)


def change_constant(model: onnx.ModelProto, dice: random.Random) -> None:
    """An element of a constant becomes an odd number of its type."""
    tensor = dice.choice(model.graph.initializer)
    values = np.array(numpy_helper.to_array(tensor))
    place = dice.randrange(values.size)
    if values.dtype.kind == "f":
        values.reshape(-1)[place] = np.float32(dice.choice(ODD_REALS))
    else:
        info = np.iinfo(values.dtype)
        values.reshape(-1)[place] = dice.choice((info.min, info.max, 0, 1, 2))
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def reshape_constant(model: onnx.ModelProto, dice: random.Random) -> None:
    """The same data in another shape, or repeated, or only its start."""
    tensor = dice.choice(model.graph.initializer)
    values = np.array(numpy_helper.to_array(tensor))
    shapes = ((-1,), (1, -1), (-1, 1), (1, 1, -1), values.shape[::-1])
    match dice.randrange(4):
        case 0:
            values = np.repeat(values.reshape(-1), 2)
        case 1:
            values = values.reshape(-1)[: dice.randrange(values.size + 1)]
        case _:
            values = values.reshape(dice.choice(shapes))
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def convert_constant(model: onnx.ModelProto, dice: random.Random) -> None:
    tensor = dice.choice(model.graph.initializer)
    kind = dice.choice(("int8", "uint8", "int16", "int32", "int64", "float16", "float32", "bool"))
    with np.errstate(all="ignore"):
        values = numpy_helper.to_array(tensor).astype(kind)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def drop_constant(model: onnx.ModelProto, dice: random.Random) -> None:
    del model.graph.initializer[dice.randrange(len(model.graph.initializer))]


def constant_to_input(model: onnx.ModelProto, dice: random.Random) -> None:
    """A constant that is listed as an input too (its default), or only there."""
    index = dice.randrange(len(model.graph.initializer))
    tensor = model.graph.initializer[index]
    info = helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
    model.graph.input.append(info)
    if dice.random() < 0.5:
        del model.graph.initializer[index]


def rename(model: onnx.ModelProto, dice: random.Random) -> None:
    """A value gets an odd name, or another value's, everywhere or in one place."""
    graph = model.graph
    names = [name for node in graph.node for name in node.output]
    before, after = dice.choice(names), dice.choice((*ODD_NAMES, *names))
    everywhere = dice.random() < 0.7
    for node in graph.node:
        node.output[:] = [after if name == before else name for name in node.output]
        if everywhere:
            node.input[:] = [after if name == before else name for name in node.input]
    for info in graph.output:
        if everywhere and info.name == before:
            info.name = after


def rename_node(model: onnx.ModelProto, dice: random.Random) -> None:
    node = dice.choice(model.graph.node)
    node.name = dice.choice((*ODD_NAMES, dice.choice(model.graph.node).name))


def change_output(model: onnx.ModelProto, dice: random.Random) -> None:
    """One output more, another one, none, or one of another type."""
    outputs = model.graph.output
    names = [name for node in model.graph.node for name in node.output]
    names += [info.name for info in model.graph.input]
    match dice.randrange(5):
        case 0 | 1:
            kind = dice.choice((TensorProto.INT8, TensorProto.FLOAT, TensorProto.UNDEFINED))
            outputs.append(helper.make_tensor_value_info(dice.choice(names), kind, None))
        case 2:
            outputs[0].name = dice.choice(names)
        case 3:
            del outputs[dice.randrange(len(outputs))]
        case _:
            outputs[0].type.tensor_type.elem_type = dice.randrange(25)


def change_input(model: onnx.ModelProto, dice: random.Random) -> None:
    """Other sizes, a dimension more or less, or a symbol."""
    shape = dice.choice(model.graph.input).type.tensor_type.shape
    index = dice.randrange(len(shape.dim))
    match dice.randrange(4):
        case 0:
            shape.dim[index].dim_param = "N"
        case 1:
            del shape.dim[index]
        case 2:
            shape.dim.add().dim_value = dice.choice((1, 2, 3))
        case _:
            shape.dim[index].dim_value += dice.choice((-1, 1, 2, 5))


EDITS: tuple[Edit, ...] = (
    *DAMAGE,
    *(drop_node, bypass_node, duplicate_node, repeat_node, swap_nodes, reorder_nodes),
    *(swap_inputs, add_input, change_attribute, add_attribute, change_opset, change_domain),
    *(change_constant, change_constant, reshape_constant, convert_constant, drop_constant),
    *(constant_to_input, rename, rename_node, change_output, change_input),
)


def damage_bytes(data: bytes, dice: random.Random) -> bytes:
    """One to four flips, insertions or cuts."""
    damaged = bytearray(data)
    for _ in range(dice.randint(1, 4)):
        place = dice.randrange(len(damaged))
        match dice.randrange(4):
            case 0 | 1:
                damaged[place] ^= 1 << dice.randrange(8)
            case 2:
                damaged[place:place] = dice.randbytes(dice.randint(1, 3))
            case _:
                del damaged[place : place + dice.randint(1, 3)]
    return bytes(damaged)


def mutate(data: bytes, dice: random.Random) -> tuple[str, bytes]:
    """A mutant of a serialized model, and the names of what was done to it."""
    if dice.random() < 0.25:
        return "damage_bytes", damage_bytes(data, dice)
    model = onnx.ModelProto.FromString(data)
    done: list[str] = []
    while len(done) < 1 or (len(done) < 3 and dice.random() < 0.3):
        edit = dice.choice(EDITS)
        try:
            edit(model, dice)
        except (IndexError, ValueError, TypeError):  # nothing there to edit
            continue
        done.append(edit.__name__)
    return " ".join(done), model.SerializeToString()
