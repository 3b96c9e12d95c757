"""Folds QuantizeLinear and DequantizeLinear: where groups begin and end."""

from __future__ import annotations

from dataclasses import replace

from qcompile.compiler import ir_float, ir_quantized
from qcompile.compiler.frontend.constants import quantize_constant
from qcompile.compiler.ir import Op, Origin, Value
from qcompile.compiler.passes.fold.folder import COMPUTED_CONSTANT, Folder
from qcompile.compiler.passes.fold.groups import NotFoldable, Pending, Weight, per_tensor
from qcompile.compiler.passes.fold.moves import finish_group
from qcompile.compiler.passes.fold.tables import finish_table


def fold_dequantize(folder: Folder, op: ir_float.DequantizeLinear) -> None:
    """Codes, or a constant, seen as real numbers."""
    source = op.inputs[0]
    if source in folder.constants:
        folder.weights[op.name] = Weight(
            codes=folder.constants[source],
            scale=op.scale,
            zero_point=op.zero_point,
            axis=op.axis,
        )
        return
    code = folder.alias.get(source, source)
    if code in folder.values:
        folder.set_quantization(code, per_tensor(op))
        folder.codes[op.name] = code


def fold_quantize(folder: Folder, op: ir_float.QuantizeLinear) -> None:
    """The end of a group; nothing where the codes stay what they are."""
    source = op.inputs[0]
    if source in folder.weights:
        folder.constants[op.name] = quantize_constant(folder.weights[source].real(), op)
        return
    if source in folder.constants:
        folder.constants[op.name] = quantize_constant(folder.constants[source], op)
        return
    output = replace(folder.graph.values[op.name], quantization=per_tensor(op))
    folder.values[op.name] = output
    if source in folder.codes:
        code = folder.values[folder.codes[source]]
        same = code.dtype == output.dtype and code.quantization == output.quantization
        if same and code.log is None:
            _keep_codes(folder, op, code)
            return
        folder.pending[source] = Pending(op=None, inputs=(code,), finish=finish_table)
    pending = folder.pending.get(source)
    if pending is not None and _is_float_softmax(pending, output):
        _append_quantize(folder, op)
    elif pending is not None:
        _finish(folder, pending, op, output)
    elif source in folder.values:
        _append_quantize(folder, op)


def fold_log_quantize(folder: Folder, op: ir_float.LogQuantize) -> None:
    """The end of a layer in logarithmic codes; nothing where the codes stay what they are."""
    source = op.inputs[0]
    if source in folder.weights or source in folder.constants:
        raise NotFoldable("makes logarithmic codes of a constant", COMPUTED_CONSTANT)
    output = replace(folder.graph.values[op.name], quantization=per_tensor(op))
    if source in folder.codes and folder.values[folder.codes[source]].log == output.log:
        return _keep_codes(folder, op, folder.values[folder.codes[source]])
    pending = folder.pending.get(source)
    if source in folder.codes:
        code = folder.values[folder.codes[source]]
        pending = Pending(op=None, inputs=(code,), finish=finish_table)
    if pending is not None:
        folder.values[op.name] = output
        _finish(folder, pending, op, output)
    elif source in folder.values:
        folder.values[op.name] = output
        made = ir_quantized.LogQuantize(inputs=(source,), outputs=op.outputs, origins=op.origins)
        folder.ops.append(made)
    return None


def _keep_codes(folder: Folder, op: Op, code: Value) -> None:
    folder.values.pop(op.name, None)
    folder.alias[op.name] = code.name


def _finish(folder: Folder, pending: Pending, op: Op, output: Value) -> None:
    """End a group; what is wrong with it is the fault of its float operator."""
    try:
        finish_group(folder, pending, output, (*pending.origins, *op.origins))
    except NotFoldable as refusal:
        first = pending.after[0] if pending.after else op
        folder.report(pending.op or first, refusal)


def _append_quantize(folder: Folder, op: ir_float.QuantizeLinear) -> None:
    source = folder.real(op.inputs[0])
    quantize = ir_quantized.Quantize(inputs=(source,), outputs=op.outputs, origins=op.origins)
    folder.ops.append(quantize)


def fold_softmax(folder: Folder, op: ir_float.Softmax) -> None:
    """A Softmax of codes may end in a QuantizeLinear; another one is the host's."""
    if op.inputs[0] in folder.codes:
        folder.wait(op, op.inputs[0], finish=_softmax)
    else:
        folder.keep(op)


def _is_float_softmax(pending: Pending, output: Value) -> bool:
    """ONNX Runtime has an integer Softmax only where both types are the same."""
    if not isinstance(pending.op, ir_float.Softmax):
        return False
    return bool(pending.after) or pending.inputs[0].dtype != output.dtype


def _softmax(pending: Pending, output: Value, origins: tuple[Origin, ...]) -> Op:
    op = pending.op
    assert isinstance(op, ir_float.Softmax)
    if output.log is not None:
        raise NotFoldable(
            "has no form that ends in logarithmic codes",
            "quantize the model without --activations log, or leave the Softmax out",
        )
    return ir_quantized.QuantizedSoftmax(
        inputs=(pending.inputs[0].name,), outputs=(output.name,), origins=origins, axis=op.axis
    )
