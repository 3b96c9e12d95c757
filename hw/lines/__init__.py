"""The array of lines: the accelerator of devices that have hundreds of multipliers."""
