"""Several clients, one after the other, at the accelerator's host port."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from qcompile.hw.axi.signatures import word_access
from qcompile.hw.link_ports import MemoryShape, host_ports


class WordArbiter(wiring.Component):
    """The first client that wants an access gets it, and keeps it to its end.

    Cycle 0: chosen. Cycle 1: the access stands at the port, until `host_ready`; a write is done
    then, a read when its word has come, one cycle later at the earliest. A client wants nothing in
    the cycle after its word is done unless that is already the next access, so a stream that needs
    a cycle to go on never keeps the others out. Backpressure: clients wait while the accelerator
    uses the memory.

    Attributes
    ----------
    clients : word_access(memory), in, one for each client
        `client_0`, `client_1`, ..., the first before the others.
    host_... : as `link_ports.link_ports` has them
    """

    host_valid: Signal
    host_ready: Signal
    host_write: Signal
    host_address: Signal
    host_write_data: Signal
    host_data: Signal
    host_data_valid: Signal

    def __init__(self, memory: MemoryShape, *, clients: int) -> None:
        names = [f"client_{number}" for number in range(clients)]
        accesses = {name: In(word_access(memory)) for name in names}
        super().__init__({**accesses, **host_ports(memory)})
        self.clients: tuple[Any, ...] = tuple(getattr(self, name) for name in names)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        chosen = Signal(range(len(self.clients)))
        done = Signal()
        with m.FSM():
            with m.State("CHOOSE"):
                for number, client in reversed(list(enumerate(self.clients))):
                    with m.If(client.valid):
                        m.d.sync += chosen.eq(number)
                        m.next = "ACCESS"
            with m.State("ACCESS"):
                m.d.comb += [self.host_valid.eq(1), done.eq(self.host_ready & self.host_write)]
                with m.If(self.host_ready):
                    m.next = "WORD"
                with m.If(done):
                    m.next = "CHOOSE"
            with m.State("WORD"):
                m.d.comb += done.eq(self.host_data_valid)
                with m.If(done):
                    m.next = "CHOOSE"
        with m.Switch(chosen):
            for number, client in enumerate(self.clients):
                with m.Case(number):
                    m.d.comb += [
                        self.host_write.eq(client.write),
                        self.host_address.eq(client.address),
                        self.host_write_data.eq(client.data),
                        client.done.eq(done),
                    ]
        for client in self.clients:
            m.d.comb += client.read_data.eq(self.host_data)
        return m
