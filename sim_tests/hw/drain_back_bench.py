"""The cocotb side of `test_drain`: codes in, words and addresses out."""

from __future__ import annotations

from random import Random
from typing import Any

import cocotb

from qcompile.hw.drain import STEP_GROUP, STEP_LAYER, STEP_POSITION, STEP_ROW
from qcompile.hw.layouts import BANK_ADDRESS_BITS
from sim_tests.hw.clocked import dice, edge, read, reset, settle, start_clock

ADDRESSES = 1 << BANK_ADDRESS_BITS
WORDS = 300
CHANNELS = 4


class Bench:
    """Hands in codes, answers steps one cycle later, and notes what is written."""

    def __init__(self, dut: Any, rng: Random) -> None:
        self.dut = dut
        self.rng = rng
        self.steps = [rng.randrange(ADDRESSES) for _ in range(4)]
        self.written: list[tuple[int, int, int]] = []

    async def cycle(self) -> None:
        """One cycle; the sequencer's block RAM answers with the step asked for in it."""
        dut = self.dut
        await settle()
        entry = read(dut, "step_entry")
        if read(dut, "write"):
            found = (read(dut, "address"), read(dut, "word"), read(dut, "layer_end"))
            self.written.append(found)
        await edge(dut)
        dut.step_word.value = self.steps[entry]

    async def code(self, code: int, step: int, chance: float) -> None:
        """A code after a random pause; with the row's last one comes its step."""
        while self.rng.random() >= chance:
            self.dut.valid.value = 0
            self.dut.step.value = self.rng.randrange(4)
            await self.cycle()
        self.dut.valid.value = 1
        self.dut.code.value = code
        self.dut.step.value = step
        await self.cycle()
        self.dut.valid.value = 0


@cocotb.test()
async def words_hold_four_codes_at_the_stepped_address(dut: Any) -> None:
    """One code a cycle, and with pauses."""
    start_clock(dut)
    bits = len(dut.code)
    for chance in (1.0, 0.5):
        rng = dice(chance)
        inputs = ("code", "valid", "step", "load_start", "step_word")
        await reset(dut, **dict.fromkeys(inputs, 0))
        bench = Bench(dut, rng)
        address = rng.randrange(ADDRESSES)
        dut.step_word.value, dut.load_start.value = address, 1
        await edge(dut)
        dut.load_start.value = 0
        expected = []
        for _ in range(WORDS):
            codes = [rng.getrandbits(bits) for _ in range(CHANNELS)]
            step = rng.choice([STEP_ROW, STEP_ROW, STEP_POSITION, STEP_GROUP, STEP_LAYER])
            for number, code in enumerate(codes):
                last = number == CHANNELS - 1
                await bench.code(code, step if last else rng.randrange(4), chance)
            word = sum(code << bits * lane for lane, code in enumerate(codes))
            expected.append((address, word, int(step == STEP_LAYER)))
            address = (address + bench.steps[step]) % ADDRESSES
        for _ in range(3):
            await bench.cycle()
        assert bench.written == expected
