"""Models of what surrounds the chip in simulation: flash, pads, cells, the host's side of UART."""
