"""Give the leading and trailing operators that do no arithmetic of weight to the host.

The accelerator keeps everything from the first to the last Conv, MatMul, AveragePool, Add and
Lookup. What comes before goes to the prologue, what comes after to the epilogue, as plain dicts
that `qcompile.runtime.host_ops` runs with numpy alone and that the manifest records as JSON::

    {"op": "QuantizeLinear", "inputs": ["x"], "outputs": ["x_codes"],
     "attributes": {"scale": 0.5, "zero_point": 3, "dtype": "int8"}}

Host operations have one input and one output. Every value has the batch as its first axis: shapes
are written for one sample, with a leading 1, and hold for N samples with N in its place.
An operation may have the same name for its input and its output: it then replaces the value.
Scales are float32 values (a JSON number that float32 holds exactly), dtypes are numpy names.

| op | attributes | result |
|---|---|---|
| Reshape | shape | the elements, row-major, in shape [N, *shape[1:]] |
| Transpose | permutation (0 first) | `numpy.transpose` |
| Cast | dtype | ONNX Cast: to an integer by truncation toward zero |
| Offset | offset, dtype | value + offset as dtype: uint8 codes to int8 with -128, and back with 128 |
| Clip | low, high (null: no bound) | float32 clamp; a Relu is low 0 |
| QuantizeLinear | scale, zero_point, dtype | rint(clip(x / scale, lowest - zp, highest - zp)) + zp |
| DequantizeLinear | scale, zero_point | float32(code - zero_point) * scale |
| Lookup | table (256 codes), dtype | table[code - lowest code of the input's own dtype] as dtype |
| Softmax | axis | float32 softmax along one axis |
| QLinearSoftmax | axis, x_scale, y_scale, y_zero_point, dtype | `golden.float_rules.softmax` |

Per sample the order of the prologue and the epilogue is the order of execution. After the prologue
the accelerator's inputs are int8 codes, 4-D; the epilogue starts from its int8 outputs.
"""

from __future__ import annotations
