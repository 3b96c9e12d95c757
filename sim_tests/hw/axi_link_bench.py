"""The cocotb side of `test_axi`: the AXI link in front of the real accelerator and flash reader."""

from __future__ import annotations

import struct
from itertools import pairwise
from random import Random
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge, Timer
from cocotbext.axi import AxiResp, AxiStreamFrame

from qcompile.runtime.protocol import Control, Register, Status
from sim_tests.hw.axi_board import CLOCK_HZ, CONFIG
from sim_tests.hw.axi_bus import AxiBench
from sim_tests.hw.clocked import dice

MEMORY_WORDS = 1 << 15
READ_ONLY = (0x00, 0x04, 0x08, 0x0C, 0x10, 0x14, 0x28)
UNKNOWN = (0x2C, 0x44, 0x48, 0x60, 0x100, 0x7FC, 0x800, 0xFFC)
PLAIN = {0x20: 24, 0x24: 16, 0x30: 15, 0x38: 15, 0x3C: 15}
"""Registers that keep what is written, and their bits (docs/architecture.md section 6)."""
STALLS = (0.0, 0.3, 0.8)
LIMIT_MS = 5
"""Of simulated time; what takes longer hangs."""


def words_of(rng: Random, count: int) -> list[int]:
    """Random words."""
    return [rng.getrandbits(32) for _ in range(count)]


def frame(words: list[int]) -> Any:
    """A packet of these words."""
    return AxiStreamFrame(struct.pack(f"<{len(words)}I", *words))


def words_in(packet: Any) -> list[int]:
    """The words of a packet."""
    return list(struct.unpack(f"<{len(packet.tdata) // 4}I", bytes(packet.tdata)))


async def begin(dut: Any, name: str) -> tuple[AxiBench, Random]:
    """A bench after reset, and the random numbers of a test."""
    bench = AxiBench(dut)
    await bench.reset()
    return bench, dice(name)


@cocotb.test(timeout_time=LIMIT_MS, timeout_unit="ms")
async def registers_tell_who_it_is_and_keep_what_is_written(dut: Any) -> None:
    bench, rng = await begin(dut, "registers")
    info = [await bench.read(offset) for offset in range(0, 16, 4)]
    expected = struct.pack("<4sBBBBII", b"QCMP", 1, 4, 4, 28, CONFIG.id, CLOCK_HZ)
    assert struct.pack("<4I", *info) == expected
    assert [await bench.read(offset) for offset in (0x10, 0x14, 0x18, 0x1C)] == [0, 0, 0, 0]
    kept = dict.fromkeys(PLAIN, 0)
    for _ in range(60):
        offset = rng.choice(list(PLAIN))
        first = rng.randrange(4)
        data = rng.randbytes(rng.randint(1, 4 - first))
        answer = await bench.master.write(offset + first, data)  # strobes for these bytes alone
        assert answer.resp == AxiResp.OKAY
        old = bytearray(kept[offset].to_bytes(4, "little"))
        old[first : first + len(data)] = data
        kept[offset] = int.from_bytes(old, "little") & ((1 << PLAIN[offset]) - 1)
        assert {each: await bench.read(each) for each in PLAIN} == kept
    assert await bench.read(Register.RESULT) == Status.OK


@cocotb.test(timeout_time=LIMIT_MS, timeout_unit="ms")
async def what_does_not_exist_answers_slverr_and_does_nothing(dut: Any) -> None:
    bench, rng = await begin(dut, "errors")
    await bench.write(Register.MEMORY_ADDRESS, 77)
    before = [await bench.read(offset) for offset in READ_ONLY]
    for offset in rng.sample(UNKNOWN * 2, 2 * len(UNKNOWN)):
        answer = await bench.master.read(offset, 4)
        assert (answer.resp, bytes(answer.data)) == (AxiResp.SLVERR, bytes(4)), hex(offset)
        assert (await bench.master.write(offset, rng.randbytes(4))).resp == AxiResp.SLVERR
    for offset in READ_ONLY:
        assert (await bench.master.write(offset, rng.randbytes(4))).resp == AxiResp.SLVERR
    for data in (b"\1", b"\1\2\3"):  # a part of a memory word
        assert (await bench.master.write(Register.MEMORY_DATA, data)).resp == AxiResp.SLVERR
    assert [await bench.read(offset) for offset in READ_ONLY] == before
    assert await bench.read(Register.MEMORY_ADDRESS) == 77
    assert await bench.read(Register.RESULT) == Status.OK


