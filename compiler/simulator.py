"""Compiles Verilog with Verilator and runs it under cocotb."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from qcompile.compiler import toolchain
from qcompile.compiler.cache import make_once
from qcompile.compiler.errors import VerifyError
from qcompile.compiler.verilator_library import SPLIT, shared_library

BUILD_OPTIONS = (
    *("-O3", "--no-timing", "--noassert", "-Wno-fatal", "-Wno-lint"),
    *("--x-initial", "unique", "--x-assign", "unique"),
    *SPLIT,
)
LAST_LINES = 12


def compiled(
    cache: Path,
    top: str,
    texts: Mapping[str, str],
    *,
    models: Sequence[Path] = (),
    on_build: Callable[[], None],
) -> Path:
    """Folder of the compiled simulation of some Verilog, kept in `cache` by all that goes in.

    `texts` are files by name, `models` such as stand elsewhere; `on_build` is called when it has to
    be compiled. Processes that compile the same one wait for each other.
    """
    versions = (version("cocotb"), version("verilator"))
    contents = (*texts.values(), *(path.read_text() for path in models))
    key = "\0".join((*contents, *BUILD_OPTIONS, *versions))
    folder = cache / hashlib.sha256(key.encode()).hexdigest()[:20]

    def make() -> None:
        toolchain.require_tools(toolchain.SIMULATION_TOOLS)
        on_build()
        for name, text in texts.items():
            (folder / name).write_text(text)
        with shared_library(cache, folder, BUILD_OPTIONS):
            build(folder, top, [*(folder / name for name in texts), *models])

    make_once(folder, make)
    return folder


def build(folder: Path, top: str, sources: Sequence[Path]) -> None:
    """What cocotb's runner would build, but with the top module's signals alone visible to cocotb.

    The runner makes every signal of the design public, which takes away most of Verilator's
    optimizations: twice the time to build and several times the time to run.
    """
    from cocotb_tools import config

    public = f'public_flat_rw -module "{top}" -var "*"'
    (folder / "public.vlt").write_text(f"`verilator_config\n{public}\n")
    libraries = config.libs_dir
    main = str(config.share_dir / "lib" / "verilator" / "verilator.cpp")
    toolchain.run_tool(
        [
            *("verilator", "--cc", "--exe", "--build", "-j", "2", "--vpi", *BUILD_OPTIONS),
            *("--prefix", "Vtop", "--top-module", top, "-o", top, "--Mdir", "."),
            *("--timescale", "1ns/1ps", "-DNO_ICE40_DEFAULT_ASSIGNMENTS"),
            *("-LDFLAGS", f"-Wl,-rpath,{libraries} -L{libraries} -lcocotbvpi_verilator"),
            *("public.vlt", main, *map(str, sources)),
        ],
        cwd=folder,
        outputs=[Path(top)],
    )


def run(
    simulator: Path,
    top: str,
    module: str,
    folder: Path,
    *,
    seed: int,
    plusargs: Sequence[str] = (),
    subject: str,
) -> None:
    """Run a cocotb module over the job in a folder; VerifyError where it leaves no result.npz.

    Memories and registers without a reset value start at random, chosen by `seed`; `subject` is
    what messages call it.
    """
    from cocotb_tools import config
    from cocotb_tools.runner import get_runner

    log = folder / "simulation.log"
    # A simulation in the cache may come from an environment that is gone, with its cocotb.
    libraries = [str(config.libs_dir), os.environ.get("LD_LIBRARY_PATH", "")]
    # The runner ends the process when a test fails; the log says why.
    with toolchain.activated_tools(), contextlib.suppress(SystemExit, RuntimeError):
        get_runner("verilator").test(
            test_module=module,
            hdl_toplevel=top,
            hdl_toplevel_lang="verilog",
            build_dir=simulator,
            test_dir=folder,
            results_xml=str(folder / "results.xml"),
            plusargs=[
                *("+verilator+rand+reset+2", f"+verilator+seed+{seed % 2**31 or 1}"),
                *plusargs,
            ],
            extra_env={
                "QCOMPILE_JOB": str(folder),
                "LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries)),
            },
            log_file=log,
        )
    if not (folder / "result.npz").is_file():
        raise VerifyError(
            f"{subject}: the simulation failed",
            context=_last_lines(log),
            help="this is a fault of qcompile; please report it with the model",
        )


def _last_lines(log: Path) -> list[str]:
    """Of a log that a simulation may not have begun."""
    return log.read_text(errors="replace").splitlines()[-LAST_LINES:] if log.exists() else []
