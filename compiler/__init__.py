"""qcompile.compiler: quantized ONNX in, accelerator program and hardware out."""