@cocotb.test(timeout_time=LIMIT_MS, timeout_unit="ms")
async def address_and_data_of_a_write_come_in_any_order(dut: Any) -> None:
    bench, rng = await begin(dut, "order")
    write = bench.master.write_if
    for number in range(24):
        late = (write.aw_channel, write.w_channel)[number % 2]
        late.pause = True
        write.b_channel.pause = number % 3 == 0
        value = rng.getrandbits(15)
        event = bench.master.init_write(Register.MEMORY_ADDRESS, value.to_bytes(4, "little"))
        for _ in range(rng.randint(5, 12)):
            await RisingEdge(dut.clk)
        assert not event.is_set() and not int(dut.axi_bvalid.value)
        late.pause = False
        for _ in range(8):
            await RisingEdge(dut.clk)
        assert event.is_set() != write.b_channel.pause
        write.b_channel.pause = False
        await event.wait()
        assert await bench.read(Register.MEMORY_ADDRESS) == value


@cocotb.test(timeout_time=LIMIT_MS, timeout_unit="ms")
async def responses_stand_in_the_stated_cycle(dut: Any) -> None:
    bench, _ = await begin(dut, "cycles")

    async def cycles(valid: str, response: str, access: Any) -> int:
        task = cocotb.start_soon(access)
        count = 0
        while not getattr(dut, valid).value:
            await RisingEdge(dut.clk)
            await Timer(1, "ns")
        while not getattr(dut, response).value:
            await RisingEdge(dut.clk)
            await Timer(1, "ns")
            count += 1
        await task
        return count

    for offset, written, read in (
        (Register.STOP_AFTER, 3, 3),
        (Register.MEMORY_DATA, 4, 5),
        (Register.CONTROL, 6, 3),
    ):
        write = bench.master.write(offset, Control.ABORT.to_bytes(4, "little"))
        assert await cycles("axi_wvalid", "axi_bvalid", write) == written
        assert await cycles("axi_arvalid", "axi_rvalid", bench.master.read(offset, 4)) == read


@cocotb.test(timeout_time=LIMIT_MS, timeout_unit="ms")
async def reads_and_writes_do_not_keep_each_other_out(dut: Any) -> None:
    bench, rng = await begin(dut, "both")
    for blocked, free in (("b", "read"), ("r", "write")):
        channel = bench.channels[blocked]
        channel.pause = True
        if blocked == "b":
            held = bench.master.init_write(Register.STOP_AFTER, bytes(4))
        else:
            held = bench.master.init_read(Register.STOP_AFTER, 4)
        for _ in range(20):
            if free == "read":
                await bench.read(Register.INFO)
            else:
                await bench.write(Register.MEMORY_ADDRESS, rng.getrandbits(15))
        assert not held.is_set()
        channel.pause = False
        await held.wait()
    order: list[str] = []

    async def noted(name: str, event: Any) -> None:
        await event.wait()
        order.append(name)

    tasks = []
    for _ in range(20):
        for name, event in (
            ("write", bench.master.init_write(Register.MEMORY_ADDRESS, bytes(4))),
            ("read", bench.master.init_read(Register.INFO, 4)),
        ):
            tasks.append(cocotb.start_soon(noted(name, event)))
    for task in tasks:
        await task
    for name in ("write", "read"):
        places = [place for place, each in enumerate(order) if each == name]
        gaps = [later - sooner for sooner, later in pairwise(places)]
        assert max(gaps) <= 3, order


@cocotb.test(timeout_time=LIMIT_MS, timeout_unit="ms")
async def no_path_leads_from_an_input_to_an_output(dut: Any) -> None:
    bench, rng = await begin(dut, "paths")
    ports = {each._name for each in dut if each._name.startswith(("axi_", "words_"))}
    driven_by_us = ("awaddr", "awprot", "awvalid", "wdata", "wstrb", "wvalid", "bready", "araddr")
    ours = {f"axi_{name}" for name in (*driven_by_us, "arprot", "arvalid", "rready")}
    ours |= {"words_i_tdata", "words_i_tlast", "words_i_tvalid", "words_o_tready"}
    theirs = sorted(ports - ours)
    assert len(ours) == 15 and len(theirs) == 12, theirs
    bench.stall(rng, 0.5)
    await bench.write(Register.OUT_COUNT, 300)
    bench.source.send_nowait(frame(words_of(rng, 300)))
    for offset in range(0, 0x44, 4):
        bench.master.init_read(offset, 4)
        bench.master.init_write(Register.MEMORY_DATA, rng.randbytes(4))
    seen = set()
    for _ in range(200):
        await RisingEdge(dut.clk)
        await Timer(5, "ns")
        before = {name: int(getattr(dut, name).value) for name in theirs}
        kept = {name: getattr(dut, name).value for name in ours}
        for name in ours:
            port = getattr(dut, name)
            port.value = rng.getrandbits(len(port)) if len(port) > 1 else 1 - int(port.value)
        await Timer(5, "ns")
        assert {name: int(getattr(dut, name).value) for name in theirs} == before
        for name, value in kept.items():
            getattr(dut, name).value = value
        await Timer(5, "ns")
        seen |= {name for name, value in before.items() if value}
    assert seen >= {"axi_bvalid", "axi_rvalid", "words_o_tvalid", "words_i_tready"}


