"""The deepest paths of a netlist: what limits its clock, as far as that shows before placement.

A path runs from one register to the next through look-up tables, carry chains and what a DSP adds
without a register of its own. Wires are not counted, so depths compare, and promise no clock.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from qcompile.compiler.errors import VerifyError
from qcompile.compiler.lines.netlist import MEMORY_LUTS, Cell

TRANSPARENT = frozenset({"MUXF7", "MUXF8", "INV"})
"""They pass a signal on, and are no level of their own."""
WRITE_PORT = re.compile(r"D|DI[A-D]?|WE|WCLK")
"""Of a distributed memory: what it writes at the clock's edge; all other inputs are addresses."""
LEVEL = 1 << 24
TABLE_LEVEL = LEVEL + (1 << 12)
"""Of a depth's integer: levels, then tables among them, then the cells of carry chains.

Of two ways of as many levels the one with more tables counts: a limit on tables cannot be hidden.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingPath:
    """What a signal passes between two clock edges.

    Attributes
    ----------
    start, end : str
        Registers, memories, DSPs or pins, by their hierarchical names.
    luts : int
        Look-up tables, distributed memories that are read among them.
    carries : int
        Carry chains, each counted once.
    dsps : int
        DSPs without a register inside.
    """

    start: str
    end: str
    luts: int
    carries: int
    dsps: int

    @property
    def levels(self) -> int:
        return self.luts + self.carries + self.dsps


@dataclass(frozen=True, slots=True)
class _Step:
    """How a net is reached: through `cell`, by its input `by`; both None where a path starts."""

    depth: int
    cell: Cell | None
    by: int | None
    start: Cell | None


def deepest_paths(cells: Sequence[Cell], count: int) -> tuple[TimingPath, ...]:
    """The deepest path of all, then those that begin and end in other parts of the design.

    Parts are the modules that hold the two ends; those that differ in numbers alone, such as lines,
    are one. At most `count` paths.
    """
    reached = _reach(cells)
    found = [(cell, net) for cell, net in _ends(cells) if net in reached]
    found.sort(key=lambda end: -reached[end[1]].depth)
    paths: list[TimingPath] = []
    starts: set[str] = set()
    ends: set[str] = set()
    for cell, net in found:
        path = None if _part(cell.name) in ends else _path(reached, net, cell)
        if path is None or not path.levels or _part(path.start) in starts:
            continue
        paths.append(path)
        starts.add(_part(path.start))
        ends.add(_part(path.end))
        if len(paths) == count:
            break
    return tuple(paths)


def _reach(cells: Sequence[Cell]) -> dict[int, _Step]:
    """Net -> the deepest way to it."""
    reached: dict[int, _Step] = {}
    for cell in cells:
        memory = cell.type in MEMORY_LUTS
        if memory or not _is_logic(cell):
            start = _Step(TABLE_LEVEL if memory else 0, cell if memory else None, None, cell)
            reached |= dict.fromkeys(_outputs(cell), start)
    for cell in _in_order(cells):
        step = _through(cell, reached)
        for net in _outputs(cell):
            if net not in reached or step.depth >= reached[net].depth:
                reached[net] = step
    return reached


def _in_order(cells: Sequence[Cell]) -> Iterator[Cell]:
    """Cells of logic, each after those that drive it."""
    logic = [cell for cell in cells if _is_logic(cell)]
    driven = {net for cell in logic for net in _outputs(cell)}
    users: dict[int, list[int]] = {}
    waits = []
    for index, cell in enumerate(logic):
        nets = driven.intersection(_inputs(cell))
        waits.append(len(nets))
        for net in nets:
            users.setdefault(net, []).append(index)
    ready = [index for index, waiting in enumerate(waits) if not waiting]
    done = 0
    while ready:
        cell = logic[ready.pop()]
        done += 1
        yield cell
        for user in (user for net in _outputs(cell) for user in users.get(net, ())):
            waits[user] -= 1
            if not waits[user]:
                ready.append(user)
    if done < len(logic):
        raise VerifyError("the netlist has a loop of logic without a register")


def _outputs(cell: Cell) -> Iterator[int]:
    return (net for nets in cell.outputs.values() for net in nets)


def _through(cell: Cell, reached: dict[int, _Step]) -> _Step:
    """The deepest way through a cell, by whichever input."""
    best = _Step(_cost(cell, False), cell, None, None)
    for port, nets in cell.inputs.items():
        if cell.type in MEMORY_LUTS and WRITE_PORT.fullmatch(port):
            continue
        for net in nets:
            step = reached.get(net)
            if step is None:
                continue
            inside = port == "CI" and step.cell is not None and step.cell.type == "CARRY4"
            depth = step.depth + _cost(cell, inside)
            if depth > best.depth or best.by is None:
                best = _Step(depth, cell, net, None)
    return best


def _cost(cell: Cell, inside: bool) -> int:
    """Of passing a cell; `inside` a carry chain it is no new level."""
    if cell.type == "CARRY4":
        return 1 if inside else LEVEL + 1
    if cell.type in TRANSPARENT:
        return 0
    return LEVEL if cell.type == "DSP48E1" else TABLE_LEVEL


def _is_logic(cell: Cell) -> bool:
    """Whether a signal passes without a clock's edge."""
    if cell.type == "DSP48E1":
        return not any(int(cell.parameters.get(reg, "1"), 2) for reg in ("MREG", "PREG"))
    return (
        cell.type.startswith("LUT")
        or cell.type == "CARRY4"
        or cell.type in TRANSPARENT
        or cell.type in MEMORY_LUTS
    )


def _inputs(cell: Cell) -> Iterator[int]:
    """Nets that a signal passes on from."""
    for port, nets in cell.inputs.items():
        if cell.type not in MEMORY_LUTS or not WRITE_PORT.fullmatch(port):
            yield from nets


def _ends(cells: Sequence[Cell]) -> Iterator[tuple[Cell, int]]:
    """Where paths end: all inputs of what keeps its value until a clock's edge."""
    for cell in cells:
        memory = cell.type in MEMORY_LUTS
        if _is_logic(cell) and not memory:
            continue
        for port, nets in cell.inputs.items():
            if not memory or WRITE_PORT.fullmatch(port):
                yield from ((cell, net) for net in nets)


def _trace(reached: dict[int, _Step], net: int) -> list[_Step]:
    """The steps to a net, the first one first."""
    steps = [reached[net]]
    while steps[-1].by is not None:
        steps.append(reached[steps[-1].by])
    return steps[::-1]


def _path(reached: dict[int, _Step], net: int, end: Cell) -> TimingPath:
    steps = _trace(reached, net)
    kinds: Counter[str] = Counter()
    before = ""
    for step in steps:
        kind = step.cell.type if step.cell is not None else ""
        entered = kind == "CARRY4" and before != "CARRY4"
        kinds["carry"] += entered
        kinds["lut"] += kind.startswith("LUT") or kind in MEMORY_LUTS
        kinds["dsp"] += kind == "DSP48E1"
        before = kind
    return TimingPath(
        start=_name(steps[0]),
        end=end.name,
        luts=kinds["lut"],
        carries=kinds["carry"],
        dsps=kinds["dsp"],
    )


def _name(first: _Step) -> str:
    cell = first.start or first.cell
    return "a pin" if cell is None else cell.name


def _part(name: str) -> str:
    """The module that holds what has this name, without numbers."""
    return re.sub(r"\d+", "", name.rpartition(".")[0])
