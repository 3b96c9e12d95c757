"""Verilog of an array of lines for simulation, cached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from qcompile.compiler import toolchain
from qcompile.compiler.hardware import Progress, cached_folder, write_whole
from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.lines.flash_program import FlashTiming


def accelerator_verilog(
    config: LinesConfig, source: int | FlashTiming, progress: Progress
) -> bytes:
    """Module `accelerator`, whose program and weights come through its ports, or from a flash."""
    with cached_folder("lines-core", config, str(source), progress) as folder:
        path = folder / "accelerator.v"
        if not path.exists():
            toolchain.warm_tools(progress)
            progress("write the accelerator's Verilog")
            write_whole(path, _convert(config, source).encode())
        return path.read_bytes()


def _convert(config: LinesConfig, source: int | FlashTiming) -> str:
    from amaranth.back import verilog

    from qcompile.hw.lines.accelerator import LinesAccelerator

    with toolchain.activated_tools():
        core = LinesAccelerator(config, source)
        return verilog.convert(core, name="accelerator", emit_src=False)


def config_of(record: Mapping[str, Any]) -> LinesConfig:
    """The configuration that a manifest holds."""
    return LinesConfig(**{each.name: record[each.name] for each in fields(LinesConfig)})
