"""The link through frames on a serial line, with retries: `hw/host_link.py` is its other end.

The same code talks to a real board and to the simulated one; only the transport differs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qcompile.runtime import protocol
from qcompile.runtime.errors import BoardError
from qcompile.runtime.link import Words, overdue, refused, silent_flash
from qcompile.runtime.protocol import (
    ALL_LAYERS,
    PARTIAL_WRITES,
    Command,
    CoreError,
    FrameError,
    Info,
    Reply,
    RunStatus,
    State,
    Status,
)
from qcompile.runtime.transport import Transport

BEATS_A_FRAME = 1024
WRITES = {beats: command for command, beats in PARTIAL_WRITES.items()}
RETRIES = 4
REPLY_SECONDS = 0.25
"""How long a reply may take to begin: a USB serial port adds up to 20 ms in each direction."""
RESYNC_SECONDS = protocol.FRAME_TIMEOUT_SECONDS * 1.2
"""After this silence the board has dropped a half frame."""


class SerialLink:
    """A `Link` whose commands are frames, sent again where they were damaged.

    Parameters
    ----------
    transport : Transport
    name : str
        How messages call the board: the port.

    Attributes
    ----------
    retries : int
        Requests that were sent again so far.
    """

    def __init__(self, transport: Transport, *, name: str) -> None:
        self.name = name
        self.retries = 0
        self._transport = transport
        self._beats = 0  # of a memory word; INFO tells

    def info(self) -> Info:
        """See `Link`."""
        payload = self._done(Command.INFO)
        try:
            info = protocol.parse_info(payload)
        except FrameError as error:
            raise BoardError(
                f"{self.name}: {error}", help="program the board: qcompile flash DIR"
            ) from error
        self._beats = info.beats
        return info

    def status(self) -> RunStatus:
        """See `Link`."""
        return protocol.parse_status(self._done(Command.STATUS))

    def abort(self) -> None:
        """See `Link`."""
        self._done(Command.ABORT)

    def start(self, program_address: int, *, stop_after: int = ALL_LAYERS) -> None:
        """See `Link`."""
        payload = protocol.start_payload(program_address, stop_after)
        for _ in range(RETRIES):
            self.abort()  # also undoes a START whose reply was lost
            reply = self._once(Command.START, payload)
            if reply is not None and reply.status == Status.OK:
                return
        raise self._silent(Command.START)

    def resume(self, *, stop_after: int = ALL_LAYERS) -> None:
        """See `Link`."""
        before = self.retries
        reply = self._request(Command.RESUME, protocol.resume_payload(stop_after))
        repeated = self.retries > before
        if reply.status != Status.OK and not (repeated and reply.status == Status.BUSY):
            raise self._refused(Command.RESUME, reply)

    def wait(self, timeout: float) -> RunStatus:
        """See `Link`."""
        payload = self._done(Command.WAIT, patience=timeout, abort_late=True)
        return protocol.parse_status(payload)

    def write_all(self, parts: Sequence[tuple[int, Words]]) -> None:
        """See `Link`; all again when a frame was damaged.

        A damaged frame may have written its words to a wrong address before its CRC told.
        """
        for _ in range(RETRIES):
            before = self.retries
            for address, words in parts:
                self._write_memory(address, words)
            if self.retries == before:
                return
        raise BoardError(
            f"{self.name}: the link damages too many frames ({self.retries} were sent again)",
            help="use a shorter or better cable",
        )

    def read_memory(self, address: int, count: int) -> Words:
        """See `Link`."""
        parts = []
        beats = self._word_beats()
        step = BEATS_A_FRAME // beats
        for begin in range(0, count, step):
            words = min(step, count - begin)
            payload = protocol.read_memory_payload(address + begin, words * beats)
            parts.append(protocol.parse_words(self._done(Command.READ_MEMORY, payload)))
        return np.concatenate(parts) if parts else np.zeros(0, np.uint32)

    def read_flash(self, address: int, count: int) -> bytes:
        """See `Link`."""
        reply = self._request(Command.READ_FLASH, protocol.read_flash_payload(address, count))
        if reply.status == Status.BUSY and self.status().error == CoreError.FLASH_SILENT:
            raise silent_flash(self.name)
        if reply.status != Status.OK:
            raise self._refused(Command.READ_FLASH, reply)
        return reply.payload

    def close(self) -> None:
        """See `Link`."""
        self._transport.close()

    def _word_beats(self) -> int:
        """Beats of a memory word."""
        return self._beats or self.info().beats

    def _write_memory(self, address: int, words: Words) -> None:
        """Whole words from a memory address on; beats that are zero in all of them stay here."""
        by_word = words.reshape(-1, self._word_beats())
        sent = 1 + int(np.flatnonzero(by_word.any(axis=0)).max(initial=0))
        command = WRITES[sent] if sent < by_word.shape[1] else Command.WRITE_MEMORY
        step = BEATS_A_FRAME // sent
        for begin in range(0, len(by_word), step):
            part = by_word[begin : begin + step, :sent].reshape(-1)
            self._done(command, protocol.write_memory_payload(address + begin, part))

    def _done(
        self,
        command: Command,
        payload: bytes = b"",
        *,
        patience: float = REPLY_SECONDS,
        abort_late: bool = False,
    ) -> bytes:
        """Payload of the reply to a request that must succeed."""
        reply = self._request(command, payload, patience=patience, abort_late=abort_late)
        if reply.status != Status.OK:
            raise self._refused(command, reply)
        return reply.payload

    def _request(
        self,
        command: Command,
        payload: bytes = b"",
        *,
        patience: float = REPLY_SECONDS,
        abort_late: bool = False,
    ) -> Reply:
        """Send a request until a whole reply comes that is not about a damaged frame."""
        for _ in range(RETRIES):
            reply = self._once(command, payload, patience=patience)
            if reply is not None:
                return reply
            if abort_late and self.status().state == State.RUNNING:
                self.abort()
                raise overdue(self.name, patience)
        raise self._silent(command)

    def _once(
        self, command: Command, payload: bytes, *, patience: float = REPLY_SECONDS
    ) -> Reply | None:
        """One try; None when the frame was damaged in either direction, or nothing came."""
        frame = protocol.request_frame(command, payload)
        line_seconds = 10 / protocol.BAUD
        self._transport.write(frame)
        try:
            header = self._transport.read(
                protocol.HEADER_BYTES, patience + len(frame) * line_seconds
            )
            following = protocol.reply_length(header)
            rest = self._transport.read(following, REPLY_SECONDS + following * line_seconds)
            reply = protocol.parse_reply(header + rest)
        except FrameError:
            reply = None
        if reply is not None and reply.status != Status.BAD_CRC:
            return reply
        self.retries += 1
        if reply is None:
            self._resynchronize()
        return None

    def _resynchronize(self) -> None:
        """Wait until the board has dropped a half frame, and forget a half reply."""
        self._transport.read(1 << 16, RESYNC_SECONDS)
        self._transport.drop_input()

    def _silent(self, command: Command) -> BoardError:
        return BoardError(
            f"{self.name}: the board does not answer {command.name}",
            context=(f"{RETRIES} tries at {protocol.BAUD} baud",),
            help="is it the right port, is the bitstream on the board? qcompile flash DIR",
        )

    def _refused(self, command: Command, reply: Reply) -> BoardError:
        known = {int(status): status.name for status in Status}
        return refused(self.name, command.name, known.get(reply.status, reply.status))
