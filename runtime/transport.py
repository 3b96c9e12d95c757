"""Bytes to and from a board: a serial port, or the simulated board's process."""

from __future__ import annotations

import contextlib
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from qcompile.runtime.errors import BoardError
from qcompile.runtime.layouts import IMAGE_OFFSET
from qcompile.runtime.protocol import BAUD

SIMULATED_PATIENCE_SECONDS = 3_600.0
"""Real time that one read from the simulated board may take before it counts as hung."""

POWER_UP_SECONDS = 1e-4
"""Simulated time before the first byte: PLL, reset and the flash's wake-up."""


class Transport(Protocol):
    """A byte link; times are the board's own, in seconds."""

    def write(self, data: bytes) -> None:
        """Send bytes; returns before they have left."""

    def read(self, count: int, timeout: float) -> bytes:
        """`count` bytes, or fewer when `timeout` has passed."""
        ...

    def drop_input(self) -> None:
        """Forget what has come and was not read."""

    def close(self) -> None:
        """End the link."""


class SerialTransport:
    """A serial port, through pyserial.

    Parameters
    ----------
    port : str
        Device name, such as /dev/ttyUSB1 or COM4.
    baud : int
    """

    def __init__(self, port: str, *, baud: int = BAUD) -> None:
        try:
            import serial  # type: ignore[import-untyped]  # pyserial has no types
        except ModuleNotFoundError as error:
            raise BoardError(
                f"{port}: a serial port needs the package pyserial, which is not installed",
                help=f"{sys.executable} -m pip install pyserial",
            ) from error
        self.port = port
        self._failure = serial.SerialException
        try:
            self._serial = serial.Serial(port, baud, timeout=0)
        except (serial.SerialException, ValueError) as error:
            raise BoardError(
                f"{port}: cannot be opened ({error})", help=_open_help(port, error)
            ) from error

    def write(self, data: bytes) -> None:
        """Send bytes."""
        try:
            self._serial.write(data)
        except (self._failure, OSError) as error:
            raise self._lost(error) from error

    def read(self, count: int, timeout: float) -> bytes:
        """`count` bytes, or fewer when `timeout` seconds have passed."""
        try:
            self._serial.timeout = timeout
            return bytes(self._serial.read(count))
        except (self._failure, OSError) as error:
            raise self._lost(error) from error

    def drop_input(self) -> None:
        """Forget what has come and was not read."""
        self._serial.reset_input_buffer()

    def close(self) -> None:
        """Close the port."""
        self._serial.close()

    def _lost(self, error: Exception) -> BoardError:
        return BoardError(
            f"{self.port}: the connection was lost ({error})",
            help="check the cable; another program may have opened the port",
        )


def _open_help(port: str, error: Exception) -> str:
    text = str(error).lower()
    if "permission" in text:
        return "give yourself the right: `sudo usermod -aG dialout $USER`, then log in again"
    if "busy" in text or "lock" in text:
        return "close the program that uses the port"
    ports = available_ports()
    found = ", ".join(ports) if ports else "none"
    return f"serial ports of this machine: {found}; of a board with two, its UART is the second"


def available_ports() -> list[str]:
    """Names of the machine's serial ports."""
    from serial.tools import list_ports  # type: ignore[import-untyped]  # pyserial has no types

    return sorted(port.device for port in list_ports.comports())


class SimTransport:
    """The simulated board: a process whose time passes only while `read` waits.

    Parameters
    ----------
    executable : Path
        What `compiler.simulated_board.build_simulated_board` made.
    flash : Path or None
        File with the flash's contents from `flash_offset` on; None: an erased flash.
    clock_hz : int
        Of the core.
    seed : int
        Chooses the random contents of memories and registers.
    options : sequence of str
        Further plusargs of hw/sim/simulated_board.cpp and spi_flash.v.
    """

    def __init__(
        self,
        executable: Path,
        flash: Path | None,
        *,
        clock_hz: int,
        baud: int = BAUD,
        flash_offset: int = IMAGE_OFFSET,
        seed: int = 1,
        options: Sequence[str] = (),
    ) -> None:
        contents = [] if flash is None else [f"+flash={flash}", f"+flash_offset={flash_offset}"]
        self._folder = tempfile.TemporaryDirectory(prefix="qcompile-")
        self._log = Path(self._folder.name) / "stderr"
        command = [
            str(executable),
            f"+clock_hz={clock_hz}",
            f"+baud={baud}",
            "+verilator+rand+reset+2",
            f"+verilator+seed+{seed % 2**31 or 1}",
            *contents,
            *options,
        ]
        self._killed = False
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us; what we do not want any more we end
            )
        self.read(1, POWER_UP_SECONDS)

    def write(self, data: bytes) -> None:
        """Queue bytes; they leave, at the line's pace, during the next reads."""
        self._command(b"W" + struct.pack("<I", len(data)) + data)

    def read(self, count: int, timeout: float) -> bytes:
        """`count` bytes, or fewer when `timeout` simulated seconds have passed."""
        self._command(b"R" + struct.pack("<IQ", count, round(timeout * 1e9)))
        (length,) = struct.unpack("<I", self._take(4))
        return self._take(length)

    def drop_input(self) -> None:
        """Forget what has come and was not read."""
        self.read(1 << 24, 0.0)

    def close(self) -> None:
        """End the simulation; BoardError when the flash model reported a violation."""
        assert self._process.stdin and self._process.stdout, "opened with pipes"
        with self._ended_on_interrupt():
            with contextlib.suppress(OSError):  # what the process has not read is lost with it
                self._process.stdin.close()
            code = self._process.wait(timeout=SIMULATED_PATIENCE_SECONDS)
        self._process.stdout.close()
        if code and not self._killed:
            raise self._stopped()
        self._folder.cleanup()

    @contextlib.contextmanager
    def _ended_on_interrupt(self) -> Iterator[None]:
        """End the process when the block is interrupted: it may be far from the end of a read."""
        try:
            yield
        except KeyboardInterrupt:
            self._killed = True
            self._process.kill()
            self._process.wait()
            raise

    def _command(self, data: bytes) -> None:
        assert self._process.stdin is not None, "opened with a pipe"
        try:
            with self._ended_on_interrupt():
                self._process.stdin.write(data)
                self._process.stdin.flush()
        except (OSError, ValueError) as error:
            raise self._stopped() from error

    def _take(self, count: int) -> bytes:
        assert self._process.stdout is not None, "opened with a pipe"
        with self._ended_on_interrupt():
            data = self._process.stdout.read(count)
        if len(data) != count:
            raise self._stopped()
        return data

    def _stopped(self) -> BoardError:
        code = self._process.wait(timeout=SIMULATED_PATIENCE_SECONDS)
        lines = self._log.read_text(errors="replace").splitlines()
        return BoardError(
            f"the simulated board stopped with exit code {code}",
            context=lines[-10:],
            help="a report of the flash model is a fault of qcompile: please report it",
        )
