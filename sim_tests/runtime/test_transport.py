"""Serial ports (a pseudo terminal stands for one) and the simulated board's process."""

from __future__ import annotations

import os
import signal
import sys
import threading
import tty
from pathlib import Path

import pytest

from qcompile.runtime.errors import BoardError
from qcompile.runtime.transport import SerialTransport, SimTransport


def test_serial_port_carries_bytes_both_ways_and_times_out() -> None:
    host, board = os.openpty()
    tty.setraw(board)
    transport = SerialTransport(os.ttyname(board))
    transport.write(b"\x51\x00\xff\r\n")
    assert os.read(host, 100) == b"\x51\x00\xff\r\n"
    os.write(host, b"\x71\x00\x0d\x11")
    assert transport.read(4, 1.0) == b"\x71\x00\x0d\x11"
    assert transport.read(4, 0.01) == b""
    os.write(host, b"late")
    transport.read(0, 0.01)
    transport.drop_input()
    assert transport.read(4, 0.01) == b""
    transport.close()
    os.close(host)
    os.close(board)


def test_missing_port_is_told_with_the_ports_that_there_are(tmp_path: Path) -> None:
    port = str(tmp_path / "ttyUSB7")
    with pytest.raises(BoardError) as caught:
        SerialTransport(port)
    assert caught.value.message.startswith(f"{port}: cannot be opened (")
    assert caught.value.help.startswith("serial ports of this machine: ")


def test_port_that_goes_away_is_told() -> None:
    host, board = os.openpty()
    tty.setraw(board)
    name = os.ttyname(board)
    transport = SerialTransport(name)
    os.close(host)
    os.close(board)
    with pytest.raises(BoardError, match=rf"^{name}: the connection was lost \("):
        transport.read(4, 0.1)
    transport.close()


def test_simulated_board_that_ends_is_told_with_its_last_words(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho 'flash: unknown command' >&2\nexit 1\n")
    program.chmod(0o755)
    with pytest.raises(BoardError) as caught:
        SimTransport(program, None, clock_hz=24_000_000)
    assert caught.value.message == "the simulated board stopped with exit code 1"
    assert caught.value.context == ("flash: unknown command",)


def test_interrupted_read_ends_the_simulated_board_and_is_no_fault_of_it(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text(
        f"#!/bin/sh\necho $$ > {tmp_path}/pid\nprintf '\\000\\000\\000\\000'\nexec sleep 600\n"
    )
    program.chmod(0o755)
    transport = SimTransport(program, None, clock_hz=24_000_000)
    pid = int((tmp_path / "pid").read_text())
    assert os.getpgid(pid) != os.getpgid(0), "Ctrl-C in the terminal must not reach it"
    # To this thread: the kernel may hand a process's signal to the timer's, and a read goes on.
    reader = threading.get_ident()
    threading.Timer(0.2, signal.pthread_kill, (reader, signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        transport.read(1, 1.0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    transport.close()


def test_serial_port_without_pyserial_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "serial", None)
    with pytest.raises(BoardError) as caught:
        SerialTransport("/dev/ttyUSB1")
    assert str(caught.value) == (
        "/dev/ttyUSB1: a serial port needs the package pyserial, which is not installed\n"
        f"  help: {sys.executable} -m pip install pyserial"
    )
