"""Registers in this machine's address space, through /dev/mem or a UIO device."""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path

import numpy as np

from qcompile.runtime.errors import BoardError
from qcompile.runtime.link import Words
from qcompile.runtime.protocol import REGISTER_ADDRESS_BITS

SIZE = 1 << REGISTER_ADDRESS_BITS


class MappedRegisters:
    """A page of registers, mapped into this process; every access is one of 32 bits.

    Parameters
    ----------
    path : Path
        A UIO device, /dev/mem, or a file.
    offset : int
        Where in it the registers begin: of /dev/mem their physical address.
    name : str
        How messages call it: the port.
    """

    def __init__(self, path: Path, *, offset: int = 0, name: str) -> None:
        if offset % mmap.ALLOCATIONGRANULARITY:
            raise BoardError(
                f"{name}: is no multiple of a page of {mmap.ALLOCATIONGRANULARITY} bytes",
                help="give the address that the design assigns to the accelerator's registers",
            )
        try:
            file = os.open(path, os.O_RDWR | os.O_SYNC)  # O_SYNC: /dev/mem without a cache
        except OSError as error:
            raise _not_opened(path, name, error) from error
        try:
            self._map = mmap.mmap(file, SIZE, offset=offset)
        except (OSError, ValueError, OverflowError) as error:
            raise BoardError(
                f"{name}: its registers cannot be mapped ({error})",
                help="where the kernel guards /dev/mem, use a UIO device: --port uio:/dev/uio0",
            ) from error
        finally:
            os.close(file)
        # An element of an array of 32-bit integers is read or written at once.
        self._registers = np.frombuffer(self._map, "<u4")

    def read(self, offset: int) -> int:
        """A register."""
        return int(self._registers[offset // 4])

    def write(self, offset: int, value: int) -> None:
        """Set a register."""
        self._registers[offset // 4] = value

    def read_all(self, offset: int, count: int) -> Words:
        """One register, `count` times."""
        registers, index = self._registers, offset // 4
        return np.array([registers[index] for _ in range(count)], np.uint32)

    def write_all(self, offset: int, values: Words) -> None:
        """One register, once with each value, in order."""
        registers, index = self._registers, offset // 4
        for value in values:
            registers[index] = value

    def now(self) -> float:
        """Seconds of a clock that only goes forward."""
        return time.monotonic()

    def pause(self, seconds: float) -> None:
        """Let time pass."""
        time.sleep(seconds)

    def close(self) -> None:
        """Give the page back."""
        del self._registers  # a map with a view cannot be closed
        self._map.close()


def _not_opened(path: Path, name: str, error: OSError) -> BoardError:
    message = f"{name}: cannot be opened ({error})"
    if isinstance(error, PermissionError):
        return BoardError(message, help="run it as root, with sudo")
    devices = ", ".join(sorted(str(each) for each in Path("/dev").glob("uio*"))) or "none"
    return BoardError(message, help=f"UIO devices of this machine: {devices}")
