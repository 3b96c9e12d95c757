"""What help says of qcompile and of each verb, with examples."""

from __future__ import annotations

DESCRIPTION = """\
Quantized ONNX to an FPGA accelerator, bit-identical to ONNX Runtime.

  qcompile MODEL.onnx --target ice40      compile; the same as `qcompile compile MODEL.onnx ...`
"""

EXAMPLES = {
    "": """\
examples:
  qcompile check model.onnx                            does it fit, how fast is it; seconds
  qcompile model.onnx --target ice40                   compile to build/model
  qcompile sim build/model --inputs x.npz              Verilog against golden and ONNX Runtime
  qcompile sim model.onnx --inputs x.npz --engine golden   accuracy, without hardware
  qcompile flash build/model                           program the board
  qcompile run build/model --inputs x.npz --port sim   the simulated board, or /dev/ttyUSB1

`qcompile VERB --help` tells more about each.""",
    "compile": """\
examples:
  qcompile model.onnx --target ice40
  qcompile model.onnx --board icebreaker --no-bitstream -o build/try
  qcompile model.onnx --target xc7 --device xc7a35t --clock 80
  qcompile model.onnx --target ice40 --shape image=1,3,64,64 --json > report.json""",
    "check": """\
examples:
  qcompile check model.onnx
  qcompile check model.onnx --device up5k --shape image=1,3,64,64
  qcompile check model.onnx --requant shift --json

Without a target, every device is asked about. Exit code 0: it fits the device that was asked about,
or without a target any; 1: it does not, or is refused.""",
    "quantize": """\
examples:
  qcompile quantize float.onnx --calibration x.npz -o int8.onnx
  qcompile quantize float.onnx --calibration x.npz --rows 200 --range mse -o int8.onnx
  qcompile quantize float.onnx --calibration pixels.npz --mean 127.5 --std 127.5 -o int8.onnx
  qcompile quantize float.onnx --calibration x.npz --range output --equalize activations \\
      --rounding search --bias-correction -o int8.onnx
  qcompile quantize float.onnx --ranges net_clip_ranges.json -o int8.onnx

The first --rows inputs of x.npz calibrate; with labels y, accuracy is measured on the others.""",
    "requantize": """\
examples:
  qcompile requantize int8.onnx --scheme shift --inputs x.npz -o shift.onnx
  qcompile sim shift.onnx --inputs x.npz --requant shift --engine golden
  qcompile requantize int8.onnx --weights codebook:16 --inputs x.npz -o codebook.onnx

What this costs on the inputs is printed before the model is written: accuracy with labels
y, the share of equal classes, and the outputs' error against int8.onnx.""",
    "sim": """\
examples:
  qcompile sim build/model --inputs x.npz
  qcompile sim build/model --inputs x.npz --limit 1 --layers
  qcompile sim model.onnx --inputs x.npz --engine golden -o build/accuracy.json

x.npz: numpy.savez('x.npz', x=array[N, ...], y=labels[N]); the labels are optional.""",
    "run": """\
examples:
  qcompile run build/model --inputs x.npz --port sim
  qcompile run build/model --inputs x.npz --port /dev/ttyUSB1 --json
  qcompile run build/model --port /dev/ttyUSB1 --selftest""",
    "flash": """\
examples:
  qcompile flash build/model --dry-run
  qcompile flash build/model --board icebreaker""",
    "doctor": "examples:\n  qcompile doctor\n  qcompile doctor --json",
    "targets": "examples:\n  qcompile targets\n  qcompile targets --json",
}
