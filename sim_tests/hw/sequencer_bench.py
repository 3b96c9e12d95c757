"""The cocotb side of `test_sequencer`: descriptors in, registers and steps compared with them."""

from __future__ import annotations

from random import Random
from typing import Any

import cocotb

from qcompile.hw import program
from qcompile.hw.layouts import BANK_ADDRESS_BITS
from qcompile.hw.program import (
    CODEBOOKS,
    COORDINATE_BITS,
    COUNT_BITS,
    LEVELS,
    Flag,
    LayerDescriptor,
    Step,
)
from qcompile.hw.registers import LayerRegisters
from qcompile.hw.sequencer import LAYER_SLOTS, State
from sim_tests.hw.clocked import bits_of, dice, edge, port, read, reset, settle, start_clock

LAYERS = 40
ALL = 0xFFFF
HANGS = 200
ADDRESSES = 1 << BANK_ADDRESS_BITS


def make_descriptor(rng: Random) -> LayerDescriptor:
    """Every field anywhere in its range."""
    coordinates = 1 << COORDINATE_BITS
    codes = [rng.randint(-128, 127) for _ in range(4)]
    steps = [
        Step(
            address=rng.randrange(ADDRESSES),
            p=rng.randrange(coordinates),
            o=rng.randrange(coordinates),
        )
        for _ in range(LEVELS + 1)
    ]
    return LayerDescriptor(
        counts=tuple(rng.randint(1, 1 << bits) for bits in COUNT_BITS),
        deltas=tuple(steps[:LEVELS]),
        start=steps[LEVELS],
        p_bound=rng.randrange(coordinates),
        o_bound=rng.randrange(coordinates),
        pad_code=codes[0],
        rows_last=rng.randint(1, 4),
        write_start=rng.randrange(ADDRESSES),
        write_row=rng.randrange(ADDRESSES),
        write_position=rng.randrange(ADDRESSES),
        write_group=rng.randrange(ADDRESSES),
        residual_offset=rng.randrange(ADDRESSES),
        zero_point=codes[1],
        low=codes[2],
        high=codes[3],
        flags=frozenset(flag for flag in Flag if rng.random() < 0.5),
        codebook=rng.randrange(CODEBOOKS) if rng.random() < 0.5 else None,
    )


def registers_of(layer: LayerDescriptor) -> int:
    """What the register file must hold."""
    flags = {flag.name.lower(): flag in layer.flags for flag in Flag}
    fields: dict[str, Any] = {
        "counts": {f"n{i}": count - 1 for i, count in enumerate(layer.counts)},
        "rows_last": layer.rows_last - 1,
        "flags": flags,
    }
    for name in ("p_bound", "o_bound", "residual_offset"):
        fields[name] = getattr(layer, name)
    for name in ("pad_code", "zero_point", "low", "high"):
        fields[name] = getattr(layer, name) & 0xFF
    return bits_of(LayerRegisters, fields)


