"""The registers of the real AXI link, simulated: what `MappedRegisters` is on a board."""

from __future__ import annotations

import socket
import struct
import tempfile
from pathlib import Path
from threading import Thread

import numpy as np

from qcompile.runtime.layouts import IMAGE_OFFSET
from qcompile.runtime.link import Words
from sim_tests.hw import axi_board, cosim

ACCESS = "<BHI"
START_SECONDS = 120
"""Real time until the simulator must have connected."""


class SimulatedRegisters:
    """A simulation of `axi_board` as `register_link.Registers`; time passes in accesses and pauses.

    Parameters
    ----------
    simulation : cosim.Simulation
    folder : Path
        Where the simulator runs.
    image : bytes
        What the flash holds from IMAGE_OFFSET on.
    seed : int
    """

    def __init__(
        self, simulation: cosim.Simulation, folder: Path, image: bytes, *, seed: int
    ) -> None:
        self._paused = 0.0
        self._failure: BaseException | None = None
        flash = folder / "flash.bin"
        flash.write_bytes(image)
        self._sockets = tempfile.TemporaryDirectory(prefix="qcompile-")  # short: 108 bytes at most
        path = f"{self._sockets.name}/board"

        def simulate() -> None:
            try:
                cosim.run_module(
                    simulation,
                    "sim_tests.hw.register_server",
                    folder,
                    seed=seed,
                    environment={"QCOMPILE_SOCKET": path},
                    plusargs=axi_board.flash_arguments(flash, IMAGE_OFFSET),
                )
            except (Exception, SystemExit) as error:
                self._failure = error

        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen(1)
            listener.settimeout(START_SECONDS)
            self._thread = Thread(target=simulate, daemon=True)
            self._thread.start()
            self._connection, _ = listener.accept()
        self._file = self._connection.makefile("rwb")

    def read(self, offset: int) -> int:
        """A register."""
        return int(self.read_all(offset, 1)[0])

    def write(self, offset: int, value: int) -> None:
        """Set a register."""
        self.write_all(offset, np.array([value], np.uint32))

    def read_all(self, offset: int, count: int) -> Words:
        """One register, `count` times."""
        return np.frombuffer(self._ask("R", offset, count, answer=4 * count), "<u4")

    def write_all(self, offset: int, values: Words) -> None:
        """One register, once with each value, in order."""
        self._ask("W", offset, len(values), values.astype("<u4").tobytes())

    def now(self) -> float:
        """Seconds of pauses so far; accesses are short."""
        return self._paused

    def pause(self, seconds: float) -> None:
        """Let simulated time pass."""
        self._ask("P", 0, round(seconds * 1e9))
        self._paused += seconds

    def close(self) -> None:
        """End the simulation; it fails where the flash reports a violation."""
        self._file.write(struct.pack(ACCESS, ord("E"), 0, 0))
        self._file.close()
        self._connection.close()
        self._thread.join()
        self._sockets.cleanup()
        if self._failure is not None:
            raise AssertionError("the simulation failed") from self._failure

    def _ask(self, kind: str, offset: int, count: int, data: bytes = b"", answer: int = 1) -> bytes:
        self._file.write(struct.pack(ACCESS, ord(kind), offset, count) + data)
        self._file.flush()
        answered = self._file.read(answer)
        assert len(answered) == answer, f"the simulation ended: {self._failure}"
        return answered
