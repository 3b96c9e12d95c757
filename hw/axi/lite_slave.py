"""AXI4-Lite slave: bus transactions become requests to registers, one at a time."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.axi.signatures import Response, axi_lite


class AxiLiteSlave(wiring.Component):
    """Takes addresses and data in any order, makes one request of each pair, holds the response.

    Cycle 0: address and data (of a read the address) have come. Cycle 1: the slave chooses, the
    write where both wait. Cycle 2: the request stands, until `done`. The cycle after: the response
    stands, until the master takes it. A read that waits follows the write that is being done, so
    neither keeps the other out.

    Every ready and valid is a register or its inverse: no path leads from the bus to the bus.
    Backpressure: AWREADY, WREADY and ARREADY are low while one is held; a response that is not
    taken holds back further requests of its own direction only.

    Attributes
    ----------
    axi : axi_lite(address_bits), in
    request, write : 1, out
        A request, and whether it writes.
    index : address_bits - 2, out
        Which 32-bit register.
    data : 32, out; strobe : 4, out
        Of a write.
    done : 1, in
        Ends the request; may be 1 in its first cycle.
    refused : 1, in; read_data : 32, in
        With `done`: answer SLVERR, else this data.
    """

    axi: Any
    request: Signal
    write: Signal
    index: Signal
    data: Signal
    strobe: Signal
    done: Signal
    refused: Signal
    read_data: Signal

    def __init__(self, address_bits: int) -> None:
        super().__init__(
            {
                "axi": In(axi_lite(address_bits)),
                "request": Out(1),
                "write": Out(1),
                "index": Out(address_bits - 2),
                "data": Out(32),
                "strobe": Out(4),
                "done": In(1),
                "refused": In(1),
                "read_data": In(32),
            }
        )
        self._aw_held = Signal()
        self._w_held = Signal()
        self._ar_held = Signal()
        self._write_index = Signal(address_bits - 2)
        self._read_index = Signal(address_bits - 2)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        axi = self.axi
        response = Mux(self.refused, Response.SLVERR, Response.OKAY)
        self._take(m)
        with m.If(axi.bready):
            m.d.sync += axi.bvalid.eq(0)
        with m.If(axi.rready):
            m.d.sync += axi.rvalid.eq(0)
        can_write = self._aw_held & self._w_held & ~axi.bvalid
        can_read = self._ar_held & ~axi.rvalid
        with m.FSM():
            with m.State("CHOOSE"):
                with m.If(can_write):
                    m.next = "WRITE"
                with m.Elif(can_read):
                    m.next = "READ"
            with m.State("WRITE"):
                m.d.comb += [
                    self.request.eq(1),
                    self.write.eq(1),
                    self.index.eq(self._write_index),
                ]
                with m.If(self.done):
                    m.d.sync += [self._aw_held.eq(0), self._w_held.eq(0)]
                    m.d.sync += [axi.bvalid.eq(1), axi.bresp.eq(response)]
                    m.next = "CHOOSE"
                    with m.If(can_read):
                        m.next = "READ"
            with m.State("READ"):
                m.d.comb += [self.request.eq(1), self.index.eq(self._read_index)]
                with m.If(self.done):
                    m.d.sync += self._ar_held.eq(0)
                    m.d.sync += [axi.rvalid.eq(1), axi.rresp.eq(response)]
                    m.d.sync += axi.rdata.eq(Mux(self.refused, 0, self.read_data))
                    m.next = "CHOOSE"
        return m

    def _take(self, m: Module) -> None:
        """One address and its data of a write, one address of a read."""
        axi = self.axi
        m.d.comb += [
            axi.awready.eq(~self._aw_held),
            axi.wready.eq(~self._w_held),
            axi.arready.eq(~self._ar_held),
        ]
        with m.If(axi.awvalid & axi.awready):
            m.d.sync += [self._aw_held.eq(1), self._write_index.eq(axi.awaddr[2:])]
        with m.If(axi.wvalid & axi.wready):
            m.d.sync += [self._w_held.eq(1), self.data.eq(axi.wdata), self.strobe.eq(axi.wstrb)]
        with m.If(axi.arvalid & axi.arready):
            m.d.sync += [self._ar_held.eq(1), self._read_index.eq(axi.araddr[2:])]
