"""Vivado and openXC7 as qcompile runs them and reads what they leave.

Neither tool is in any registry, so small scripts of these names stand for them: they are outside
tools, not our hardware. They write what the tools are known to write, and fail as these do.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from qcompile.compiler.errors import InputError, ToolError
from qcompile.compiler.lines import vendor, vendor_tools
from qcompile.compiler.lines.project import openxc7_script
from qcompile.compiler.lines.vendor import OPENXC7, VIVADO, place_and_route
from qcompile.compiler.lines.vendor_reports import (
    Placed,
    UnreadableReport,
    read_nextpnr,
    read_vivado,
)
from qcompile.compiler.report import Resource
from qcompile.hw.boards import LINES_BOARDS

PROJECT = Path(__file__).resolve().parent.parent.parent
FILES = {
    "top.v": b"module top; endmodule\n",
    "top.xdc": b"",
    "build.tcl": b"",
    "openxc7.sh": openxc7_script(LINES_BOARDS["arty_a7_100t"], 80_000_000).encode(),
}
SLACK_HEAD = (
    "    WNS(ns)      TNS(ns)  TNS Failing Endpoints  TNS Total Endpoints      WHS(ns)      THS(ns)"
    "  THS Failing Endpoints  THS Total Endpoints     WPWS(ns)     TPWS(ns)  TPWS Failing Endpoints"
    "  TPWS Total Endpoints  "
)


def timing_report(setup: object, hold: object = 0.031, pulse: object = 3.75) -> str:
    """A timing summary: what is told of the whole design, and then of one clock."""
    dashes = re.sub(r"[^ ]", "-", SLACK_HEAD)
    values = f"{setup}  0.000  0  98304  {hold}  0.000  0  98304  {pulse}  0.000  0  51213"
    other = "core_clk  9.000  0.000  0  12  9.000  0.000  0  12  9.000  0.000  0  5"
    return "\n".join(
        [
            "| Design Timing Summary",
            *("", SLACK_HEAD, dashes, f"   {values}  ", "", "| Intra Clock Table", ""),
            *(f"Clock {SLACK_HEAD}", f"----- {dashes}", other, ""),
        ]
    )


def utilization_report(*, prohibited: bool) -> str:
    """Tables of sites; newer versions have a column more."""
    more = [" Prohibited "] if prohibited else []
    zero = [" 0 "] if prohibited else []

    def table(*rows: tuple[str, str, str]) -> list[str]:
        head = [" Site Type ", " Used ", " Fixed ", *more, " Available ", " Util% "]
        lines = ["|".join(["", *head, ""])]
        for name, used, total in rows:
            fixed = [" 0 ", *zero] if total else [" ", *[" " for _ in zero]]
            lines.append("|".join(["", f" {name} ", f" {used} ", *fixed, f" {total} ", " 1 ", ""]))
        return ["+---+", *lines, "+---+", ""]

    return "\n".join(
        [
            "1. Slice Logic",
            *table(
                ("Slice LUTs*", "40336", "63400"),
                ("  LUT as Logic", "38104", "63400"),
                ("Slice Registers", "50226", "126800"),
            ),
            "3. Memory",
            *table(("Block RAM Tile", "85.5", "135"), ("  RAMB36E1 only", "84", "")),
            *table(("DSPs", "216", "240"), ("  DSP48E1 only", "216", "")),
        ]
    )


NEXTPNR_LOG = """\
Info: Device utilisation:
Info:           SLICE_LUTX:     1/126800     0%
Info: Max frequency for clock 'clk': 60.00 MHz (FAIL at 80.00 MHz)
Info: Device utilisation:
Info:           SLICE_LUTX: 51203/126800    40%
Info:            SLICE_FFX: 50226/126800    39%
Info:             RAMB18E1:     3/  270     1%
Info:             RAMB36E1:    84/  135    62%
Info:              DSP48E1:   216/  240    90%
Info: Max frequency for clock        'clk': 92.50 MHz (PASS at 80.00 MHz)
Info: Max frequency for clock 'clk100_0__io': 110.00 MHz (PASS at 100.00 MHz)
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the PATH for scripts that stand for outside tools."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    for name in vendor_tools.OPEN_FOLDERS:
        monkeypatch.delenv(name, raising=False)
    return folder


