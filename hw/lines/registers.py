"""The registers that a layer's descriptor fills, shared by feeder, weights and drain."""

from __future__ import annotations

from amaranth.lib import data

from qcompile.hw.lines.program import FIELDS, WORD_BITS, Flag

Flags = data.StructLayout({flag.name.lower(): 1 for flag in Flag})
"""In the order of `program.Flag`."""


def _members() -> dict[str | int, data.Field]:
    members: dict[str | int, data.Field] = {}
    for number, fields in enumerate(FIELDS):
        at = WORD_BITS * number
        for name, bits in fields:
            members[name] = data.Field(Flags if name == "flags" else bits, at)
            at += bits
    return members


LayerRegisters = data.FlexibleLayout(WORD_BITS * len(FIELDS), _members())
"""All words of a descriptor, the first one lowest."""
