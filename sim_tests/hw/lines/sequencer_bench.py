"""The cocotb side of `test_lines_sequencer`: descriptors in, registers and run control compared."""

from __future__ import annotations

from random import Random
from typing import Any

import cocotb

from qcompile.hw.lines.program import LAYER_WORDS, Flag, LayerDescriptor
from qcompile.hw.lines.registers import LayerRegisters
from qcompile.hw.program import COUNT_BITS, LEVELS, Step
from sim_tests.hw.clocked import bits_of, dice, edge, port, read, reset, settle, start_clock

LAYERS = 20
ALL = 0xFFFF
HANGS = 800
ADDRESSES, COORDINATES = 1 << 16, 1 << 9
IDLE, RUNNING, DONE, PAUSED, ERROR = range(5)
"""States as STATUS reports them."""
INPUTS = ("i__valid", "i__payload", "start", "resume", "stop_after", "ended", "failed")


def make_descriptor(rng: Random) -> LayerDescriptor:
    """Every field anywhere in its range, addresses and coordinates of either sign."""

    def coordinate() -> int:
        return rng.randrange(-COORDINATES // 2, COORDINATES // 2)

    def address() -> int:
        return rng.randrange(-ADDRESSES // 2, ADDRESSES // 2)

    steps = [Step(address=address(), p=coordinate(), o=coordinate()) for _ in range(LEVELS + 1)]
    codes = [rng.randint(-128, 127) for _ in range(4)]
    return LayerDescriptor(
        counts=tuple(rng.randint(1, 1 << bits) for bits in COUNT_BITS),
        deltas=tuple(steps[:LEVELS]),
        start=steps[LEVELS],
        line_address=address(),
        line_o=coordinate(),
        p_bound=rng.randrange(COORDINATES),
        o_bound=rng.randrange(COORDINATES),
        pad_code=codes[0],
        products=rng.randint(1, 64),
        turns=rng.randint(1, 8),
        pass_cycles=rng.randint(1, 512),
        tile_rows=rng.randint(1, 4),
        rows_last=rng.randint(1, 4),
        lines_last=rng.randint(1, 8),
        weights=rng.randrange(1 << 20),
        write_start=address(),
        write_line=address(),
        write_row=address(),
        write_position=address(),
        write_group=address(),
        residual_offset=address(),
        zero_point=codes[1],
        low=codes[2],
        high=codes[3],
        flags=frozenset(flag for flag in Flag if rng.random() < 0.5),
    )


def registers_of(layer: LayerDescriptor) -> int:
    """What the registers must hold, each field under its own name."""
    fields: dict[str, Any] = {f"n{i}": count - 1 for i, count in enumerate(layer.counts)}
    moves = {f"delta{i}": step for i, step in enumerate(layer.deltas)} | {"start": layer.start}
    for name, step in moves.items():
        fields[f"{name}_address"] = step.address % ADDRESSES
        fields[f"{name}_p"] = step.p % COORDINATES
        fields[f"{name}_o"] = step.o % COORDINATES
    for name in ("products", "turns", "pass_cycles", "tile_rows", "rows_last", "lines_last"):
        fields[name] = getattr(layer, name) - 1
    for name in ("line_address", "residual_offset"):
        fields[name] = getattr(layer, name) % ADDRESSES
    for name in ("start", "line", "row", "position", "group"):
        fields[f"write_{name}"] = getattr(layer, f"write_{name}") % ADDRESSES
    for name in ("line_o", "p_bound", "o_bound"):
        fields[name] = getattr(layer, name) % COORDINATES
    for name in ("pad_code", "zero_point", "low", "high"):
        fields[name] = getattr(layer, name) % 256
    fields["weights"] = layer.weights
    fields["flags"] = {flag.name.lower(): int(flag in layer.flags) for flag in Flag}
    return bits_of(LayerRegisters, fields)


class Bench:
    """A stream of descriptors, and a machine that runs and ends layers."""

    def __init__(self, dut: Any, rng: Random, layers: list[LayerDescriptor], source: float) -> None:
        self.dut, self.rng, self.source = dut, rng, source
        self.layers = layers
        self.words = [word for layer in layers for word in layer.words()]
        self.sent = 0
        self.cycles = 0
        """Cycles in which the state was RUNNING."""

    async def restart(self, stop_after: int, *, at_once: bool = False) -> None:
        """Reset, and nothing may run before the start; words may come before, if not `at_once`."""
        await reset(self.dut, **dict.fromkeys((*INPUTS, "layer_done"), 0))
        self.dut.stop_after.value = stop_after
        assert (read(self.dut, "state"), read(self.dut, "idle")) == (IDLE, 1)
        for _ in range(0 if at_once else self.rng.choice([0, 2 * LAYER_WORDS])):
            await self.cycle()
            assert (read(self.dut, "state"), read(self.dut, "begin")) == (IDLE, 0)
        await self.pulse("start")
        assert (read(self.dut, "state"), read(self.dut, "cycles")) == (RUNNING, 0)

    async def pulse(self, name: str) -> None:
        """One cycle with an input up; the stream goes on."""
        port(self.dut, name).value = 1
        await self.cycle()
        port(self.dut, name).value = 0

    async def cycle(self) -> None:
        """One cycle; the stream offers its next word with some chance."""
        dut = self.dut
        offered = self.sent < len(self.words) and self.rng.random() < self.source
        dut.i__valid.value = int(offered)
        dut.i__payload.value = self.words[self.sent] if offered else self.rng.getrandbits(64)
        await settle()
        self.sent += offered and bool(read(dut, "i__ready"))
        self.cycles += read(dut, "state") == RUNNING
        await edge(dut)
        dut.ended.value = int(self.sent == len(self.words))  # the end packet comes after it

    async def until(self, name: str, value: int = 1) -> int:
        """Cycles until an output has a value; how many."""
        for waited in range(HANGS):
            await settle()
            if read(self.dut, name) == value:
                return waited
            await self.cycle()
        found = {n: read(self.dut, n) for n in ("state", "layers_done", "idle")}
        raise AssertionError(f"{name} does not become {value} after {self.sent} words: {found}")

    async def layer(self, number: int) -> None:
        """From "nothing runs" to the layer's end, everything compared."""
        dut, wanted = self.dut, registers_of(self.layers[number])
        complete = self.sent >= LAYER_WORDS * (number + 1)
        waited = await self.until("begin")
        assert not complete or waited <= 1, "a layer whose descriptor waits begins at once"
        assert self.sent >= LAYER_WORDS * (number + 1), "begun before its descriptor was there"
        for _ in range(1 + self.rng.choice([0, 5, 3 * LAYER_WORDS])):
            assert read(dut, "registers") == wanted, f"registers of layer {number}"
            assert (read(dut, "idle"), read(dut, "layers_done")) == (0, number)
            await self.cycle()
            assert not read(dut, "begin"), "a layer begins once"
        assert self.sent <= LAYER_WORDS * (number + 2), "one descriptor waits"
        await self.pulse("layer_done")
        assert read(dut, "layers_done") == number + 1


@cocotb.test()
async def layers_run_in_order_with_their_registers(dut: Any) -> None:
    """Descriptors faster and slower than the layers are run."""
    start_clock(dut)
    for source in (1.0, 0.2):
        rng = dice(source)
        bench = Bench(dut, rng, [make_descriptor(rng) for _ in range(LAYERS)], source)
        await bench.restart(ALL)
        for number in range(LAYERS):
            await bench.layer(number)
        await bench.until("state", DONE)
        assert read(dut, "idle")
        assert read(dut, "cycles") == bench.cycles


@cocotb.test()
async def a_stop_pauses_the_run_and_its_cycles(dut: Any) -> None:
    """Stop after two layers, go on for one more, then to the end; a failure ends in ERROR."""
    start_clock(dut)
    rng = dice("pause")
    bench = Bench(dut, rng, [make_descriptor(rng) for _ in range(5)], 1.0)
    await bench.restart(2)
    done = 0
    for stop in (2, 3, 5):
        dut.stop_after.value = stop
        if done:
            await bench.pulse("resume")
        while done < stop:
            await bench.layer(done)
            done += 1
        await bench.until("state", DONE if stop == len(bench.layers) else PAUSED)
        cycles = read(dut, "cycles")
        assert cycles == bench.cycles
        for _ in range(50):
            await bench.cycle()
            assert not read(dut, "begin")
        assert (read(dut, "cycles"), read(dut, "layers_done")) == (cycles, done)
    await bench.pulse("failed")
    assert read(dut, "state") == ERROR


@cocotb.test()
async def a_reset_aborts_wherever_the_run_is(dut: Any) -> None:
    """Within a descriptor, with one waiting, within a layer; the next program starts anew."""
    start_clock(dut)
    for words in (3, LAYER_WORDS, LAYER_WORDS + 5, 2 * LAYER_WORDS):
        rng = dice("abort", words)
        aborted = Bench(dut, rng, [make_descriptor(rng) for _ in range(3)], 1.0)
        await aborted.restart(ALL, at_once=True)
        for _ in range(10 * LAYER_WORDS):
            if aborted.sent == words:
                break
            await aborted.cycle()
        assert aborted.sent == words
        bench = Bench(dut, rng, [make_descriptor(rng) for _ in range(2)], 1.0)
        await bench.restart(ALL)
        for number in range(2):
            await bench.layer(number)
        await bench.until("state", DONE)
        assert read(dut, "cycles") == bench.cycles