def script(folder: Path, name: str, body: str) -> None:
    """An executable of Python."""
    path = folder / name
    path.write_text(f"#!{sys.executable}\n{textwrap.dedent(body)}")
    path.chmod(0o755)


def stand_for_vivado(
    programs: Path, timing: str | None, *, utilization: str | None = None, end: str = ""
) -> None:
    """A `vivado` that writes these reports and a bitstream, then does `end`."""
    written = {
        "top_timing.rpt": timing,
        "top_utilization.rpt": utilization or utilization_report(prohibited=True),
        "top.bit": "bits",
    }
    script(
        programs,
        "vivado",
        f"""
        import pathlib, sys, time
        assert sys.argv[1:] == {list(VIVADO.command[1:])!r}, sys.argv
        for stage in ("synth_design -top top", "place_design", "report_drc", "route_design"):
            print("#", stage, flush=True)
        for name, text in {written!r}.items():
            if text is not None:
                pathlib.Path(name).write_text(text)
        {end}
        """,
    )


def run(tmp_path: Path, tool: vendor.VendorTool = VIVADO, clock: float = 100) -> Placed:
    """Place and route in a build directory."""
    return place_and_route(tool, FILES, tmp_path, clock, lambda step: None)[0]


@pytest.mark.parametrize("prohibited", [False, True])
def test_vivados_reports_are_read_by_their_headings(prohibited: bool) -> None:
    placed = read_vivado(timing_report(1.25), utilization_report(prohibited=prohibited), 100)
    assert placed == Placed(
        fmax_mhz=114.286,  # 1 / (10 ns - 1.25 ns)
        slack_ns=1.25,
        met=True,
        resources={
            "lut": Resource(used=40_336, total=63_400),
            "ff": Resource(used=50_226, total=126_800),
            "dsp": Resource(used=216, total=240),
            "bram36": Resource(used=86, total=135),
        },
    )


@pytest.mark.parametrize(
    ("setup", "hold", "pulse", "fmax"),
    [(-2.5, 0.1, 1.0, 80.0), (0.0, -0.001, 1.0, 100.0), (0.0, 0.1, -0.5, 100.0)],
)
def test_any_negative_slack_misses_timing(
    setup: float, hold: float, pulse: float, fmax: float
) -> None:
    text = timing_report(setup, hold, pulse)
    placed = read_vivado(text, utilization_report(prohibited=True), 100)
    assert (placed.met, placed.fmax_mhz) == (False, fmax)


@pytest.mark.parametrize(
    ("timing", "utilization", "message"),
    [
        ("", "", r"no table with WNS\(ns\), WHS\(ns\), WPWS\(ns\)"),
        (SLACK_HEAD, "", r"no number of WNS\(ns\), WHS\(ns\), WPWS\(ns\): \[\]"),
        (timing_report("NA"), "", r"no number of WNS.*'NA'.*"),
        (timing_report(10.5), "", r"a slack of 10.5 ns in a clock of 10.000 ns"),
        (timing_report(1), "", r"no row of Slice LUTs"),
        (timing_report(1), utilization_report(prohibited=True).split("3. ")[0], "no row of DSPs"),
    ],
)
def test_reports_that_lack_something_are_told(timing: str, utilization: str, message: str) -> None:
    with pytest.raises(UnreadableReport, match=f"^{message}$"):
        read_vivado(timing, utilization, 100)