class Bench:
    """A stream of descriptors, and whoever reads steps and ends layers."""

    def __init__(self, dut: Any, rng: Random, layers: list[LayerDescriptor], source: float) -> None:
        self.dut = dut
        self.rng = rng
        self.source = source
        self.layers = layers
        self.words = [word for layer in layers for word in layer.words()]
        self.sent = 0
        self.running_cycles = 0

    async def restart(self, stop_after: int) -> None:
        """Reset, then start."""
        zero = ("i__valid", "i__payload", "start", "resume", "ended", "failed", "level")
        await reset(self.dut, **dict.fromkeys((*zero, "step_entry", "layer_done"), 0))
        self.dut.stop_after.value = stop_after
        await self.pulse("start")

    async def pulse(self, name: str) -> None:
        """One cycle with an input up; the other words of the stream go on."""
        port(self.dut, name).value = 1
        await self.cycle()
        port(self.dut, name).value = 0

    async def cycle(self) -> None:
        """One cycle; the stream offers its next word with some chance."""
        dut = self.dut
        offered = self.sent < len(self.words) and self.rng.random() < self.source
        dut.i__valid.value = int(offered)
        dut.i__payload.value = self.words[self.sent] if offered else self.rng.getrandbits(16)
        await settle()
        if offered and read(dut, "i__ready"):
            self.sent += 1
        self.running_cycles += read(dut, "state") == State.RUNNING
        await edge(dut)
        dut.ended.value = int(self.sent == len(self.words))  # the end packet comes after it

    async def until(self, name: str, value: int = 1) -> list[tuple[int, ...]]:
        """Cycles until an output has a value; what was seen on the way."""
        dut = self.dut
        seen: list[tuple[int, ...]] = []
        for _ in range(HANGS * program.LAYER_WORDS):
            await settle()
            if read(dut, name) == value:
                return seen
            names = ("load_start", "delta", "load_write", "step_word")
            seen.append(
                (read(dut, names[0]), read(dut, names[1]), *(read(dut, n) for n in names[2:]))
            )
            await self.cycle()
        found = {n: read(dut, n) for n in ("state", "layers_done", "idle")}
        raise AssertionError(f"{name} does not become {value} after {self.sent} words: {found}")

    async def layer(self, layer: LayerDescriptor) -> None:
        """From "nothing runs" to the layer's end, everything compared."""
        dut = self.dut
        seen = await self.until("begin")
        assert [delta for start, delta, _, _ in seen if start] == [layer.start.pack()]
        starts = [word & (ADDRESSES - 1) for _, _, start, word in seen if start]
        assert starts == [layer.write_start]
        assert read(dut, "registers") == registers_of(layer)
        if hasattr(dut, "packed"):
            assert read(dut, "packed") == (layer.codebook is not None)
            assert layer.codebook in (None, read(dut, "codebook"))
        assert not read(dut, "idle")
        steps = [layer.write_row, layer.write_position, layer.write_group]
        for _ in range(10):
            level, entry = self.rng.randrange(LEVELS), self.rng.randrange(3)
            dut.level.value, dut.step_entry.value = level, entry
            await self.cycle()
            await settle()
            assert read(dut, "delta") == layer.deltas[level].pack()
            assert read(dut, "step_word") & (ADDRESSES - 1) == steps[entry]
        for _ in range(self.rng.randrange(12)):
            await self.cycle()
        assert read(dut, "registers") == registers_of(layer), "the next layer's came too early"
        await self.pulse("layer_done")


@cocotb.test()
async def layers_run_in_order_with_their_registers_and_steps(dut: Any) -> None:
    """More layers than the FIFO holds, faster and slower than they are run."""
    start_clock(dut)
    for source in (1.0, 0.1):
        rng = dice(source)
        layers = [make_descriptor(rng) for _ in range(LAYERS)]
        bench = Bench(dut, rng, layers, source)
        await bench.restart(ALL)
        for number, layer in enumerate(layers):
            await bench.layer(layer)
            assert read(dut, "layers_done") == number + 1
            assert bench.sent <= (number + 1 + LAYER_SLOTS) * program.LAYER_WORDS
        await bench.until("state", State.DONE)
        assert read(dut, "idle")
        assert read(dut, "cycles") == bench.running_cycles


@cocotb.test()
async def a_stop_pauses_the_run_and_its_cycles(dut: Any) -> None:
    """Stop after two layers, go on for one more, then to the end; a failure ends in ERROR."""
    start_clock(dut)
    rng = dice("pause")
    layers = [make_descriptor(rng) for _ in range(5)]
    bench = Bench(dut, rng, layers, 1.0)
    await bench.restart(2)
    done = 0
    for stop, more in ((2, 2), (3, 1), (ALL, 2)):
        dut.stop_after.value = stop
        if done:
            await bench.pulse("resume")
        for _ in range(more):
            await bench.layer(layers[done])
            done += 1
        await bench.until("state", State.DONE if stop == ALL else State.PAUSED)
        cycles = read(dut, "cycles")
        assert cycles == bench.running_cycles
        for _ in range(50):
            await bench.cycle()
        assert (read(dut, "cycles"), read(dut, "layers_done")) == (cycles, done)
    await bench.pulse("failed")
    assert read(dut, "state") == State.ERROR
