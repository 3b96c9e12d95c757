"""The registers that a layer's descriptor fills, shared by sequencer, feeder and drain."""

from __future__ import annotations

from amaranth.lib import data

from qcompile.hw.layouts import BANK_ADDRESS_BITS
from qcompile.hw.program import COORDINATE_BITS, COUNT_BITS

Flags = data.StructLayout(
    {
        "broadcast": 1,
        "read_bank": 1,
        "write_bank": 1,
        "residual": 1,
        "residual_bank": 1,
        "table": 1,
        "zero_point_inside": 1,
        "shared_weights": 1,
        "fraction": 1,
    }
)
"""In the order of `program.Flag`."""

LayerRegisters = data.StructLayout(
    {
        "counts": data.StructLayout({f"n{i}": bits for i, bits in enumerate(COUNT_BITS)}),
        "p_bound": COORDINATE_BITS,
        "o_bound": COORDINATE_BITS,
        "rows_last": 2,
        "pad_code": 8,
        "zero_point": 8,
        "low": 8,
        "high": 8,
        "residual_offset": BANK_ADDRESS_BITS,
        "flags": Flags,
    }
)
"""Counts and rows are stored minus one."""
