"""AXI3 to AXI4-Lite: bursts become single transactions, and every answer has its ID."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.axi.signatures import Burst, Response, axi3, axi_lite


class BurstBridge(wiring.Component):
    """One transaction of each direction at a time; a beat of a burst is one of AXI4-Lite.

    A beat takes what the slave takes and two cycles, a burst two more. A write answers SLVERR
    where one of its beats did. Wrapping bursts, which only caches make, answer SLVERR and
    reach no slave. Write data belongs to the address before it: WID is not looked at.

    Every ready and valid is decided by registers. Backpressure: the next address waits until the
    last response is taken; beats wait for the slave.

    Attributes
    ----------
    i : axi3(id_bits, address_bits), in
    o : axi_lite(lite_bits), out
        Addresses are the low bits of `i`'s.
    """

    i: Any
    o: Any

    def __init__(self, *, id_bits: int, address_bits: int, lite_bits: int) -> None:
        self._lite_bits = lite_bits
        super().__init__({"i": In(axi3(id_bits, address_bits)), "o": Out(axi_lite(lite_bits))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self._writes(m)
        self._reads(m)
        return m

    def _step(self, address: Signal, size: Signal, burst: Signal) -> Value:
        """The address of the beat behind the one at `address`."""
        following = (((address >> size) + 1) << size)[: self._lite_bits]
        return Mux(burst == Burst.FIXED, address, following)

    def _writes(self, m: Module) -> None:
        i, o = self.i, self.o
        address = Signal(self._lite_bits, name="write_address")
        size, burst = Signal(2, name="write_size"), Signal(2, name="write_burst")
        last, refused = Signal(name="write_last"), Signal(name="write_refused")
        m.d.comb += o.awaddr.eq(address)
        with m.FSM(name="writes"):
            with m.State("ADDRESS"):
                m.d.comb += i.awready.eq(1)
                with m.If(i.awvalid):
                    m.d.sync += [i.bid.eq(i.awid), i.bresp.eq(Response.OKAY)]
                    m.d.sync += [address.eq(i.awaddr), size.eq(i.awsize)]
                    m.d.sync += [burst.eq(i.awburst), refused.eq(i.awburst >= Burst.WRAPPING)]
                    m.next = "DATA"
            with m.State("DATA"):
                m.d.comb += i.wready.eq(1)
                with m.If(i.wvalid):
                    m.d.sync += [o.wdata.eq(i.wdata), o.wstrb.eq(i.wstrb), last.eq(i.wlast)]
                    with m.If(refused):
                        m.d.sync += i.bresp.eq(Response.SLVERR)
                        m.next = "NEXT"
                    with m.Else():
                        m.d.sync += [o.awvalid.eq(1), o.wvalid.eq(1)]
                        m.next = "SEND"
            with m.State("SEND"):
                with m.If(o.awready):
                    m.d.sync += o.awvalid.eq(0)
                with m.If(o.wready):
                    m.d.sync += o.wvalid.eq(0)
                m.d.comb += o.bready.eq(1)
                with m.If(o.bvalid):
                    m.d.sync += i.bresp.eq(i.bresp | o.bresp)
                    m.next = "NEXT"
            with m.State("NEXT"):
                m.d.sync += address.eq(self._step(address, size, burst))
                m.next = "DATA"
                with m.If(last):
                    m.next = "RESPONSE"
            with m.State("RESPONSE"):
                m.d.comb += i.bvalid.eq(1)
                with m.If(i.bready):
                    m.next = "ADDRESS"

    def _reads(self, m: Module) -> None:
        i, o = self.i, self.o
        address = Signal(self._lite_bits, name="read_address")
        size, burst = Signal(2, name="read_size"), Signal(2, name="read_burst")
        left, refused = Signal(4, name="reads_left"), Signal(name="read_refused")
        m.d.comb += [o.araddr.eq(address), i.rlast.eq(left == 0)]
        with m.FSM(name="reads"):
            with m.State("ADDRESS"):
                m.d.comb += i.arready.eq(1)
                with m.If(i.arvalid):
                    m.d.sync += i.rid.eq(i.arid)
                    m.d.sync += [address.eq(i.araddr), left.eq(i.arlen), size.eq(i.arsize)]
                    m.d.sync += [burst.eq(i.arburst), refused.eq(i.arburst >= Burst.WRAPPING)]
                    m.next = "SEND"
            with m.State("SEND"):
                with m.If(refused):
                    m.d.sync += [i.rdata.eq(0), i.rresp.eq(Response.SLVERR)]
                    m.next = "GIVE"
                with m.Else():
                    m.d.comb += o.arvalid.eq(1)
                    with m.If(o.arready):
                        m.next = "WAIT"
            with m.State("WAIT"):
                m.d.comb += o.rready.eq(1)
                with m.If(o.rvalid):
                    m.d.sync += [i.rdata.eq(o.rdata), i.rresp.eq(o.rresp)]
                    m.next = "GIVE"
            with m.State("GIVE"):
                m.d.comb += i.rvalid.eq(1)
                with m.If(i.rready):
                    m.d.sync += [
                        left.eq(left - 1),
                        address.eq(self._step(address, size, burst)),
                    ]
                    m.next = "SEND"
                    with m.If(left == 0):
                        m.next = "ADDRESS"
