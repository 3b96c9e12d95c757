"""The cocotb side of `test_axi` for memory words of any width: the bench is the memory."""

from __future__ import annotations

import os
from random import Random
from typing import Any

import cocotb
import numpy as np
from cocotb.task import bridge, resume
from cocotb.triggers import RisingEdge, Timer
from cocotb.utils import get_sim_time
from cocotbext.axi import AxiStreamFrame

from qcompile.runtime.link import Words
from qcompile.runtime.protocol import Control, Register, State, Status
from qcompile.runtime.register_link import RegisterLink
from sim_tests.hw.axi_bus import AxiBench
from sim_tests.hw.clocked import dice

BYTES = int(os.environ["QCOMPILE_WORD_BYTES"])
BEATS = BYTES // 4
WORDS = 1 << int(os.environ["QCOMPILE_ADDRESS_BITS"])
QUEUES = os.environ["QCOMPILE_QUEUES"] == "1"
LIMIT_MS = 5
"""Of simulated time; what takes longer hangs."""
SINK_CYCLES = max(3, BEATS)
SOURCE_CYCLES = max(3, BEATS)
"""For a word, where memory is ready at once and a read takes a cycle; so the docstrings say."""


class Memory:
    """The host port: ready with some chance, a read's word one to `latency` cycles later."""

    def __init__(self, dut: Any, rng: Random, *, ready: float = 1.0, latency: int = 1) -> None:
        self.dut = dut
        self.words: dict[int, int] = {}
        self._rng = rng
        self._ready = ready
        self._latency = latency
        cocotb.start_soon(self._serve())

    async def _serve(self) -> None:
        dut, rng = self.dut, self._rng
        dut.host_ready.value = 0
        dut.host_data_valid.value = 0
        while True:
            await RisingEdge(dut.clk)
            dut.host_data_valid.value = 0
            dut.host_data.value = rng.getrandbits(8 * BYTES)
            dut.host_ready.value = int(rng.random() < self._ready)
            await Timer(10, "ns")
            if not (dut.host_valid.value and dut.host_ready.value):
                continue
            address = int(dut.host_address.value)
            if dut.host_write.value:
                self.words[address] = int(dut.host_write_data.value)
                continue
            for _ in range(rng.randint(1, self._latency)):
                await RisingEdge(dut.clk)
                dut.host_ready.value = 0
            dut.host_data.value = self.words.get(address, 0)
            dut.host_data_valid.value = 1


async def begin(dut: Any, name: str, **memory: Any) -> tuple[AxiBench, Memory, Random]:
    """A bench after reset; the accelerator is idle."""
    for port in ("state", "error", "layers_done", "cycles", "flash_ready", "flash_i_valid"):
        getattr(dut, port).value = 0
    rng = dice(name)
    bench = AxiBench(dut)
    model = Memory(dut, rng, **memory)
    await bench.reset()
    return bench, model, rng


def beats(words: list[int]) -> list[int]:
    """Beats of words, low first."""
    return [word >> 32 * beat & 0xFFFFFFFF for word in words for beat in range(BEATS)]


def packet(words: list[int], *, more: bytes = b"") -> Any:
    """A packet of words, and of bytes that are no whole word."""
    return AxiStreamFrame(b"".join(word.to_bytes(BYTES, "little") for word in words) + more)


def words_in(received: Any) -> list[int]:
    """The words of a packet."""
    data = bytes(received.tdata)
    assert len(data) % BYTES == 0
    return [
        int.from_bytes(data[begin : begin + BYTES], "little")
        for begin in range(0, len(data), BYTES)
    ]


