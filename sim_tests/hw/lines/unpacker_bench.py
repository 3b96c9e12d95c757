"""The cocotb side of `test_lines_unpacker`: programs of random packets, stalls on every side."""

from __future__ import annotations

from collections import deque
from itertools import product
from random import Random
from typing import Any

import cocotb

from qcompile.hw.lines.lanes import TableWrites
from qcompile.hw.lines.unpacker import WeightsWord
from sim_tests.hw.clocked import dice, edge, read, reset, settle, start_clock

PACKETS = 40
LONGEST = 15
ENTRIES = 256
HANGS = 400
AFTER = 30
"""Cycles in which nothing may happen any more."""

LAYER, CONSTANTS, WEIGHTS, TABLE, ADD_TABLES, END = 1, 2, 3, 4, 5, 15
"""Kinds in a header's highest 4 bits."""
STREAMS = {LAYER: "layers", CONSTANTS: "constants"}
ERROR_PACKET = 2
ENTRY = (1 << 24) - 1
"""Bits of an entry of the residual adder's tables."""

Sent = tuple[str, int | None, int]
"""Target, index of a table's write (of a stream 0, of weights the address that comes with the first
word of a packet), data."""


def make_packets(rng: Random) -> tuple[list[int], list[Sent]]:
    """Words of a program without its end, and what must come out in which order."""
    words: list[int] = []
    expected: list[Sent] = []
    others = rng.choices([LAYER, CONSTANTS, WEIGHTS], k=PACKETS)
    kinds = [TABLE, ADD_TABLES, *others, TABLE, ADD_TABLES]
    rng.shuffle(kinds)
    for kind in kinds:
        count = {TABLE: ENTRIES // 8, ADD_TABLES: ENTRIES}.get(kind, rng.randint(1, LONGEST))
        payload = [rng.getrandbits(64) for _ in range(count)]
        address, waits = (rng.getrandbits(20), rng.getrandbits(1)) if kind == WEIGHTS else (0, 0)
        words += [kind << 60 | waits << 48 | address << 16 | count - 1, *payload]
        if kind == TABLE:
            pairs = [word >> 16 * part & 0xFFFF for word in payload for part in range(4)]
            expected += [("table", index, pair) for index, pair in enumerate(pairs)]
        elif kind == ADD_TABLES:
            both = [word & ENTRY | (word >> 32 & ENTRY) << 24 for word in payload]
            expected += [("add", index, entries) for index, entries in enumerate(both)]
        elif kind == WEIGHTS:
            names = ["waiting weights" if waits else "weights"] * count
            firsts = [address, *[None] * (count - 1)]
            expected += list(zip(names, firsts, payload, strict=True))
        else:
            expected += [(STREAMS[kind], 0, word) for word in payload]
    return words, expected


class Bench:
    """Offers the words of a program; targets are ready with some chance, tables wait for idle."""

    def __init__(self, dut: Any, rng: Random, source: float, sink: float) -> None:
        self.dut, self.rng = dut, rng
        self.source, self.sink = source, sink
        self.received: list[Sent] = []
        self.was_idle = False
        self.expected_weights: deque[Sent] = deque()

    async def restart(self) -> None:
        """Reset with nothing offered."""
        ready = {f"{name}__ready": 0 for name in STREAMS.values()}
        await reset(self.dut, i__valid=0, i__payload=0, idle=0, **ready)
        self.was_idle = False

    def note_writes(self) -> None:
        """Writes of tables come a cycle after the word that brings them stands."""
        writes: Any = TableWrites.from_bits(read(self.dut, "writes"))
        assert self.was_idle or not (writes.table or writes.add), "while a layer runs or waits"
        if writes.table:
            self.received.append(("table", writes.table_index, writes.table_data))
        if writes.add:
            self.received.append(("add", writes.add_index, writes.add_data))

    def note_weights(self, idle: bool) -> None:
        """Words for the weight memory stand in the cycle in which they are taken."""
        weights: Any = WeightsWord.from_bits(read(self.dut, "weights"))
        if not weights.valid:
            return
        if self.expected_weights and self.expected_weights[0][0] == "waiting weights":
            assert idle, "while a layer runs or waits"
        name = self.expected_weights.popleft()[0] if self.expected_weights else "weights"
        first = weights.address if weights.first else None
        self.received.append((name, first, weights.word))

    async def cycle(self, word: int | None) -> bool:
        """One cycle with this word offered, or none; whether it was taken."""
        dut, rng = self.dut, self.rng
        idle = rng.random() < 0.5
        dut.i__valid.value = int(word is not None)
        dut.i__payload.value = rng.getrandbits(64) if word is None else word
        dut.idle.value = int(idle)
        for name in STREAMS.values():
            getattr(dut, f"{name}__ready").value = int(rng.random() < self.sink)
        await settle()
        self.note_writes()
        for name in STREAMS.values():
            if read(dut, f"{name}__valid") and read(dut, f"{name}__ready"):
                self.received.append((name, 0, read(dut, f"{name}__payload")))
        taken = word is not None and bool(read(dut, "i__ready"))
        self.note_weights(idle)
        self.was_idle = idle
        await edge(dut)
        return taken

    async def send(self, words: list[int]) -> None:
        """All words, in order."""
        for word in words:
            while self.rng.random() >= self.source:
                await self.cycle(None)
            for _ in range(HANGS):
                if await self.cycle(word):
                    break
            else:
                raise AssertionError(f"{word:016x} is never taken")

    async def stands_still(self) -> None:
        """No word is taken any more, and none goes out."""
        before = list(self.received)
        for _ in range(AFTER):
            assert not await self.cycle(self.rng.getrandbits(64))
        assert self.received == before


@cocotb.test()
async def payloads_reach_their_targets_in_order(dut: Any) -> None:
    """Whoever stalls; the end packet ends the program, and a reset begins the next."""
    start_clock(dut)
    for source, sink in product((1.0, 0.4), (1.0, 0.3)):
        rng = dice(source, sink)
        bench = Bench(dut, rng, source, sink)
        await bench.restart()
        words, expected = make_packets(rng)
        bench.expected_weights = deque(sent for sent in expected if sent[0].endswith("weights"))
        await bench.send([*words, END << 60])
        await bench.cycle(None)
        assert not read(dut, "ended"), "the end packet's word has not come"
        await bench.send([rng.getrandbits(64)])
        assert bench.received == expected
        assert (read(dut, "ended"), read(dut, "error")) == (1, 0)
        await bench.stands_still()


@cocotb.test()
async def an_unknown_packet_stops_the_stream(dut: Any) -> None:
    """Every kind that there is none of."""
    start_clock(dut)
    for kind in sorted(set(range(16)) - {LAYER, CONSTANTS, WEIGHTS, TABLE, ADD_TABLES, END}):
        rng = dice(kind)
        bench = Bench(dut, rng, 1.0, 0.5)
        await bench.restart()
        payload = [rng.getrandbits(64) for _ in range(LONGEST)]
        await bench.send([CONSTANTS << 60 | LONGEST - 1, *payload, kind << 60 | 3])
        await bench.cycle(None)
        assert (read(dut, "ended"), read(dut, "error")) == (0, ERROR_PACKET)
        assert bench.received == [("constants", 0, word) for word in payload]
        await bench.stands_still()
