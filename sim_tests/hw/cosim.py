"""Runs one hardware component in Verilator, under cocotb, over arrays of inputs.

`run_vectors` is all that most component tests need: numpy arrays of the input ports in, an array
for every output port back, one element a cycle. Tests that react to outputs use `build` and
`run_module` with a cocotb module of their own.

Memories that the hardware does not initialise start with random contents, and so does every
register without a reset value; `seed` changes them.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from amaranth.back import rtlil, verilog  # type: ignore[attr-defined]  # no stub of rtlil
from amaranth.hdl import Shape
from amaranth.lib import wiring
from cocotb_tools.check_results import get_results
from cocotb_tools.runner import get_runner

from qcompile.compiler import toolchain
from qcompile.compiler.verilator_library import SPLIT, shared_library

PROJECT = Path(__file__).resolve().parents[2]
CACHE = PROJECT / "build" / ".cache" / "cosim"
BUILD_ARGS = (
    *("-Wno-fatal", "-Wno-lint", "--x-initial", "unique", "--x-assign", "unique", "-O3"),
    # Benches see the top module's ports alone: a quarter of the time to compile, and faster.
    *("--no-public-flat-rw", "--public-depth", "1"),
    *SPLIT,
)
EMPTY_MEMORY = re.compile(
    r"(?P<declaration>reg \[(?P<high>\d+):0\] (?P<name>\\?\S+) \[(?P<last>\d+):0\];\n)"
    r"\s*initial begin\n(?:\s*\\?\S+\s*\[\d+\] = \d+'[hbd]0+;\n)*\s*end\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """A compiled simulator: its folder and the name of its top module."""

    folder: Path
    top: str


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process at a time in `folder`, which is made when absent."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def digest(*texts: str) -> str:
    """A short name for texts."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:20]


