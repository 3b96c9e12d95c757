"""What the cocotb benches share: a component stepped cycle by cycle, and loop nests in Python."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cocotb.clock import Clock
from cocotb.triggers import RisingEdge, Timer


def dice(*salt: object) -> random.Random:
    """Random numbers of this run's seed; different ones for each salt."""
    return random.Random(f"{os.environ['QCOMPILE_SEED']} {salt}")


def port(dut: Any, name: str) -> Any:
    """A port of the component; some are keywords of Verilog."""
    try:
        return dut[name]
    except KeyError:
        return dut[f"\\{name} "]


def start_clock(dut: Any) -> None:
    """10 ns, for the whole test."""
    Clock(dut.clk, 10, "ns").start()


async def settle() -> None:
    """Outputs that depend on this cycle's inputs are right after this."""
    await Timer(1, "ns")


async def edge(dut: Any) -> None:
    """The end of a cycle; registers have their new values after this."""
    await RisingEdge(dut.clk)
    await Timer(1, "ns")


async def reset(dut: Any, **inputs: int) -> None:
    """Two cycles of reset, with these inputs."""
    for name, value in inputs.items():
        port(dut, name).value = value
    dut.rst.value = 1
    await edge(dut)
    await edge(dut)
    dut.rst.value = 0


def read(dut: Any, name: str) -> int:
    """An output's bits."""
    return int(port(dut, name).value)


def bits_of(layout: Any, fields: Mapping[str, Any]) -> int:
    """A structure's bits; fields that are left out are zero."""
    return int(layout.const(dict(fields)).as_bits())


def trips(counts: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Indices of a loop nest, the first one the innermost, in the order of execution."""
    index = [0] * len(counts)
    while True:
        yield tuple(index)
        for level, count in enumerate(counts):
            index[level] += 1
            if index[level] < count:
                break
            index[level] = 0
        else:
            return
