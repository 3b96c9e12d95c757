"""The cocotb side of `test_feeder`: random loop nests walked in Python beside the hardware."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from random import Random
from typing import Any

import cocotb

from qcompile.hw.layouts import BANK_ADDRESS_BITS
from qcompile.hw.program import COORDINATE_BITS, COUNT_BITS, LEVELS, Step
from qcompile.hw.registers import LayerRegisters
from sim_tests.hw.clocked import bits_of, dice, edge, port, read, reset, settle, start_clock, trips

LAYERS = 12
HANGS = 400
ADDRESSES, COORDINATES = 1 << BANK_ADDRESS_BITS, 1 << COORDINATE_BITS


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """What a descriptor says to the feeder."""

    counts: tuple[int, ...]
    steps: tuple[Step, ...]
    start: Step
    p_bound: int
    o_bound: int
    broadcast: bool
    shared_weights: bool

    def registers(self) -> int:
        """The register file's bits; what is left out is not the feeder's."""
        counts = {f"n{i}": count - 1 for i, count in enumerate(self.counts)}
        flags = {"broadcast": self.broadcast, "shared_weights": self.shared_weights}
        fields = {"counts": counts, "p_bound": self.p_bound, "o_bound": self.o_bound}
        return bits_of(LayerRegisters, {**fields, "flags": flags})


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """One read as the feeder must make it."""

    address: int
    in_bounds: bool
    load: int
    level: int
    pass_start: bool
    tile_start: bool
    tile_end: bool
    last_tile: bool


def make_layer(rng: Random) -> Layer:
    """Few trips in most loops, so that all of them end; coordinates around the bounds."""
    counts = [rng.choice([4, 4, 5, 6, 7]), *(rng.choice([1, 1, 2, 3]) for _ in range(LEVELS - 1))]
    steps = [
        Step(address=rng.randint(-90, 90), p=rng.randint(-3, 3), o=rng.randint(-3, 3))
        for _ in range(LEVELS)
    ]
    return Layer(
        counts=tuple(counts),
        steps=tuple(steps),
        start=Step(address=rng.randrange(ADDRESSES), p=rng.randint(-4, 9), o=rng.randint(-4, 9)),
        p_bound=rng.choice([0, 5, 9, COORDINATES - 1]),
        o_bound=rng.choice([0, 5, 9, COORDINATES - 1]),
        broadcast=rng.random() < 0.5,
        shared_weights=rng.random() < 0.5,
    )


def reads_of(layer: Layer) -> Iterator[Read]:
    """The loop nest, walked."""
    address, p, o = layer.start.address, layer.start.p, layer.start.o
    for index in trips(layer.counts):
        last = [i == count - 1 for i, count in zip(index, layer.counts, strict=True)]
        level = last.index(False) if not all(last) else LEVELS - 1
        yield Read(
            address=address % ADDRESSES,
            in_bounds=p % COORDINATES <= layer.p_bound and o % COORDINATES <= layer.o_bound,
            load=0b1111 if layer.broadcast else 1 << index[0] % 4,
            level=level,
            pass_start=index[0] == 0,
            tile_start=not any(index[:4]),
            tile_end=all(last[:4]),
            last_tile=last[4] and last[5] and (last[6] or not layer.shared_weights),
        )
        step = layer.steps[level]
        address, p, o = address + step.address, p + step.p, o + step.o


class Bench:
    """The feeder between a sequencer that answers steps and a memory that nobody reads."""

    def __init__(self, dut: Any, rng: Random, ready: float, tile_ready: float) -> None:
        self.dut = dut
        self.rng = rng
        self.ready = ready
        self.tile_ready = tile_ready
        self.behind: list[Read | None] = [None, None]
        """Reads issued one and two cycles ago."""

    async def run(self, layer: Layer) -> None:
        """Load the start, begin, and compare every cycle until the layer has ended."""
        dut = self.dut
        port(dut, "registers").value = layer.registers()
        dut.load_start.value = 1
        dut.delta.value = layer.start.pack()
        await edge(dut)
        dut.load_start.value = 0
        port(dut, "begin").value = 1
        await edge(dut)
        port(dut, "begin").value = 0
        for number, wanted in enumerate(reads_of(layer)):
            for waited in range(HANGS):
                if await self.cycle(layer, wanted):
                    break
                assert wanted.pass_start, f"read {number}: a pause within a pass ({waited})"
            else:
                raise AssertionError(f"read {number} never comes")
        for _ in range(6):
            assert not await self.cycle(layer, None), "a read too many"
        assert not read(dut, "active")

    async def cycle(self, layer: Layer, wanted: Read | None) -> bool:
        """One cycle; whether a read was issued, which must be the wanted one."""
        dut = self.dut
        ready, tile_ready = self.rng.random() < self.ready, self.rng.random() < self.tile_ready
        dut.ready.value, dut.tile_ready.value = int(ready), int(tile_ready)
        await settle()
        issued = bool(read(dut, "issue"))
        self._compare_pipeline()
        if issued:
            assert wanted is not None, "a read too many"
            found = {name: read(dut, f"issue_{name}") for name in ("tile_start", "tile_end")}
            assert found == {"tile_start": wanted.tile_start, "tile_end": wanted.tile_end}
            assert read(dut, "level") == wanted.level
            assert read(dut, "pass_reads") == layer.counts[0] - 1
            if wanted.tile_end:
                assert read(dut, "last_tile") == wanted.last_tile
            assert not wanted.pass_start or ready, "a pass starts though nothing is ready"
            assert not wanted.tile_start or tile_ready, "a tile starts without room for it"
        self.behind = [wanted if issued else None, self.behind[0]]
        await edge(dut)
        if issued and wanted is not None:
            dut.delta.value = layer.steps[wanted.level].pack()
        return issued

    def _compare_pipeline(self) -> None:
        """Address of the read before, row and tags of the one before that."""
        dut = self.dut
        addressed, loaded = self.behind
        assert read(dut, "access") == (addressed is not None)
        if addressed is not None:
            assert read(dut, "address") == addressed.address
        tags = read(dut, "tags")
        if loaded is None:
            assert (read(dut, "load"), tags & 1) == (0, 0)
            return
        assert read(dut, "load") == loaded.load
        assert read(dut, "in_bounds") == loaded.in_bounds
        assert tags == 1 | loaded.tile_start << 1 | loaded.tile_end << 2


@cocotb.test()
async def reads_are_those_of_the_loop_nest(dut: Any) -> None:
    """Layer after layer, with and without pauses between passes."""
    start_clock(dut)
    assert COUNT_BITS[0] >= 3
    for ready, tile_ready in product((1.0, 0.3), (1.0, 0.3)):
        rng = dice(ready, tile_ready)
        await reset(dut, registers=0, load_start=0, delta=0, ready=0, tile_ready=0, begin=0)
        bench = Bench(dut, rng, ready, tile_ready)
        for _ in range(LAYERS):
            await bench.run(make_layer(rng))