def _fill_at_random(memory: re.Match[str]) -> str:
    """A memory's declaration with an initial block that fills it, a random value a word."""
    value = ", ".join(["$urandom"] * (int(memory["high"]) // 32 + 1))
    loop = f"for (int word = 0; word <= {memory['last']}; word++)"
    return f"{memory['declaration']}  initial {loop} {memory['name']} [word] = {{{value}}};\n"


def with_random_memories(text: str) -> str:
    """Verilog whose memories start with random words where all words were zero."""
    return EMPTY_MEMORY.sub(_fill_at_random, text)


def to_verilog(component: wiring.Component[Any], name: str = "dut") -> str:
    """The component as Verilog."""
    return _verilog(rtlil.convert(component, name=name, emit_src=False))


def _verilog(text: str) -> str:
    """RTLIL as Verilog."""

    def convert() -> str:
        with toolchain.activated_tools():
            # Public functions elaborate the component again, which takes longer than Yosys.
            return str(verilog._convert_rtlil_text(text))  # type: ignore[attr-defined]  # no stub

    return _kept(digest(text), convert)


def verilog_of(make: Callable[..., wiring.Component[Any]], *arguments: object, name: str) -> str:
    """`to_verilog(make(*arguments), name)`, without elaborating the same a second time.

    Arguments are such that `repr` tells of all that is in them, as configurations are.
    """
    key = digest(_sources(), make.__qualname__, repr(arguments), name)
    return _kept(key, lambda: to_verilog(make(*arguments), name))


@functools.cache
def _sources() -> str:
    """A short name for all that Verilog is made of."""
    paths = (path for part in ("hw", "runtime") for path in (PROJECT / part).rglob("*.py"))
    return digest(version("amaranth"), *(path.read_text() for path in sorted(paths)))


def _kept(key: str, make: Callable[[], str]) -> str:
    """The text that was made under this key."""
    path = CACHE / f"{key}.v"
    with locked(CACHE / key):
        if not path.exists():
            partial = path.with_suffix(".partial")
            partial.write_text(make())
            os.replace(partial, path)
    return path.read_text()


def vendor_models() -> Path:
    """Yosys's own simulation models of iCE40 primitives."""
    return toolchain.vendor_cells("ice40")


def build(text: str, top: str, *, sources: Sequence[Path] = ()) -> Simulation:
    """Compile Verilog text and further source files; cached by their contents."""
    key = digest(text, top, *BUILD_ARGS, *(source.read_text() for source in sources))
    folder = CACHE / key
    done = folder / "done"
    with locked(folder):
        if not done.exists():
            (folder / f"{top}.sv").write_text(text)
            options = (version("cocotb"), *BUILD_ARGS)
            with shared_library(CACHE, folder, options), toolchain.activated_tools():
                get_runner("verilator").build(
                    sources=[*sources, folder / f"{top}.sv"],
                    hdl_toplevel=top,
                    build_dir=folder,
                    build_args=list(BUILD_ARGS),
                    defines={"NO_ICE40_DEFAULT_ASSIGNMENTS": 1},
                    timescale=("1ns", "1ps"),
                    log_file=folder / "build.log",
                    always=True,
                )
            done.touch()
    return Simulation(folder=folder, top=top)


def run_module(
    simulation: Simulation,
    module: str,
    folder: Path,
    *,
    seed: int,
    environment: Mapping[str, str] | None = None,
    plusargs: Sequence[str] = (),
) -> None:
    """Run the cocotb tests of `module` (`sim_tests.hw.NAME`); raise if one of them fails."""
    random_start = ["+verilator+rand+reset+2", f"+verilator+seed+{seed % 2**31 or 1}"]
    with toolchain.activated_tools():
        results = get_runner("verilator").test(
            test_module=module,
            hdl_toplevel=simulation.top,
            hdl_toplevel_lang="verilog",
            build_dir=simulation.folder,
            test_dir=folder,
            results_xml=str(folder / "results.xml"),
            plusargs=[*random_start, *plusargs],
            extra_env={"PYTHONPATH": str(PROJECT), **(environment or {})},
            log_file=folder / "cosim.log",
        )
    tests, failures = get_results(results)
    assert tests and not failures, (folder / "cosim.log").read_text()[-4000:]


def run_bench(
    component: wiring.Component[Any],
    bench: str,
    folder: Path,
    *,
    seed: int,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run the cocotb tests of `sim_tests.hw.BENCH` on a component with random memories."""
    simulation = build(with_random_memories(to_verilog(component)), "dut")
    environment = {"QCOMPILE_SEED": str(seed), **(environment or {})}
    run_module(simulation, f"sim_tests.hw.{bench}", folder, seed=seed, environment=environment)


def _ports(component: wiring.Component[Any]) -> dict[str, tuple[int, bool, bool]]:
    """Flattened ports: name -> (width, signed, is an input)."""
    ports = {}
    for path, member, _ in component.signature.flatten(component):
        shape = Shape.cast(member.shape)
        name = "__".join(str(part) for part in path)
        ports[name] = (shape.width, shape.signed, member.flow == wiring.In)
    return ports


def _harness(ports: Mapping[str, tuple[int, bool, bool]]) -> str:
    """A module that reads a line of inputs and writes a line of outputs in every cycle."""
    inputs = [(name, width) for name, (width, _, is_input) in ports.items() if is_input]
    outputs = [(name, width) for name, (width, _, is_input) in ports.items() if not is_input]
    declared = "\n".join(
        f"  {kind} [{width - 1}:0] {name};"
        for kind, group in (("reg", inputs), ("wire", outputs))
        for name, width in group
    )
    connected = "".join(f", .{name}({name})" for name in ports)
    reads = ", ".join(name for name, _ in inputs)
    writes = ", ".join(name for name, _ in outputs)
    return f"""
module harness(input clk);
  reg done = 0;
  reg rst = 1;
  integer source, sink, fields;
  string stimulus, response;
{declared}
  dut dut(.clk(clk), .rst(rst){connected});
  initial begin
    if (!$value$plusargs("stimulus=%s", stimulus)) $fatal(1, "no +stimulus");
    if (!$value$plusargs("response=%s", response)) $fatal(1, "no +response");
    source = $fopen(stimulus, "r");
    sink = $fopen(response, "w");
  end
  always @(negedge clk) if (!done) begin
    fields = $fscanf(source, "{" ".join(["%h"] * (len(inputs) + 1))}\\n", rst, {reads});
    if (fields != {len(inputs) + 1}) begin
      done <= 1;
      $fclose(sink);
    end
  end
  always @(posedge clk) if (!done && fields == {len(inputs) + 1})
    $fwrite(sink, "{" ".join(["%h"] * len(outputs))}\\n", {writes});
endmodule
"""


def run_vectors(
    component: wiring.Component[Any],
    inputs: Mapping[str, npt.NDArray[Any]],
    folder: Path,
    *,
    seed: int,
    sources: Sequence[Path] = (),
    netlist: str | None = None,
) -> dict[str, npt.NDArray[np.int64]]:
    """Drive every input port with an array, one element a cycle; return the outputs' arrays.

    Element t of an output is what stands at the port at the end of cycle t, with the inputs of
    element t applied; two cycles of reset come before. Ports are at most 62 bits wide. `netlist` is
    Verilog of a module `dut` that takes the place of the component's own.
    """
    ports = _ports(component)
    names = [name for name, (_, _, is_input) in ports.items() if is_input]
    assert set(names) == set(inputs), f"inputs must be {names}, not {sorted(inputs)}"
    dut = with_random_memories(to_verilog(component)) if netlist is None else netlist
    text = dut + _harness(ports)
    simulation = build(text, "harness", sources=sources)
    masked = [np.asarray(inputs[name], np.int64) & ((1 << ports[name][0]) - 1) for name in names]
    rows = zip(*(column.tolist() for column in masked), strict=True)
    lines = [" ".join(["0", *(f"{value:x}" for value in row)]) for row in rows]
    stimulus, response = folder / "stimulus.txt", folder / "response.txt"
    stimulus.write_text("\n".join([" ".join(["1", *"0" * len(names)])] * 2 + lines) + "\n")
    run_module(
        simulation,
        "sim_tests.hw.vector_run",
        folder,
        seed=seed,
        plusargs=[f"+stimulus={stimulus}", f"+response={response}"],
    )
    answered = [line.split() for line in response.read_text().splitlines()[2:]]
    assert len(answered) == len(lines), "the simulation ended early"
    outputs = [name for name, (_, _, is_input) in ports.items() if not is_input]
    columns = zip(*answered, strict=True)
    return {
        name: _from_hex(column, *ports[name][:2])
        for name, column in zip(outputs, columns, strict=True)
    }


def _from_hex(column: Sequence[str], width: int, signed: bool) -> npt.NDArray[np.int64]:
    values = np.array([int(text, 16) for text in column], np.int64)
    return values - ((values >> (width - 1) & 1) << width) if signed else values
