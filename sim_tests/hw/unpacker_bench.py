"""The cocotb side of `test_unpacker`: programs of random packets, stalls on every side."""

from __future__ import annotations

from itertools import product
from random import Random
from typing import Any

import cocotb

from qcompile.hw.program import PacketKind
from qcompile.hw.unpacker import ERROR_CRC, ERROR_PACKET
from sim_tests.hw.clocked import dice, edge, read, reset, settle, start_clock

PACKETS = 60
LONGEST = 9
AFTER = 40
"""Cycles in which nothing may happen any more."""

TARGETS = {
    "layers": 1,
    "constants": 2,
    "weights": 3,
    "table": 4,
    "add_a": 5,
    "add_b": 6,
    "store": 7,
    "recall": 8,
    "codebook": 9,
}
"""Packet kinds as docs/architecture.md section 4 numbers them."""
TABLES = ("table", "add_a", "add_b")
"""Must not change while a layer runs or waits."""


def targets_of(dut: Any) -> dict[str, int]:
    """Those that are built."""
    return {name: kind for name, kind in TARGETS.items() if hasattr(dut, f"{name}__valid")}


Sent = tuple[str, int, int]
"""Target, index in the packet, word."""


def make_packets(rng: Random, targets: dict[str, int]) -> tuple[list[int], list[Sent]]:
    """Words of a program without its end, and what must come out where."""
    words: list[int] = []
    expected: list[Sent] = []
    for _ in range(PACKETS):
        name = rng.choice(list(targets))
        payload = [rng.getrandbits(16) for _ in range(rng.randint(1, LONGEST))]
        words += [targets[name] << 12 | (len(payload) - 1), *payload]
        expected += [(name, index, word) for index, word in enumerate(payload)]
    return words, expected


class Bench:
    """Offers the words of a program; targets are ready with some chance, tables wait for idle."""

    def __init__(self, dut: Any, rng: Random, source: float, sink: float) -> None:
        self.dut = dut
        self.rng = rng
        self.source = source
        self.sink = sink
        self.received: list[Sent] = []
        self.targets = targets_of(dut)

    async def restart(self) -> None:
        """Reset with nothing offered."""
        targets = {f"{name}__ready": 0 for name in self.targets}
        await reset(self.dut, i__valid=0, i__payload=0, crc_ok=0, idle=0, **targets)

    async def cycle(self, word: int | None, crc_ok: int) -> bool:
        """One cycle with this word offered, or none; whether it was taken."""
        dut, rng = self.dut, self.rng
        idle = rng.random() < 0.5
        dut.i__valid.value = int(word is not None)
        dut.i__payload.value = word if word is not None else rng.getrandbits(16)
        dut.crc_ok.value = crc_ok
        dut.idle.value = int(idle)
        for name in self.targets:
            getattr(dut, f"{name}__ready").value = int(rng.random() < self.sink)
        await settle()
        for name in self.targets:
            valid, ready = read(dut, f"{name}__valid"), read(dut, f"{name}__ready")
            assert not valid or idle or name not in TABLES, f"{name} while a layer waits"
            if valid and ready:
                self.received.append((name, read(dut, "index"), read(dut, f"{name}__payload")))
        taken = word is not None and bool(read(dut, "i__ready"))
        await edge(dut)
        return taken

    async def send(self, words: list[int], last_crc_ok: int) -> None:
        """All words, in order; the CRC of all but the last is wrong, as in a real stream."""
        for number, word in enumerate(words):
            crc_ok = last_crc_ok if number == len(words) - 1 else 0
            while self.rng.random() >= self.source:
                await self.cycle(None, 0)
            while not await self.cycle(word, crc_ok):
                pass

    async def stands_still(self) -> None:
        """No word is taken any more, and none goes out."""
        before = list(self.received)
        for _ in range(AFTER):
            assert not await self.cycle(self.rng.getrandbits(16), 1)
        assert self.received == before


@cocotb.test()
async def payloads_reach_their_targets_in_order(dut: Any) -> None:
    """Whoever stalls; the end packet ends the program."""
    start_clock(dut)
    for source, sink in product((1.0, 0.4), (1.0, 0.3)):
        rng = dice(source, sink)
        bench = Bench(dut, rng, source, sink)
        await bench.restart()
        words, expected = make_packets(rng, bench.targets)
        await bench.send([*words, PacketKind.END << 12, rng.getrandbits(16)], 1)
        assert bench.received == expected
        assert (read(dut, "ended"), read(dut, "error")) == (1, 0)
        await bench.stands_still()


@cocotb.test()
async def a_wrong_crc_and_an_unknown_packet_stop_the_stream(dut: Any) -> None:
    """Error codes as the host link reports them."""
    start_clock(dut)
    known = {*targets_of(dut).values(), PacketKind.END}
    unknown = [kind for kind in range(16) if kind not in known]
    for kind, error in ((PacketKind.END, ERROR_CRC), *((kind, ERROR_PACKET) for kind in unknown)):
        rng = dice(kind)
        bench = Bench(dut, rng, 1.0, 0.5)
        await bench.restart()
        words, expected = make_packets(rng, bench.targets)
        await bench.send([*words, kind << 12], 0)
        if kind == PacketKind.END:
            await bench.send([rng.getrandbits(16)], 0)
        else:
            await bench.cycle(None, 0)
        assert bench.received == expected
        assert (read(dut, "ended"), read(dut, "error")) == (0, error)
        await bench.stands_still()