def test_nextpnrs_last_figures_count() -> None:
    assert read_nextpnr(NEXTPNR_LOG, 80) == Placed(
        fmax_mhz=88.0,  # 80 MHz * 110 / 100, the clock that is nearest to missing
        slack_ns=None,
        met=True,
        resources={
            "lut": Resource(used=51_203, total=126_800),
            "ff": Resource(used=50_226, total=126_800),
            "dsp": Resource(used=216, total=240),
            "bram36": Resource(used=86, total=135),
        },
    )
    failed = NEXTPNR_LOG.replace("92.50 MHz (PASS", "72.00 MHz (FAIL")
    placed = read_nextpnr(failed, 80)
    assert (placed.met, placed.fmax_mhz) == (False, 72.0)
    with pytest.raises(UnreadableReport, match=r"^no 'Max frequency for clock'$"):
        read_nextpnr("", 80)
    with pytest.raises(UnreadableReport, match=r"^no utilisation of SLICE_FFX$"):
        read_nextpnr(NEXTPNR_LOG.replace("SLICE_FFX", "FFX"), 80)


def test_vivado_runs_once_for_the_same_files(programs: Path, tmp_path: Path) -> None:
    stand_for_vivado(programs, timing_report(0.5), end="open('ran', 'a').write('x')")
    assert vendor.find_tool() is VIVADO
    steps: list[str] = []
    placed, bitstream = place_and_route(VIVADO, FILES, tmp_path, 100, steps.append)
    assert bitstream == b"bits" and placed.slack_ns == 0.5
    log = tmp_path / "vivado" / "vivado.log"
    assert steps[0] == f"place and route with Vivado; its log is {log}"
    stages = [f"Vivado: {stage}" for stage in ("synth_design", "place_design", "route_design")]
    assert steps[1:] == stages and "# report_drc\n" in log.read_text()
    assert run(tmp_path) == placed and (tmp_path / "vivado" / "ran").read_text() == "x"
    place_and_route(VIVADO, {**FILES, "top.v": b"other"}, tmp_path, 100, steps.append)
    assert (tmp_path / "vivado" / "top.v").read_bytes() == b"other"
    assert len(steps) == 2 * 4


def test_a_failure_names_the_log_and_its_errors(programs: Path, tmp_path: Path) -> None:
    end = "print('ERROR: [Place 30-640] 300 of 240 DSPs'); print('more'); sys.exit(1)"
    stand_for_vivado(programs, timing_report(1), end=end)
    with pytest.raises(ToolError) as raised:
        run(tmp_path)
    log = tmp_path / "vivado" / "vivado.log"
    assert str(raised.value) == (
        f"Vivado: vivado ended with exit code 1\n  log: {log}\n"
        "  ERROR: [Place 30-640] 300 of 240 DSPs\n"
        "  help: the build is whole without a bitstream: mend what the log says, or add"
        " --no-bitstream"
    )
    assert "more" in log.read_text()
    assert not (tmp_path / "vivado" / "top.bit").exists()
    stand_for_vivado(programs, timing_report(1))
    assert run(tmp_path).met


def test_a_report_that_is_missing_or_empty_of_figures_is_told(
    programs: Path, tmp_path: Path
) -> None:
    stand_for_vivado(programs, None)
    with pytest.raises(ToolError, match=r"did not write top_timing\.rpt\n  log: .*vivado\.log"):
        run(tmp_path)
    stand_for_vivado(programs, "nothing")
    with pytest.raises(ToolError, match=r"top_timing\.rpt or a report beside it cannot be read"):
        run(tmp_path)
    stand_for_vivado(programs, timing_report(1))  # what could not be read is made again
    assert run(tmp_path).met


def test_a_folder_of_the_users_is_not_replaced(programs: Path, tmp_path: Path) -> None:
    stand_for_vivado(programs, timing_report(1))
    (tmp_path / "vivado").mkdir()
    (tmp_path / "vivado" / "mine").touch()
    with pytest.raises(InputError, match="is none of qcompile's folders"):
        run(tmp_path)
    assert (tmp_path / "vivado" / "mine").exists()


