"""Quantization schemes, one a file; `registry` lists them."""
