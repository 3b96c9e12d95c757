"""Loads a Zynq's bitstream from the Linux that runs on its own processor.

The kernel's FPGA manager takes a file of /lib/firmware by its name. It wants the configuration data
of top.bit without the file's header, the bytes of every 32-bit word swapped (Linux,
drivers/fpga/zynq-fpga.c).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from qcompile.runtime.artifact import XC7_BITSTREAM, Artifact
from qcompile.runtime.errors import BoardError

FIRMWARE = Path("/lib/firmware")
MANAGER = Path("/sys/class/fpga_manager/fpga0")
NAME = "qcompile.bin"
SYNC = bytes.fromhex("aa995566")
"""Begins the configuration (Xilinx UG470, "7 Series FPGAs Configuration")."""
DATA_FIELD = ord("e")
"""Key of the field that holds the configuration data; the fields before have 16-bit lengths."""
PREFIX_BYTES = 13
"""Of a .bit file before its first field's key."""


def configuration_data(bitstream: bytes) -> bytes:
    """The configuration data of a .bit file; ValueError where it is none."""
    at = PREFIX_BYTES
    while at < len(bitstream) and bitstream[at] != DATA_FIELD:
        at += 3 + int.from_bytes(bitstream[at + 1 : at + 3], "big")
    length = int.from_bytes(bitstream[at + 1 : at + 5], "big")
    data = bitstream[at + 5 : at + 5 + length]
    if not length or len(data) != length or length % 4 or SYNC not in data:
        raise ValueError("no bitstream of a 7-series device")
    return data


def load(artifact: Artifact, *, firmware: Path = FIRMWARE, manager: Path = MANAGER) -> None:
    """Configure the programmable logic with the build's top.bit; needs the rights of root."""
    path = artifact.part(XC7_BITSTREAM)
    try:
        data = configuration_data(path.read_bytes())
    except ValueError as error:
        raise BoardError(f"{path}: {error}", help="make the bitstream again") from error
    if not manager.is_dir():
        raise BoardError(
            f"{manager}: this machine has no FPGA manager",
            help="run this on the board's own processor, under a Linux with CONFIG_FPGA",
        )
    try:
        (firmware / NAME).write_bytes(np.frombuffer(data, ">u4").astype("<u4").tobytes())
        (manager / "flags").write_text("0")
        (manager / "firmware").write_text(NAME)
        state = (manager / "state").read_text().strip()
    except OSError as error:
        raise BoardError(
            f"{manager}: the bitstream cannot be loaded ({error})", help="run it with sudo"
        ) from error
    if state != "operating":
        raise BoardError(
            f"{manager}: the bitstream was not taken: state '{state}'",
            help="`dmesg` tells why; is top.bit made for this device?",
        )