@cocotb.test(timeout_time=LIMIT_MS, timeout_unit="ms")
async def words_pass_in_beats_through_window_and_streams(dut: Any) -> None:
    bench, memory, rng = await begin(dut, "words", ready=0.6, latency=4)
    bench.stall(rng, 0.3)
    assert await bench.read(Register.INFO + 4) >> 16 & 0xFF == BYTES
    for _ in range(6):
        address = rng.randrange(WORDS - 40)
        words = [rng.getrandbits(8 * BYTES) for _ in range(rng.randint(1, 12))]
        expected = dict(enumerate(words, address))
        await bench.write(Register.MEMORY_ADDRESS, address)
        await bench.write(Register.MEMORY_DATA, *beats(words))
        assert {each: memory.words[each] for each in expected} == expected
        await bench.write(Register.MEMORY_ADDRESS, address)
        assert await bench.read_all(Register.MEMORY_DATA, BEATS * len(words)) == beats(words)
        await bench.write(Register.OUT_ADDRESS, address)
        await bench.write(Register.OUT_COUNT, len(words))
        assert words_in(await bench.sink.recv()) == words
        await bench.write(Register.IN_ADDRESS, address + 20)
        await bench.source.send(packet(words[::-1]))
        while await bench.read(Register.IN_ADDRESS) != address + 20 + len(words):
            pass
        assert [memory.words[address + 20 + i] for i in range(len(words))] == words[::-1]
    assert await bench.read(Register.RESULT) == Status.OK


@cocotb.test(skip=BEATS == 1, timeout_time=LIMIT_MS, timeout_unit="ms")
async def incomplete_words_are_dropped(dut: Any) -> None:
    bench, memory, rng = await begin(dut, "incomplete", ready=0.6)
    words = [rng.getrandbits(8 * BYTES) for _ in range(4)]
    await bench.write(Register.MEMORY_ADDRESS, 9)
    await bench.write(Register.MEMORY_DATA, *beats(words[:1]), 0xAAAAAAAA)
    await bench.write(Register.MEMORY_ADDRESS, 10)
    await bench.write(Register.MEMORY_DATA, *beats(words[1:2]))
    await bench.write(Register.MEMORY_ADDRESS, 9)
    await bench.read(Register.MEMORY_DATA)
    await bench.write(Register.MEMORY_ADDRESS, 9)
    assert await bench.read_all(Register.MEMORY_DATA, 2 * BEATS) == beats(words[:2])
    await bench.write(Register.IN_ADDRESS, 11)
    await bench.source.send(packet(words[2:3], more=bytes(BYTES - 4)))
    await bench.source.send(packet(words[3:4], more=bytes(4)))
    await bench.source.wait()
    await bench.write(Register.IN_ADDRESS, 13)
    await bench.source.send(packet(words[:1]))
    while await bench.read(Register.IN_ADDRESS) != 14:
        pass
    assert memory.words == dict(enumerate([*words, words[0]], 9))


@cocotb.test(timeout_time=LIMIT_MS, timeout_unit="ms")
async def streams_keep_their_pace(dut: Any) -> None:
    bench, _, rng = await begin(dut, "pace")
    words = [rng.getrandbits(8 * BYTES) for _ in range(50)]
    taken: list[int] = []
    sent: list[int] = []

    async def count() -> None:
        for cycle in range(100_000):
            await RisingEdge(dut.clk)
            await Timer(20, "ns")
            for port, cycles in (("words_i", taken), ("words_o", sent)):
                if getattr(dut, f"{port}_tvalid").value and getattr(dut, f"{port}_tready").value:
                    cycles.append(cycle)

    cocotb.start_soon(count())
    await RisingEdge(dut.clk)
    await bench.source.send(packet(words))
    while await bench.read(Register.IN_ADDRESS) != len(words):
        pass
    await bench.write(Register.OUT_COUNT, len(words))
    assert words_in(await bench.sink.recv()) == words
    for cycles, pace in ((taken, SINK_CYCLES), (sent, SOURCE_CYCLES)):
        assert len(cycles) == BEATS * len(words)
        assert cycles[-1] - cycles[BEATS - 1] == pace * (len(words) - 1)


