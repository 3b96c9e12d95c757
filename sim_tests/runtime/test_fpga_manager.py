"""A bitstream's way into a Zynq from its own Linux, with folders in place of the kernel's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from qcompile.runtime import cli, fpga_manager
from qcompile.runtime.artifact import Artifact, open_artifact
from qcompile.runtime.errors import BoardError
from sim_tests.runtime import small_build

WORDS = bytes.fromhex("ffffffff aa995566 01020304")
SWAPPED = bytes.fromhex("ffffffff 665599aa 04030201")


def bit_file(data: bytes = WORDS) -> bytes:
    """A .bit file: a prefix, design, part, date and time, then the data."""
    texts = {"a": "top;UserID=0XFFFFFFFF", "b": "7z020clg400", "c": "2026/01/02", "d": "03:04:05"}
    fields = b"".join(
        key.encode() + (len(text) + 1).to_bytes(2, "big") + text.encode() + b"\0"
        for key, text in texts.items()
    )
    prefix = bytes.fromhex("0009 0ff00ff00ff00ff000 0001")
    return prefix + fields + b"e" + len(data).to_bytes(4, "big") + data


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    folder = small_build.write(tmp_path / "small")
    (folder / "top.bit").write_bytes(bit_file())
    return open_artifact(folder)


@pytest.fixture
def manager(tmp_path: Path) -> Path:
    folder = tmp_path / "fpga0"
    folder.mkdir()
    (folder / "state").write_text("operating\n")
    return folder


def test_words_are_swapped_and_the_manager_is_given_the_name(
    artifact: Artifact, manager: Path, tmp_path: Path
) -> None:
    fpga_manager.load(artifact, firmware=tmp_path, manager=manager)
    assert (tmp_path / "qcompile.bin").read_bytes() == SWAPPED
    assert (manager / "flags").read_text() == "0"
    assert (manager / "firmware").read_text() == "qcompile.bin"


@pytest.mark.parametrize(
    "content", [b"", bit_file()[:-1], bit_file(b""), bit_file(bytes(8)), bit_file(WORDS + b"x")]
)
def test_what_is_no_bitstream_is_refused(
    artifact: Artifact, manager: Path, tmp_path: Path, content: bytes
) -> None:
    path = artifact.folder / "top.bit"
    path.write_bytes(content)
    message = f"{path}: no bitstream of a 7-series device\n  help: make the bitstream again"
    with pytest.raises(BoardError, match=f"^{re.escape(message)}$"):
        fpga_manager.load(artifact, firmware=tmp_path, manager=manager)


def test_other_machines_and_refusals_are_told(
    artifact: Artifact, manager: Path, tmp_path: Path
) -> None:
    with pytest.raises(BoardError, match=r"this machine has no FPGA manager"):
        fpga_manager.load(artifact, firmware=tmp_path, manager=tmp_path / "none")
    with pytest.raises(BoardError, match=r"cannot be loaded .*\n  help: run it with sudo$"):
        fpga_manager.load(artifact, firmware=tmp_path / "none", manager=manager)
    (manager / "state").write_text("write init error\n")
    with pytest.raises(BoardError, match=r"was not taken: state 'write init error'"):
        fpga_manager.load(artifact, firmware=tmp_path, manager=manager)


def test_command_line_needs_a_port_but_to_load(
    artifact: Artifact, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit):
        cli.main([str(artifact.folder), "--selftest"])
    assert "--port is needed" in capsys.readouterr().err
    loaded: list[Artifact] = []
    monkeypatch.setattr(cli, "load", loaded.append)
    assert cli.main([str(artifact.folder), "--load"]) == 0
    assert [each.folder for each in loaded] == [artifact.folder]
    assert capsys.readouterr().out == "icebreaker holds small\n"