def stand_for_openxc7(programs: Path, monkeypatch: pytest.MonkeyPatch, log: str) -> None:
    """All of openXC7's programs; Yosys is the real one."""
    written = {"nextpnr.log": log, "top.fasm": "fasm"}
    script(
        programs,
        "nextpnr-xilinx",
        f"""
        import pathlib, sys
        assert "--timing-allow-fail" in sys.argv and pathlib.Path("top.json").is_file()
        for name, text in {written!r}.items():
            pathlib.Path(name).write_text(text)
        """,
    )
    script(programs, "fasm2frames", "print('frames')")
    body = "import sys; open(sys.argv[sys.argv.index('--output_file') + 1], 'w').write('bits')"
    script(programs, "xc7frames2bit", body)
    for name in vendor_tools.OPEN_FOLDERS:
        monkeypatch.setenv(name, str(programs))


def test_openxc7_runs_by_the_builds_own_script(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_for_openxc7(programs, monkeypatch, NEXTPNR_LOG)
    assert vendor.find_tool() is OPENXC7
    steps: list[str] = []
    placed, bitstream = place_and_route(OPENXC7, FILES, tmp_path, 80, steps.append)
    assert bitstream == b"bits" and placed.fmax_mhz == 88.0
    assert [step.rpartition(" ")[2] for step in steps[1:]] == list(OPENXC7.stages)


def test_what_is_missing_is_said_in_one_line(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert vendor.find_tool() is None
    line = vendor.nothing_found("build/x")
    assert line == (
        "no bitstream: vivado is not on the PATH, openXC7's tools are not either; `vivado -mode"
        " batch -source build/x/build.tcl` or `sh build/x/openxc7.sh` makes one"
    )
    script(programs, "nextpnr-xilinx", "")
    monkeypatch.setenv("CHIPDB", "somewhere")
    lacks = "openXC7 lacks fasm2frames, xc7frames2bit, PRJXRAY_DB_DIR;"
    assert lacks in vendor.nothing_found("build/x")


def command(programs: Path, folder: Path, *more: str) -> subprocess.Popen[str]:
    """`qcompile` of the smallest array; the caller reads its two streams."""
    digits = PROJECT / "examples" / "digits" / "digits_int8.onnx"
    arguments = [str(digits), "--device", "xc7a35t", "--rows", "4", "-o", str(folder), *more]
    return subprocess.Popen(
        [sys.executable, "-m", "qcompile.compiler.cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_command_makes_a_bitstream_and_reports_what_was_reached(
    programs: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "build"
    stand_for_vivado(programs, timing_report(1.25))
    process = command(programs, folder)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert "Vivado: route_design" in err and "114.29 MHz reached" in out
    record = json.loads((folder / "report.json").read_text())
    assert (record["bitstream"], record["fmax_mhz"]) == ("top.bit", 114.286)
    assert record["timing"] == {"met": True, "slack_ns": 1.25}
    assert record["resources"]["bram36"] == {"used": 86, "total": 135}
    assert record["resources_from"] == "Vivado" and (folder / "top.bit").read_bytes() == b"bits"
    assert "top.bit" in json.loads((folder / "manifest.json").read_text())["parts"]

    stand_for_vivado(programs, timing_report(-0.5))
    (folder / "vivado" / "done.sha256").write_text("")
    out, err = command(programs, folder).communicate()
    assert "no bitstream: Vivado reaches 95.24 MHz of 100 MHz" in out
    record = json.loads((folder / "report.json").read_text())
    assert record["bitstream"] is None and record["timing"] == {"met": False, "slack_ns": -0.5}
    assert not (folder / "top.bit").exists() and (folder / "vivado" / "top.bit").exists()

    out, _ = command(programs, folder, "--no-bitstream").communicate()
    assert "not placed and routed" in out and "no bitstream" not in out


def test_an_interruption_leaves_the_build_without_a_bitstream(
    programs: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "build"
    stand_for_vivado(programs, timing_report(1), end="time.sleep(600)")
    process = command(programs, folder)
    written = folder / "vivado" / "top.bit"
    deadline = time.monotonic() + 200
    while not written.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130 and err.endswith("interrupted\n")
    assert not written.exists() and (folder / "vivado" / "vivado.log").read_text()
    assert json.loads((folder / "report.json").read_text())["bitstream"] is None
    assert not (folder / "top.bit").exists()
