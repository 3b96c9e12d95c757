"""A netlist of 7-series primitives, as Yosys writes it in JSON, without its hierarchy.

A module that occurs many times stands in the file once; here each instance has its cells, and nets
run through the modules' boundaries, so that a path is followed from register to register.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

RENAMED = re.compile(r"\$+\d+")
"""What made a name unique; see `equal_modules`."""
MEMORY_LUTS = {
    **dict.fromkeys(("RAM32X1S", "RAM64X1S"), 1),
    **dict.fromkeys(("RAM32X1D", "RAM64X1D", "RAM128X1S"), 2),
    **dict.fromkeys(("RAM32M", "RAM64M", "RAM128X1D", "RAM256X1S"), 4),
}
"""Look-up tables of each kind of distributed memory: Xilinx UG474, table 3."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A primitive.

    Attributes
    ----------
    type : str
        Such as LUT6.
    name : str
        Of what it drives, with the instances around it; of itself where that has no name.
    parameters : mapping
    inputs, outputs : mapping of port to nets
        Constants are left out.
    """

    type: str
    name: str
    parameters: Mapping[str, str]
    inputs: Mapping[str, tuple[int, ...]]
    outputs: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Netlist:
    """All cells of a design.

    Parameters
    ----------
    modules : mapping
        `modules` of Yosys's JSON.
    top : str
    """

    modules: Mapping[str, Any]
    top: str

    def count(self) -> Counter[str]:
        """Cell type -> how many."""
        return self._count(self.top)

    def _count(self, name: str) -> Counter[str]:
        kinds = Counter(cell["type"] for cell in self.modules[name]["cells"].values())
        found: Counter[str] = Counter()
        for kind, times in kinds.items():
            inner = self._count(kind) if self._is_inside(kind) else Counter({kind: 1})
            for type_name, count in inner.items():
                found[type_name] += times * count
        return found

    def _is_inside(self, kind: str) -> bool:
        """Whether a cell is an instance of a module of the design, not a primitive."""
        attributes = self.modules.get(kind, {}).get("attributes", {"blackbox": "1"})
        return "blackbox" not in attributes and "whitebox" not in attributes

    def cells(self) -> list[Cell]:
        """All primitives; their nets are numbers that no two nets share."""
        nets = _Nets()
        found = list(self._cells(self.top, "", {}, nets))
        return [
            Cell(
                type=cell.type,
                name=cell.name,
                parameters=cell.parameters,
                inputs={port: nets.joined(bits) for port, bits in cell.inputs.items()},
                outputs={port: nets.joined(bits) for port, bits in cell.outputs.items()},
            )
            for cell in found
        ]

    def _cells(self, name: str, around: str, outer: dict[int, int], nets: _Nets) -> Iterator[Cell]:
        """Those of an instance; `outer` has the nets of its ports by its own bits."""
        module = self.modules[name]
        names = _bit_names(module)
        local = nets.of_instance(outer)
        for cell_name, cell in module["cells"].items():
            kind = cell["type"]
            if kind.startswith("$"):  # what Yosys keeps of scopes
                continue
            connections = {
                port: [bit for bit in bits if isinstance(bit, int)]
                for port, bits in cell["connections"].items()
            }
            if self._is_inside(kind):
                ports = _port_nets(self.modules[kind], cell["connections"], local, nets)
                yield from self._cells(kind, f"{around}{_plain(cell_name)}.", ports, nets)
                continue
            sides: dict[str, dict[str, tuple[int, ...]]] = {"input": {}, "output": {}}
            for port, bits in connections.items():
                direction = cell["port_directions"][port]
                for side in ("input", "output") if direction == "inout" else (direction,):
                    sides[side][port] = tuple(map(local, bits))
            yield Cell(
                type=kind,
                name=around + _cell_name(cell_name, cell, names),
                parameters=cell["parameters"],
                inputs=sides["input"],
                outputs=sides["output"],
            )


@dataclass(slots=True)
class _Nets:
    """Numbers of nets, and which of them are one."""

    last: int = 0
    same: dict[int, int] = field(default_factory=dict)

    def of_instance(self, outer: dict[int, int]) -> Any:
        """From an instance's own bits to nets."""

        def net(bit: int) -> int:
            if bit not in outer:
                self.last += 1
                outer[bit] = self.last
            return outer[bit]

        return net

    def join(self, one: int, other: int) -> None:
        one, other = self._first(one), self._first(other)
        if one != other:
            self.same[other] = one

    def joined(self, bits: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(map(self._first, bits)) if self.same else bits

    def _first(self, net: int) -> int:
        while net in self.same:
            net = self.same[net]
        return net


def _port_nets(
    module: Mapping[str, Any], connections: Mapping[str, list[Any]], local: Any, nets: _Nets
) -> dict[int, int]:
    """An instance's own bits at its ports -> nets outside; one bit may be at two ports."""
    found: dict[int, int] = {}
    for port, described in module["ports"].items():
        for inner, outer in zip(described["bits"], connections.get(port, ()), strict=False):
            if not isinstance(inner, int) or not isinstance(outer, int):
                continue
            net = local(outer)
            if found.setdefault(inner, net) != net:
                nets.join(found[inner], net)
    return found


def _bit_names(module: Mapping[str, Any]) -> dict[int, str]:
    """The best name of each bit: a register's own (it has a reset value), then the innermost."""
    best: dict[int, tuple[tuple[bool, int, int], str]] = {}
    for name, net in module["netnames"].items():
        if net["hide_name"]:
            continue
        plain, wide = _plain(name), len(net["bits"]) > 1
        rank = ("init" not in net["attributes"], -plain.count("."), len(plain))
        for index, bit in enumerate(net["bits"]):
            if isinstance(bit, int) and (bit not in best or rank < best[bit][0]):
                best[bit] = (rank, f"{plain}[{index}]" if wide else plain)
    return {bit: name for bit, (_, name) in best.items()}


def _plain(name: str) -> str:
    return RENAMED.sub("", name).removeprefix("\\")


def _cell_name(name: str, cell: Mapping[str, Any], names: Mapping[int, str]) -> str:
    """By the first named bit that it drives, else its own name."""
    for port, direction in cell["port_directions"].items():
        if direction == "output":
            for bit in cell["connections"][port]:
                if bit in names:
                    return names[bit]
    return _plain(name)