@cocotb.test(timeout_time=LIMIT_MS, timeout_unit="ms")
async def memory_behind_the_window_keeps_its_words(dut: Any) -> None:
    bench, rng = await begin(dut, "window")
    for stall in STALLS:
        bench.stall(rng, stall)
        for address, count in ((0, 1), (5, 40), (MEMORY_WORDS // 2 - 7, 14), (MEMORY_WORDS - 3, 3)):
            words = words_of(rng, count)
            await bench.write(Register.MEMORY_ADDRESS, address)
            await bench.write(Register.MEMORY_DATA, *words)
            assert await bench.read(Register.MEMORY_ADDRESS) == (address + count) % MEMORY_WORDS
            await bench.write(Register.MEMORY_ADDRESS, address)
            assert await bench.read_all(Register.MEMORY_DATA, count) == words
    assert await bench.read(Register.RESULT) == Status.OK


@cocotb.test(timeout_time=LIMIT_MS, timeout_unit="ms")
async def streams_carry_packets_while_the_window_is_used(dut: Any) -> None:
    bench, rng = await begin(dut, "streams")
    for number in range(12):
        bench.stall(rng, STALLS[number % 3], [name for name in bench.channels if "words" in name])
        bench.stall(rng, rng.choice(STALLS), ["aw", "w", "b", "ar", "r"])
        address = rng.randrange(MEMORY_WORDS - 300)
        packets = [words_of(rng, rng.randint(1, 60)) for _ in range(3)]
        words = [word for packet in packets for word in packet]
        await bench.write(Register.IN_ADDRESS, address)
        for packet in packets:
            await bench.source.send(frame(packet))
        aside = words_of(rng, 10)
        other = (address + 400) % (MEMORY_WORDS - 10)
        await bench.write(Register.MEMORY_ADDRESS, other)
        await bench.write(Register.MEMORY_DATA, *aside)
        while await bench.read(Register.IN_ADDRESS) != address + len(words):
            pass
        first = rng.randrange(len(words))
        for begin_at, count in ((0, first), (first, len(words) - first)):
            if count:
                await bench.write(Register.OUT_ADDRESS, address + begin_at)
                await bench.write(Register.OUT_COUNT, count)
                await bench.write(Register.MEMORY_ADDRESS, other)
                assert await bench.read_all(Register.MEMORY_DATA, 10) == aside
                packet = await bench.sink.recv()
                assert words_in(packet) == words[begin_at : begin_at + count]
                await RisingEdge(dut.clk)
        assert bench.sink.empty()
        assert await bench.read(Register.OUT_COUNT) == 0
    assert await bench.read(Register.RESULT) == Status.OK


@cocotb.test(timeout_time=LIMIT_MS, timeout_unit="ms")
async def stream_that_is_sent_is_not_disturbed(dut: Any) -> None:
    bench, rng = await begin(dut, "busy stream")
    words = words_of(rng, 30)
    await bench.write(Register.MEMORY_ADDRESS, 900)
    await bench.write(Register.MEMORY_DATA, *words)
    await bench.write(Register.OUT_ADDRESS, 900)
    bench.sink.pause = True
    await bench.write(Register.OUT_COUNT, 30)
    await bench.write(Register.OUT_ADDRESS, 100)
    assert await bench.read(Register.RESULT) == Status.BUSY
    await bench.write(Register.RESULT, 0)
    assert await bench.read(Register.RESULT) == Status.OK
    await bench.write(Register.OUT_COUNT, 5)
    assert await bench.read(Register.RESULT) == Status.BUSY
    bench.sink.pause = False
    assert words_in(await bench.sink.recv()) == words
    assert await bench.read(Register.RESULT) == Status.BUSY, "stays until it is cleared"
