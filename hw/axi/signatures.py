"""AXI4-Lite, AXI3 and AXI4-Stream as signatures, and the words that move between them and memory.

Names are those of the AMBA AXI specification (ARM IHI 0022 part B, IHI 0051) in lower case.
"""

from __future__ import annotations

from enum import IntEnum

from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.link_ports import MemoryShape
from qcompile.runtime.protocol import BEAT_BITS


class Response(IntEnum):
    """BRESP and RRESP (ARM IHI 0022, table A3-4); EXOKAY and DECERR are not ours to give."""

    OKAY = 0
    SLVERR = 2


def axi_lite(address_bits: int) -> wiring.Signature:
    """AXI4-Lite with 32-bit data, as the master sees it."""
    return wiring.Signature(
        {
            "awaddr": Out(address_bits),
            "awprot": Out(3),
            "awvalid": Out(1),
            "awready": In(1),
            "wdata": Out(32),
            "wstrb": Out(4),
            "wvalid": Out(1),
            "wready": In(1),
            "bresp": In(2),
            "bvalid": In(1),
            "bready": Out(1),
            "araddr": Out(address_bits),
            "arprot": Out(3),
            "arvalid": Out(1),
            "arready": In(1),
            "rdata": In(32),
            "rresp": In(2),
            "rvalid": In(1),
            "rready": Out(1),
        }
    )


class Burst(IntEnum):
    """AWBURST and ARBURST (ARM IHI 0022, table A3-3)."""

    FIXED = 0
    INCREMENTING = 1
    WRAPPING = 2


def axi3(id_bits: int, address_bits: int) -> wiring.Signature:
    """AXI3 with 32-bit data, as the master sees it; without what a slave of registers ignores."""
    request = {"id": id_bits, "addr": address_bits, "len": 4, "size": 2, "burst": 2, "valid": 1}
    return wiring.Signature(
        {
            **{f"aw{name}": Out(bits) for name, bits in request.items()},
            "awready": In(1),
            "wdata": Out(32),
            "wstrb": Out(4),
            "wlast": Out(1),
            "wvalid": Out(1),
            "wready": In(1),
            "bid": In(id_bits),
            "bresp": In(2),
            "bvalid": In(1),
            "bready": Out(1),
            **{f"ar{name}": Out(bits) for name, bits in request.items()},
            "arready": In(1),
            "rid": In(id_bits),
            "rdata": In(32),
            "rresp": In(2),
            "rlast": In(1),
            "rvalid": In(1),
            "rready": Out(1),
        }
    )


AXI_STREAM = wiring.Signature(
    {
        "tdata": Out(BEAT_BITS),
        "tlast": Out(1),
        "tvalid": Out(1),
        "tready": In(1),
    }
)
"""AXI4-Stream of whole 32-bit beats, as the source sees it; without TKEEP and TSTRB all bytes
count."""


def word_access(memory: MemoryShape) -> wiring.Signature:
    """One access to memory, as the client sees it.

    `valid : 1, out`; `write : 1, out`; `address : address_bits, out`; `data : word_bits, out`
        Stay until `done`.
    `done : 1, in`; `read_data : word_bits, in`
        `done` is 1 for one cycle, in which a read's word stands at `read_data`.
    """
    return wiring.Signature(
        {
            "valid": Out(1),
            "write": Out(1),
            "address": Out(memory.address_bits),
            "data": Out(memory.word_bits),
            "done": In(1),
            "read_data": In(memory.word_bits),
        }
    )
