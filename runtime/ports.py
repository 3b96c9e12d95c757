"""What `--port` names: a serial port, a UIO device, or an address of this machine."""

from __future__ import annotations

from pathlib import Path

from qcompile.runtime.errors import BoardError
from qcompile.runtime.link import Link
from qcompile.runtime.mapped_registers import MappedRegisters
from qcompile.runtime.options import shown
from qcompile.runtime.register_link import RegisterLink
from qcompile.runtime.serial_link import SerialLink
from qcompile.runtime.transport import SerialTransport

MEMORY = Path("/dev/mem")
ADDRESS_LIMIT = 1 << 63
"""Offsets in a file are below."""


def open_link(port: str) -> Link:
    """The link to the board at a port; BoardError where there is none."""
    kind, _, place = port.partition(":")
    if kind == "uio":
        return _register_link(MappedRegisters(Path(place), name=port), port)
    if kind == "mem":
        registers = MappedRegisters(MEMORY, offset=_address(place, port), name=port)
        return _register_link(registers, port)
    return SerialLink(SerialTransport(port), name=port)


def _register_link(registers: MappedRegisters, port: str) -> Link:
    try:
        return RegisterLink(registers, name=port)
    except BoardError:
        registers.close()
        raise


def _address(text: str, port: str) -> int:
    try:
        address = int(text, 0)
    except ValueError:
        address = -1
    if not 0 <= address < ADDRESS_LIMIT:
        raise BoardError(f"{shown(port)}: is no address", help="write it as mem:0x43C00000")
    return address
