"""The host link as AXI: registers on AXI4-Lite, memory words on AXI4-Stream."""
