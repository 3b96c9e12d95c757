"""The link through registers (docs/architecture.md section 6): for a processor beside the array."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from qcompile.runtime import protocol
from qcompile.runtime.errors import BoardError
from qcompile.runtime.link import Words, overdue, refused, silent_flash
from qcompile.runtime.protocol import (
    ALL_LAYERS,
    FLASH_DATA_VALID,
    Control,
    CoreError,
    FrameError,
    Info,
    Register,
    RunStatus,
    State,
    Status,
)

QUICK_LOOKS = 100
"""At a run, one after the other: many runs take less than a pause."""
POLL_SECONDS = 1e-5
"""Between two looks at a run from then on."""
FLASH_SECONDS = 0.25
"""How long the flash's next bytes may take."""


class Registers(Protocol):
    """32-bit registers at byte offsets; times are the board's own, in seconds."""

    def read(self, offset: int) -> int:
        """A register."""
        ...

    def write(self, offset: int, value: int) -> None:
        """Set a register."""

    def read_all(self, offset: int, count: int) -> Words:
        """One register, `count` times."""
        ...

    def write_all(self, offset: int, values: Words) -> None:
        """One register, once with each value, in order."""

    def now(self) -> float:
        """A clock that only goes forward."""
        ...

    def pause(self, seconds: float) -> None:
        """Let time pass."""

    def close(self) -> None:
        """End the use of the registers."""


class RegisterLink:
    """A `Link` whose commands are accesses to registers; nothing is written before INFO is right.

    Parameters
    ----------
    registers : Registers
    name : str
        How messages call the board: the port.
    """

    def __init__(self, registers: Registers, *, name: str) -> None:
        self.name = name
        self._registers = registers
        self._beats = self.info().beats
        registers.write(Register.RESULT, 0)

    def info(self) -> Info:
        """See `Link`."""
        try:
            return protocol.parse_info(self._payload(Register.INFO, 4))
        except FrameError as error:
            raise BoardError(
                f"{self.name}: no accelerator answers there",
                context=(str(error),),
                help="load the board's bitstream; is it the address of its registers?",
            ) from error

    def status(self) -> RunStatus:
        """See `Link`; `cycles` is read behind the state, so it is final where that is."""
        return protocol.parse_status(self._payload(Register.STATUS, 2))

    def abort(self) -> None:
        """See `Link`."""
        self._command(Control.ABORT)

    def start(self, program_address: int, *, stop_after: int = ALL_LAYERS) -> None:
        """See `Link`."""
        self.abort()
        self._registers.write(Register.PROGRAM_ADDRESS, program_address)
        self._registers.write(Register.STOP_AFTER, stop_after)
        self._command(Control.START)

    def resume(self, *, stop_after: int = ALL_LAYERS) -> None:
        """See `Link`."""
        self._registers.write(Register.STOP_AFTER, stop_after)
        self._command(Control.RESUME)

    def lift_pause(self) -> None:
        """See `QueueLink`; a run that still comes to the pause passes it."""
        self._registers.write(Register.STOP_AFTER, ALL_LAYERS)
        if self.status().state == State.PAUSED:
            self._command(Control.RESUME)

    def wait(self, timeout: float, *, layers: int = ALL_LAYERS) -> RunStatus:
        """See `QueueLink`."""
        end = self._registers.now() + timeout
        looks = 0
        while True:
            late = self._registers.now() >= end
            status = self.status()
            if status.state != State.RUNNING or status.layers >= layers:
                return status
            if late:
                self.abort()
                raise overdue(self.name, timeout)
            looks += 1
            if looks > QUICK_LOOKS:
                self._registers.pause(POLL_SECONDS)

    def write_all(self, parts: Sequence[tuple[int, Words]]) -> None:
        """See `Link`."""
        for address, words in parts:
            self._registers.write(Register.MEMORY_ADDRESS, address)
            self._registers.write_all(Register.MEMORY_DATA, words)
        self._check("WRITE_MEMORY")

    def read_memory(self, address: int, count: int) -> Words:
        """See `Link`."""
        self._registers.write(Register.MEMORY_ADDRESS, address)
        words = self._registers.read_all(Register.MEMORY_DATA, count * self._beats)
        self._check("READ_MEMORY")
        return words

    def read_flash(self, address: int, count: int) -> bytes:
        """See `Link`."""
        if self.status().error == CoreError.FLASH_SILENT:
            raise silent_flash(self.name)
        self._registers.write(Register.PROGRAM_ADDRESS, address)
        self._command(Control.READ_FLASH)
        data = b"".join(self._flash_word() for _ in range(-(-count // 2)))
        self._command(Control.END_FLASH)
        return data[:count]

    def close(self) -> None:
        """See `Link`."""
        self._registers.close()

    def _payload(self, offset: int, registers: int) -> bytes:
        values = [self._registers.read(offset + 4 * index) for index in range(registers)]
        return np.array(values, "<u4").tobytes()

    def _flash_word(self) -> bytes:
        """The next two bytes."""
        end = self._registers.now() + FLASH_SECONDS
        while True:
            late = self._registers.now() >= end
            value = self._registers.read(Register.FLASH_DATA)
            if value & FLASH_DATA_VALID:
                return struct.pack("<H", value & 0xFFFF)
            if late:
                self._command(Control.END_FLASH)
                raise silent_flash(self.name)

    def _command(self, command: Control) -> None:
        self._registers.write(Register.CONTROL, command)
        self._check(command.name or str(command))

    def _check(self, command: str) -> None:
        """BoardError where something since the last check was refused."""
        result = self._registers.read(Register.RESULT)
        if result == Status.OK:
            return
        self._registers.write(Register.RESULT, 0)
        known = {int(status): status.name for status in Status}
        raise refused(self.name, command, known.get(result, result))
