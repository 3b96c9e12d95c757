"""What `--port` names: registers behind a file that stands for a device, and what is told."""

from __future__ import annotations

import mmap
import os
import re
from pathlib import Path

import numpy as np
import pytest

from qcompile.runtime import ports
from qcompile.runtime.errors import BoardError
from qcompile.runtime.mapped_registers import MappedRegisters
from qcompile.runtime.ports import open_link
from qcompile.runtime.protocol import Info, Register, RunStatus, State, info_payload

INFO = Info(version=1, rows=4, columns=4, acc_width=24, configuration_id=77, clock_hz=50_000_000)


@pytest.fixture
def device(tmp_path: Path) -> Path:
    """A page of zeros."""
    path = tmp_path / "uio0"
    path.write_bytes(bytes(4096))
    return path


def told(port: str, message: str) -> BoardError:
    """What is told instead of a link."""
    with pytest.raises(BoardError, match=f"^{message}\n") as caught:
        open_link(port)
    return caught.value


def test_registers_are_32_bit_words_at_their_offsets(device: Path) -> None:
    registers = MappedRegisters(device, name="uio")
    registers.write(0x24, 0xFEDCBA98)
    registers.write_all(0x30, np.array([5, 1 << 31], np.uint32))
    assert registers.read(0x24) == 0xFEDCBA98
    words = registers.read_all(0x30, 2)
    assert words.dtype == np.uint32 and words.tolist() == [1 << 31, 1 << 31]
    begin = registers.now()
    registers.pause(0.001)
    assert registers.now() >= begin + 0.001
    registers.close()
    expected = bytearray(4096)
    expected[0x24:0x28] = bytes.fromhex("98badcfe")
    expected[0x30:0x34] = bytes.fromhex("00000080")
    assert device.read_bytes() == expected


def test_uio_device_with_an_accelerator_is_a_link(device: Path) -> None:
    status = bytes([State.DONE, 0, 7, 0]) + (12_345).to_bytes(4, "little")
    page = info_payload(INFO) + status + b"\4"
    device.write_bytes(page.ljust(4096, b"\0"))
    link = open_link(f"uio:{device}")
    assert link.name == f"uio:{device}"
    assert link.info() == INFO
    assert link.wait(1.0) == RunStatus(state=State.DONE, error=0, layers=7, cycles=12_345)
    link.close()
    assert device.read_bytes()[Register.RESULT] == 0, "what an earlier run left does not count"


def test_mem_is_the_page_at_a_physical_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = tmp_path / "mem"
    memory.write_bytes(bytes(8 * mmap.PAGESIZE) + info_payload(INFO).ljust(4096, b"\0"))
    monkeypatch.setattr(ports, "MEMORY", memory)
    link = open_link(f"mem:{8 * mmap.PAGESIZE:#x}")
    assert link.info() == INFO
    link.close()
    error = told(f"mem:{7 * mmap.PAGESIZE:#x}", "mem:0x7000: no accelerator answers there")
    assert error.context == (f"INFO reply is not of a qcompile board: {bytes(16).hex()}",)


def test_other_hardware_is_told_and_nothing_is_written(device: Path) -> None:
    before = np.random.default_rng(0).bytes(4096)
    device.write_bytes(before)
    told(f"uio:{device}", f"uio:{device}: no accelerator answers there")
    assert device.read_bytes() == before


def test_missing_device_is_told_with_those_that_there_are(tmp_path: Path) -> None:
    port = f"uio:{tmp_path / 'uio7'}"
    error = told(port, rf"{port}: cannot be opened \(.*No such file or directory.*\)")
    assert error.help.startswith("UIO devices of this machine: ")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
def test_device_of_somebody_else_asks_for_sudo(device: Path) -> None:
    device.chmod(0)
    error = told(f"uio:{device}", rf"uio:{device}: cannot be opened \(.*Permission denied.*\)")
    assert error.help == "run it as root, with sudo"


def test_denied_device_asks_for_sudo(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path, flags: int) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", denied)
    error = told(f"uio:{device}", rf"uio:{device}: cannot be opened \(.*Permission denied.*\)")
    assert error.help == "run it as root, with sudo"


def test_device_without_a_page_is_told(device: Path) -> None:
    device.write_bytes(bytes(100))
    error = told(f"uio:{device}", rf"uio:{device}: its registers cannot be mapped \(.*\)")
    assert "uio:/dev/uio0" in error.help
    told("uio:/dev/null", r"uio:/dev/null: its registers cannot be mapped \(.*\)")


@pytest.mark.parametrize("text", ["", "x", "-4096", "0x43C0000G", "1.5", hex(1 << 63), "1" * 5000])
def test_what_is_no_address_is_told(text: str) -> None:
    error = told(f"mem:{text}", re.escape(f"mem:{text[:30]}") + r".*: is no address")
    assert error.help == "write it as mem:0x43C00000"


def test_address_inside_a_page_is_told() -> None:
    told("mem:0x43C00004", f"mem:0x43C00004: is no multiple of a page of {mmap.PAGESIZE} bytes")