@cocotb.test(skip=QUEUES, timeout_time=LIMIT_MS, timeout_unit="ms")
async def streams_wait_while_the_accelerator_runs(dut: Any) -> None:
    bench, memory, rng = await begin(dut, "wait", ready=0.0)
    words = [rng.getrandbits(8 * BYTES) for _ in range(3)]
    dut.state.value = State.RUNNING
    await bench.source.send(packet(words))
    await bench.write(Register.OUT_COUNT, 3)
    for _ in range(20):
        assert await bench.read(Register.MEMORY_DATA) == 0
    assert await bench.read(Register.RESULT) == Status.BUSY
    await bench.write(Register.RESULT, 0)
    await bench.write(Register.IN_ADDRESS, 77)
    assert await bench.read(Register.RESULT) == Status.BUSY
    assert memory.words == {} and bench.sink.empty()
    dut.state.value = State.DONE
    memory._ready = 1.0
    while await bench.read(Register.IN_ADDRESS) != 3:
        pass
    assert memory.words == dict(enumerate(words))
    assert len(words_in(await bench.sink.recv())) == 3


@cocotb.test(skip=not QUEUES, timeout_time=LIMIT_MS, timeout_unit="ms")
async def words_pass_while_the_accelerator_runs(dut: Any) -> None:
    bench, memory, rng = await begin(dut, "queues", ready=0.3, latency=3)
    bench.stall(rng, 0.2)
    words = [rng.getrandbits(8 * BYTES) for _ in range(12)]
    await bench.write(Register.STOP_AFTER, 7)
    dut.state.value = State.RUNNING
    await bench.write(Register.IN_ADDRESS, 40)
    await bench.source.send(packet(words[:6]))
    await bench.write(Register.MEMORY_ADDRESS, 90)
    await bench.write(Register.MEMORY_DATA, *beats(words[6:]))
    while await bench.read(Register.IN_ADDRESS) != 46:
        pass
    assert memory.words == dict(zip([*range(40, 46), *range(90, 96)], words, strict=True))
    await bench.write(Register.OUT_ADDRESS, 90)
    await bench.write(Register.OUT_COUNT, 6)
    await bench.write(Register.MEMORY_ADDRESS, 40)
    assert await bench.read_all(Register.MEMORY_DATA, 6 * BEATS) == beats(words[:6])
    assert words_in(await bench.sink.recv()) == words[6:]
    assert int(dut.stop_after.value) == 7
    await bench.write(Register.STOP_AFTER, 0xFFFF)
    assert int(dut.stop_after.value) == 0xFFFF
    assert await bench.read(Register.RESULT) == Status.OK
    for register in (Register.PROGRAM_ADDRESS, Register.CONTROL):
        await bench.write(register, Control.START)
        assert await bench.read(Register.RESULT) == Status.BUSY
        await bench.write(Register.RESULT, 0)


class BusRegisters:
    """The bench's registers for the runtime, which runs in a thread of its own."""

    def __init__(self, bench: AxiBench) -> None:
        self._read_all = resume(bench.read_all)
        self._write_all = resume(bench.write)

    def read(self, offset: int) -> int:
        return self._read_all(offset, 1)[0]

    def write(self, offset: int, value: int) -> None:
        self._write_all(offset, value)

    def read_all(self, offset: int, count: int) -> Words:
        return np.array(self._read_all(offset, count), np.uint32)

    def write_all(self, offset: int, values: Words) -> None:
        self._write_all(offset, *values.tolist())

    def now(self) -> float:
        return float(get_sim_time("sec"))

    def pause(self, seconds: float) -> None:
        raise AssertionError("nothing here waits")

    def close(self) -> None:
        raise AssertionError("the bench ends the simulation")


@cocotb.test(timeout_time=LIMIT_MS, timeout_unit="ms")
async def runtime_knows_how_many_beats_a_word_has(dut: Any) -> None:
    bench, memory, rng = await begin(dut, "runtime", ready=0.6, latency=2)
    words = [rng.getrandbits(8 * BYTES) for _ in range(9)]
    address = rng.randrange(WORDS - 9)

    def use() -> list[int]:
        link = RegisterLink(BusRegisters(bench), name="bus")
        link.write_all([(address, np.array(beats(words), np.uint32))])
        found: list[int] = link.read_memory(address + 2, 5).tolist()
        return found

    read = await bridge(use)()
    assert memory.words == dict(enumerate(words, address))
    assert read == beats(words[2:7])
