"""Post-training quantization: a float ONNX network and calibration inputs to QDQ ONNX.

`quantizer.quantize` is the whole way: `prepare` brings the network into one form, a scheme
(`scheme`, `schemes/`, `registry`) changes it and chooses codes from what `observe` finds when it
runs it over the calibration inputs, and `emit` writes the result.
"""
