"""Equal modules of a design, made one: what occurs many times is synthesised once.

Amaranth writes a module for every instance: an array of 256 pairs has 256 modules of pairs. Equal
ones differ only in the numbers that make names unique (`\\sum$1234`). Here names count by the order
in which a module has them, so equal modules have equal texts, from the innermost outwards.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

MODULE = re.compile(r"^(?:attribute [^\n]*\n)*module (\S+)$", re.MULTILINE)
CELL = re.compile(r"^  cell (\S+) \S+$", re.MULTILINE)
NAME = re.compile(r'[\\$][^\s"]+')
UNIQUE = re.compile(r"\$\d+")
"""What Amaranth appends to a name that is taken, or calls what has none."""
LARGE = 20_000
"""Characters of RTLIL: smaller modules are cheap to synthesise again."""
KEEP = "attribute \\keep_hierarchy 1\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """Modules by name, each with those inside it and how often; names have RTLIL's backslash."""

    top: str
    texts: Mapping[str, str]
    inside: Mapping[str, Counter[str]]

    @property
    def text(self) -> str:
        """RTLIL, with the boundaries of `repeated` kept."""
        kept = self.repeated()
        return "".join(KEEP * (name in kept) + text for name, text in self.texts.items())

    def repeated(self) -> set[str]:
        """Large modules that are there more than once, none of which is inside another."""
        counts, sizes = self._counts(), self._sizes()
        found: set[str] = set()
        below: set[str] = set()
        for name in sorted(self.texts, key=lambda name: -sizes[name]):
            if counts[name] > 1 and sizes[name] >= LARGE and name not in below:
                found.add(name)
                below |= self._below(name)
        return found

    def _counts(self) -> Counter[str]:
        """Instances of every module in the whole design."""
        counts = Counter({self.top: 1})
        for name in reversed(list(self.texts)):  # whoever holds a module comes after it
            for inner, times in self.inside[name].items():
                counts[inner] += times * counts[name]
        return counts

    def _sizes(self) -> dict[str, int]:
        """Characters of a module and of all that are inside it."""
        sizes: dict[str, int] = {}
        for name, text in self.texts.items():
            inner = (sizes[x] * times for x, times in self.inside[name].items())
            sizes[name] = len(text) + sum(inner)
        return sizes

    def _below(self, name: str) -> set[str]:
        inner = set(self.inside[name])
        return inner.union(*(self._below(x) for x in inner))


def merge_equal(rtlil: str, top: str = "\\top") -> Design:
    """A design of Amaranth's RTLIL in which equal modules are one; innermost modules first."""
    modules = _modules(rtlil)
    same: dict[str, str] = {}  # text without the module's name -> the name it had first
    first: dict[str, str] = {}  # module -> the first one that equals it
    names: dict[str, dict[str, str]] = {}  # module -> its own names -> those in its text
    texts: dict[str, str] = {}
    for module in _innermost_first(modules, top):
        head, body = modules[module]
        renamed: dict[str, str] = {}
        text = _canonical(body, first, names, renamed)
        names[module] = renamed
        first[module] = same.setdefault(head + text, module)
        if first[module] == module:
            texts[module] = f"{head}module {module}{text}"
    inside = {
        name: Counter(x for x in CELL.findall(text) if x in texts) for name, text in texts.items()
    }
    return Design(top=top, texts=texts, inside=inside)


def _modules(rtlil: str) -> dict[str, tuple[str, str]]:
    """Module -> its attributes, and what follows its name."""
    found = list(MODULE.finditer(rtlil))
    ends = [*(match.start() for match in found[1:]), len(rtlil)]
    return {
        match[1]: (
            match[0].removesuffix(f"module {match[1]}"),
            rtlil[match.end() : end].rstrip() + "\n\n",
        )
        for match, end in zip(found, ends, strict=True)
    }


def _innermost_first(modules: Mapping[str, tuple[str, str]], top: str) -> list[str]:
    order: dict[str, None] = {}

    def visit(name: str) -> None:
        for inner in dict.fromkeys(CELL.findall(modules[name][1])):
            if inner in modules and inner not in order:
                visit(inner)
        order[name] = None

    visit(top)
    return list(order)


def _canonical(
    body: str,
    first: Mapping[str, str],
    names: Mapping[str, Mapping[str, str]],
    renamed: dict[str, str],
) -> str:
    """A module's body with names by their order, which `renamed` gets; instances are of the first
    module that equals theirs, with its names of ports."""

    def rename(match: re.Match[str]) -> str:
        name = match[0]
        if not UNIQUE.search(name):
            return name
        return renamed.setdefault(name, f"{name.partition('$')[0]}$${len(renamed)}")

    lines = []
    ports: Mapping[str, str] | None = None  # of the instance that the line belongs to
    for line in body.split("\n"):
        if line.startswith("  cell "):
            _, kind, name = line.split()
            ports = names.get(kind)
            line = f"  cell {first.get(kind, kind)} {NAME.sub(rename, name)}"
        elif line.startswith("    connect "):
            line = _connection(line, ports or {}, rename)
        elif not _is_fixed(line):
            line = NAME.sub(rename, line)
        lines.append(line)
    return "\n".join(lines)


def _connection(line: str, ports: Mapping[str, str], rename: Callable[[re.Match[str]], str]) -> str:
    _, port, signal = line.split(maxsplit=2)
    return f"    connect {ports.get(port, port)} {NAME.sub(rename, signal)}"


def _is_fixed(line: str) -> bool:
    """Whether no name of the module's own is in the line: a memory's name is, in a string."""
    start = line.lstrip()
    return start.startswith("attribute ") or (
        start.startswith("parameter ") and "\\MEMID" not in start
    )
