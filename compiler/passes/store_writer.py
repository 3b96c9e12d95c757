"""Writes a program anew so that its late weights go through the prefetch store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qcompile.compiler.passes.emit_program import Program, ProgramStream
from qcompile.hw import program as packets
from qcompile.hw.layouts import BANK_ADDRESS_BITS
from qcompile.hw.program import PacketKind

CHUNK = 128
"""Words that are recalled together."""
PACES = (9, 16)
"""How long a recall takes from the bank that the layer does not read, and from the one it reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Words that a gap of the stream has time for, and the bank that they should go to."""

    bank: int
    words: int


class StoreWriter:
    """One rewriting of a program.

    Words are those of memory and of the weight FIFO: 32 bits, one plain weight word or two packed
    ones, which is nothing to a store.
    The late weights are cut into chunks of `CHUNK` words, each with a place in the store. A place
    is used again when its chunk has been recalled, which is known once the next recall was
    accepted. Before the first recall every bank has at most one chunk that is not complete.

    Parameters
    ----------
    program : Program
    before : int
        Words of the stream's weights that stay as they are; those behind are late.
    readers : sequence of (words, bank)
        The layers of the late weights, with the bank that each reads.
    free : two ranges
        Words of each bank that the store may have.
    """

    def __init__(
        self,
        program: Program,
        before: int,
        readers: Sequence[tuple[int, int]],
        free: Sequence[range],
    ) -> None:
        self._program = program
        self._readers = readers
        self._free = [
            [
                bank << BANK_ADDRESS_BITS | word
                for word in room[::CHUNK]
                if word + CHUNK <= room.stop
            ]
            for bank, room in enumerate(free)
        ]
        self._late: list[int] = []
        self._first_word = len(program.words)
        weights = 0
        for kind, begin, end in program.packets():
            if kind == PacketKind.WEIGHTS:
                if weights >= before:
                    self._first_word = min(self._first_word, begin)
                    self._late += program.words[begin + 1 : end]
                weights += (end - begin - 1) // 2
        self._stream = ProgramStream()
        self._places: list[int] = []  # address of each chunk
        self._filled: list[int] = []  # words of each chunk that are stored
        self._recalled = 0  # chunks
        self._paced = 0  # sum of `PACES` over them

    @property
    def _late_words(self) -> int:
        return len(self._late) // 2

    def rewrite(self, rooms: Mapping[int, Sequence[Room]]) -> Program | None:
        """The new program; `rooms` by the word of the old one in front of which they are.

        Late weights that waited for room in the FIFO leave theirs in front of the first recall.
        None where less than two chunks can be stored before the first recall.
        """
        seen = 0
        for kind, begin, end in self._program.packets():
            if kind == PacketKind.END:
                break
            if kind == PacketKind.WEIGHTS and begin >= self._first_word:
                seen += (end - begin - 1) // 2
                if not self._recalled:
                    for word in sorted(word for word in rooms if word >= self._first_word):
                        self._fill_all(rooms[word])
                    if not self._begin():
                        return None
                while self._recalled * CHUNK < seen:
                    self._turn()
                continue
            before = begin < self._first_word
            cuts = [word for word in range(begin + 1, end) if word in rooms] if before else []
            self._copy(kind, begin, end, cuts, rooms)
        self._stream.add(packets.end_packet(self._stream.words))
        return self._stream.program()

    def _copy(
        self,
        kind: PacketKind,
        begin: int,
        end: int,
        cuts: list[int],
        rooms: Mapping[int, Sequence[Room]],
    ) -> None:
        """A packet as it was, with stores in front of it or, between weights, inside."""
        words = self._program.words
        start = begin + 1
        for cut in cuts:
            if cut > start:
                self._stream.add(packets.packet(kind, words[start:cut]))
                start = cut
            self._fill_all(rooms[cut])
        self._stream.add(packets.packet(kind, words[start:end]))

    def _fill_all(self, rooms: Sequence[Room]) -> None:
        for room in rooms:
            self._fill(room)

    def _fill(self, room: Room) -> None:
        """As many late weights as a gap has time for, into chunks of one bank."""
        left = room.words
        while left > 0:
            chunk = self._open_chunk(room.bank)
            if chunk is None:
                return
            left -= self._store(chunk, left)

    def _open_chunk(self, bank: int) -> int | None:
        """The chunk of a bank that is not complete, or a new one; None where there is no room."""
        for chunk, place in enumerate(self._places):
            if place >> BANK_ADDRESS_BITS == bank and self._filled[chunk] < self._size(chunk):
                return chunk
        return self._new_chunk([bank])

    def _new_chunk(self, banks: Sequence[int]) -> int | None:
        """The next chunk, with a place in the first of the banks that has one."""
        if len(self._places) * CHUNK >= self._late_words:
            return None
        for bank in banks:
            if self._free[bank]:
                self._places.append(self._free[bank].pop(0))
                self._filled.append(0)
                return len(self._places) - 1
        return None

    def _size(self, chunk: int) -> int:
        return min(CHUNK, self._late_words - chunk * CHUNK)

    def _store(self, chunk: int, most: int) -> int:
        """Up to `most` more words of a chunk; returns how many."""
        filled = self._filled[chunk]
        words = min(most, self._size(chunk) - filled)
        first = 2 * (chunk * CHUNK + filled)
        part = self._late[first : first + 2 * words]
        address = self._places[chunk] + filled
        self._stream.add(packets.packet(PacketKind.STORE, [address, *part]))
        self._filled[chunk] += words
        return words

    def _begin(self) -> bool:
        """Before the first recall: completes all chunks; False where there are less than two."""
        for chunk in range(len(self._places)):
            if self._filled[chunk] < self._size(chunk):
                self._store(chunk, CHUNK)
        self._first_words = sum(self._filled)
        return len(self._places) > 1

    def _turn(self) -> None:
        """Recalls the next chunk and stores a part of a later one.

        Stores are spread over the time of the recalls, so that flash and array both work to the
        end, and go to the bank that the running layer does not read, if they can.
        """
        turn = self._recalled
        other = 1 - self._reader(turn * CHUNK)
        while not self._is_complete(turn):
            self._advance(CHUNK, [other, 1 - other])
        self._stream.add(packets.recall_packet(self._places[turn], self._size(turn)))
        self._recalled += 1
        if turn:
            place = self._places[turn - 1]
            self._free[place >> BANK_ADDRESS_BITS].append(place)
        self._paced += PACES[self._places[turn] >> BANK_ADDRESS_BITS != other]
        rest = self._late_words - self._first_words
        share = min(rest, -(-2 * self._paced * CHUNK * rest // (sum(PACES) * self._late_words)))
        while (wanted := self._first_words + share - sum(self._filled)) > 0:
            if not self._advance(wanted, [other]):
                break

    def _is_complete(self, chunk: int) -> bool:
        return chunk < len(self._places) and self._filled[chunk] == self._size(chunk)

    def _advance(self, most: int, banks: Sequence[int]) -> bool:
        """Stores more of the newest chunk, or of a new one in `banks`; False: no place there."""
        chunk: int | None = len(self._places) - 1
        if chunk is None or self._is_complete(chunk):
            chunk = self._new_chunk(banks)
        if chunk is None:
            return False
        self._store(chunk, most)
        return True

    def _reader(self, weight: int) -> int:
        """The bank that the layer of a late weight reads."""
        for words, bank in self._readers:
            if weight < words:
                return bank
            weight -= words
        raise ValueError("no layer has this weight")
