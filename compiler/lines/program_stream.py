"""The program's words on their way to the unpacker's targets, as the cycle model follows them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from qcompile.compiler.lines.flash_pace import FlashPace
from qcompile.hw.lines.constants import SLOTS
from qcompile.hw.lines.flash_program import FlashTiming
from qcompile.hw.lines.program import LAYER_WORDS, MAX_PAYLOAD_WORDS, WEIGHTS_WAIT_AT, PacketKind
from qcompile.hw.lines.unpacker import CODES_A_WORD

FIRST_WORD = 1
"""Cycle in which a program memory's first word stands at the unpacker."""
STARTED = -1
"""Cycle of the stream's `start`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """Of a packet in front of a descriptor.

    Attributes
    ----------
    words, cycles : int
        How many, and what each takes.
    waits : bool
        Until nothing runs.
    """

    words: int
    cycles: int = 1
    waits: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Packets:
    """A layer's part of the program: what precedes the descriptor, and groups of constants.

    `words` are all of it, with the headers.
    """

    before: tuple[Payload, ...]
    groups: int
    words: int


def weight_payload(words: Sequence[int]) -> int:
    """Words of a program that are weights."""
    total = at = 0
    while at < len(words):
        header = words[at]
        count = header % MAX_PAYLOAD_WORDS + 1
        total += count if header >> 60 == PacketKind.WEIGHTS else 0
        at += 1 + count
    return total


def packets(words: Sequence[int]) -> list[Packets]:
    """The program, layer by layer."""
    layers: list[tuple[list[Payload], list[int]]] = []
    before: list[Payload] = []
    at = 0
    while at < len(words):
        header = words[at]
        kind, count = PacketKind(header >> 60), header % MAX_PAYLOAD_WORDS + 1
        at += 1 + count
        if kind == PacketKind.TABLE:
            before.append(Payload(words=count, cycles=CODES_A_WORD, waits=True))
        elif kind == PacketKind.ADD_TABLES:
            before.append(Payload(words=count, waits=True))
        elif kind == PacketKind.WEIGHTS:
            before.append(Payload(words=count, waits=bool(header >> WEIGHTS_WAIT_AT & 1)))
        elif kind == PacketKind.LAYER:
            layers.append((before, []))
            before = []
        elif kind == PacketKind.CONSTANTS:
            layers[-1][1].append(count)
    return [_packets(first, groups) for first, groups in layers]


def _packets(before: Sequence[Payload], groups: Sequence[int]) -> Packets:
    payloads = [*(payload.words for payload in before), LAYER_WORDS, *groups]
    words = sum(payloads) + len(payloads)
    return Packets(before=tuple(before), groups=len(groups), words=words)


class ProgramStream:
    """Words, packet after packet: from a program memory one a cycle, from a flash at its pace.

    Parameters
    ----------
    columns : int
        Words of a group of constants.
    flash : FlashTiming or None

    Attributes
    ----------
    time : int
        When the next word may be taken.
    room : int
        When the next descriptor may come: in the cycle of the last one's `begin`.
    idle : int
        When tables may come.
    releases : deque of int
        When the constants' FIFO has room for the next groups.
    """

    def __init__(self, columns: int, flash: FlashTiming | None) -> None:
        self.columns = columns
        self.time = FIRST_WORD
        self.room = 0
        self.idle = 0
        self.releases: deque[int] = deque([0] * SLOTS)
        self._pace = None if flash is None else FlashPace(flash)

    def descriptor(self, packets: Packets) -> int:
        """Take what precedes a layer, and its descriptor; from which cycle on it may begin."""
        for payload in packets.before:
            self._take(1)
            self._take(payload.words, self.idle if payload.waits else 0, cycles=payload.cycles)
        self._take(1)
        self._take(LAYER_WORDS, self.room)
        return self.time

    def group(self) -> int:
        """Take a group of constants; the cycle of its last word."""
        self._take(1)
        self._take(self.columns, self.releases.popleft())
        return self.time - 1

    def end(self) -> int:
        """Take the program's end; from which cycle on it is known."""
        self._take(2)
        return self.time

    def _take(self, words: int, earliest: int = 0, *, cycles: int = 1) -> None:
        """Words of so many cycles each; the first not before a cycle."""
        if self._pace is None:
            self.time = max(self.time, earliest) + words * cycles
            return
        for _ in range(words):
            begin = max(self.time, earliest, self._pace.comes() + STARTED)
            self.time = begin + cycles
            self._pace.taken(self.time - 1 - STARTED)
