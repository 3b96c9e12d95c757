"""Where `quantize` and `requantize` write their model."""

from __future__ import annotations

from pathlib import Path

from qcompile.compiler.errors import InputError


def check_model_output(output: Path, model: Path) -> None:
    """Refuse, before any work, an output that could not be written, or would replace `model`.

    Only a file is replaced: writing renames, which would take a device or a pipe away.
    """
    if not output.parent.is_dir():
        raise InputError(f"{output}: its folder does not exist", help="make it first")
    if output.is_dir():
        raise InputError(f"{output}: is a folder", help="give a file's name")
    if output.exists() and not output.is_file():
        raise InputError(f"{output}: is a device or a pipe", help="give a file's name")
    if output.exists() and model.exists() and output.samefile(model):
        raise InputError(f"{output}: is the model itself", help="give another name")
