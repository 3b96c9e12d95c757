"""The cocotb side of every test at the AXI ports: masters, stalls, and a watch on the rules."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ReadOnly, RisingEdge, Timer
from cocotbext.axi import (
    AxiLiteBus,
    AxiLiteMaster,
    AxiResp,
    AxiStreamBus,
    AxiStreamSink,
    AxiStreamSource,
)

CLOCK_NS = 40
AWAKE_US = 40
"""Of a thousand cycles, the flash reader's start takes about 550."""
HELD = {
    "axi_b": ("bresp",),
    "axi_r": ("rdata", "rresp"),
    "words_o_t": ("tdata", "tlast"),
}
"""What the hardware must hold until it is taken, by the prefix of valid and ready."""


def chance(rng: Random, probability: float) -> Iterator[bool]:
    """Pauses without end."""
    while True:
        yield rng.random() < probability


class AxiBench:
    """Masters at the ports `axi`, `words_i` and `words_o`."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        logging.getLogger("cocotb").setLevel(logging.WARNING)  # a line for each word otherwise
        Clock(dut.clk, CLOCK_NS, "ns").start()
        self.master: Any = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "axi"), dut.clk, dut.rst)
        self.source: Any = AxiStreamSource(
            AxiStreamBus.from_prefix(dut, "words_i"), dut.clk, dut.rst
        )
        self.sink: Any = AxiStreamSink(AxiStreamBus.from_prefix(dut, "words_o"), dut.clk, dut.rst)
        cocotb.start_soon(self._watch())

    async def reset(self) -> None:
        """Some cycles of reset."""
        self.dut.rst.value = 1
        for _ in range(3):
            await RisingEdge(self.dut.clk)
        self.dut.rst.value = 0
        await RisingEdge(self.dut.clk)

    async def start_flash(self) -> None:
        """Begin with a flash, which needs a second clock; it is awake when this ends."""
        await RisingEdge(self.dut.clk)
        await Timer(CLOCK_NS // 4, "ns")
        Clock(self.dut.settle, CLOCK_NS, "ns").start()
        await self.reset()
        await Timer(AWAKE_US, "us")

    @property
    def channels(self) -> dict[str, Any]:
        """Everything that can stall."""
        write, read = self.master.write_if, self.master.read_if
        return {
            "aw": write.aw_channel,
            "w": write.w_channel,
            "b": write.b_channel,
            "ar": read.ar_channel,
            "r": read.r_channel,
            "words_i": self.source,
            "words_o": self.sink,
        }

    def stall(self, rng: Random, probability: float, names: Sequence[str] = ()) -> None:
        """Channels of these names (all of them) pause in that part of all cycles."""
        for name, channel in self.channels.items():
            if not names or name in names:
                channel.set_pause_generator(chance(rng, probability))

    async def write(self, offset: int, *values: int) -> None:
        """A register, several times."""
        tasks = [
            cocotb.start_soon(self.master.write(offset, value.to_bytes(4, "little")))
            for value in values
        ]
        for task in tasks:
            assert (await task).resp == AxiResp.OKAY, f"write to {offset:#x}"

    async def read(self, offset: int) -> int:
        """A register."""
        return (await self.read_all(offset, 1))[0]

    async def read_all(self, offset: int, count: int) -> list[int]:
        """A register, several times without waiting for the answers."""
        tasks = [cocotb.start_soon(self.master.read(offset, 4)) for _ in range(count)]
        answers = [await task for task in tasks]
        assert all(answer.resp == AxiResp.OKAY for answer in answers), f"read of {offset:#x}"
        return [int.from_bytes(answer.data, "little") for answer in answers]

    async def _watch(self) -> None:
        """What is valid stays, unchanged, until it is taken."""
        waiting: dict[str, tuple[int, ...]] = {}
        while True:
            await RisingEdge(self.dut.clk)
            await ReadOnly()
            for prefix, names in HELD.items():
                scope = prefix.removesuffix("_t") if prefix.endswith("_t") else "axi"
                value = tuple(int(getattr(self.dut, f"{scope}_{name}").value) for name in names)
                valid = bool(getattr(self.dut, f"{prefix}valid").value)
                if prefix in waiting and not self.dut.rst.value:
                    assert valid and value == waiting[prefix], f"{prefix}valid was not held"
                waiting.pop(prefix, None)
                if valid and not getattr(self.dut, f"{prefix}ready").value:
                    waiting[prefix] = value
