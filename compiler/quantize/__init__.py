"""Post-training quantization: a float ONNX network and calibration inputs to QDQ ONNX.

`quantizer.quantize` is the whole way: `prepare` brings the network into one form, `observe` runs it
over the calibration inputs, `ranges` chooses what codes stand for, and `emit` writes the result.
"""
