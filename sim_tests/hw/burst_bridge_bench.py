"""The cocotb side of `test_burst_bridge`: an AXI master before the bridge, a memory behind it."""

from __future__ import annotations

import logging
from random import Random
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge, Timer
from cocotbext.axi import (
    AxiBurstType,
    AxiBus,
    AxiLiteBus,
    AxiLiteRam,
    AxiMaster,
    AxiResp,
)

from sim_tests.hw.axi_bus import chance
from sim_tests.hw.clocked import dice

PAGE = 4096
BASE = 0x43C00000
BURST_BYTES = 64
"""Sixteen beats, the longest burst of AXI3."""
LIMIT_MS = 5


class Bench:
    """The masters' side has 12-bit IDs; what is behind has a page of bytes."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        logging.getLogger("cocotb").setLevel(logging.WARNING)
        Clock(dut.clk, 10, "ns").start()
        bus = AxiBus.from_prefix(dut, "i")
        self.master: Any = AxiMaster(bus, dut.clk, dut.rst, max_burst_len=16)
        self.ram: Any = AxiLiteRam(AxiLiteBus.from_prefix(dut, "o"), dut.clk, dut.rst, size=PAGE)

    async def reset(self) -> None:
        """Some cycles of reset."""
        self.dut.rst.value = 1
        for _ in range(3):
            await RisingEdge(self.dut.clk)
        self.dut.rst.value = 0
        await RisingEdge(self.dut.clk)

    def stall(self, rng: Random, probability: float) -> None:
        """All channels pause in that part of all cycles."""
        for side in (self.master, self.ram):
            write, read = side.write_if, side.read_if
            for channel in (
                *(write.aw_channel, write.w_channel, write.b_channel),
                *(read.ar_channel, read.r_channel),
            ):
                channel.set_pause_generator(chance(rng, probability))


@cocotb.test(timeout_time=LIMIT_MS, timeout_unit="ms")
async def bursts_of_every_length_reach_memory_and_come_back(dut: Any) -> None:
    """Reads and writes at the same time, with any ID, at several stalls."""
    bench, rng = Bench(dut), dice("bursts")
    await bench.reset()
    expected = bytearray(rng.randbytes(PAGE))
    bench.ram.write(0, bytes(expected))
    for probability in (0.0, 0.4, 0.8):
        bench.stall(rng, probability)
        for _ in range(20):
            written, read = rng.randrange(0, PAGE // 2, 4), rng.randrange(PAGE // 2, PAGE - 64, 4)
            data = rng.randbytes(4 * rng.randint(1, BURST_BYTES // 4))
            size = 4 * rng.randint(1, BURST_BYTES // 4)
            ids = rng.sample(range(1 << 12), 2)
            writing = cocotb.start_soon(bench.master.write(BASE + written, data, awid=ids[0]))
            reading = cocotb.start_soon(bench.master.read(BASE + read, size, arid=ids[1]))
            assert (await writing).resp == AxiResp.OKAY
            answer = await reading
            assert (answer.resp, answer.data) == (AxiResp.OKAY, bytes(expected[read : read + size]))
            expected[written : written + len(data)] = data
    assert bench.ram.read(0, PAGE) == bytes(expected)


@cocotb.test(timeout_time=LIMIT_MS, timeout_unit="ms")
async def narrow_and_fixed_bursts_go_where_they_say(dut: Any) -> None:
    """Bytes and halves step by their size; a fixed burst stays."""
    bench, rng = Bench(dut), dice("narrow")
    await bench.reset()
    expected = bytearray(PAGE)
    bench.ram.write(0, bytes(expected))
    for size in (0, 1):
        address = 16 * rng.randrange(PAGE // 16)
        data = rng.randbytes(6)
        await bench.master.write(BASE + address, data, size=size)
        expected[address : address + 6] = data
        answer = await bench.master.read(BASE + address, 6, size=size)
        assert answer.data == data
    words = rng.randbytes(12)
    await bench.master.write(BASE + 0x40, words, burst=AxiBurstType.FIXED)
    expected[0x40:0x44] = words[8:]
    answer = await bench.master.read(BASE + 0x40, 8, burst=AxiBurstType.FIXED)
    assert answer.data == 2 * words[8:]
    assert bench.ram.read(0, PAGE) == bytes(expected)


@cocotb.test(timeout_time=LIMIT_MS, timeout_unit="ms")
async def wrapping_bursts_are_refused_and_touch_nothing(dut: Any) -> None:
    """SLVERR for the whole burst; the next one is whole."""
    bench, rng = Bench(dut), dice("wrap")
    await bench.reset()
    bench.ram.write(0, bytes(PAGE))
    answer = await bench.master.write(BASE, rng.randbytes(16), burst=AxiBurstType.WRAP)
    assert answer.resp == AxiResp.SLVERR
    assert (await bench.master.read(BASE, 16, burst=AxiBurstType.WRAP)).resp == AxiResp.SLVERR
    assert bench.ram.read(0, PAGE) == bytes(PAGE)
    assert (await bench.master.write(BASE, b"1234")).resp == AxiResp.OKAY
    assert (await bench.master.read(BASE, 4)).data == b"1234"


@cocotb.test(timeout_time=LIMIT_MS, timeout_unit="ms")
async def an_error_of_one_beat_is_the_bursts(dut: Any) -> None:
    """The slave refuses every access to one word, whatever the others answer."""
    bench = Bench(dut)
    await bench.reset()
    cocotb.start_soon(_refuse(dut, bench.ram))
    answer = await bench.master.write(BASE + 0x10, bytes(16))
    assert answer.resp == AxiResp.SLVERR
    assert (await bench.master.write(BASE + 0x20, bytes(16))).resp == AxiResp.OKAY
    assert (await bench.master.read(BASE + 0x10, 16)).resp == AxiResp.SLVERR
    assert (await bench.master.read(BASE + 0x20, 16)).resp == AxiResp.OKAY


async def _refuse(dut: Any, ram: Any) -> None:
    """Answers to the word at 0x14 become SLVERR."""
    while True:
        await RisingEdge(dut.clk)
        await Timer(1, "ns")
        for valid, response, address in (
            (dut.o_bvalid, dut.o_bresp, dut.o_awaddr),
            (dut.o_rvalid, dut.o_rresp, dut.o_araddr),
        ):
            refused = valid.value and int(address.value) == 0x14
            response.value = AxiResp.SLVERR if refused else AxiResp.OKAY
