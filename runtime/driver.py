"""The driver: a board's commands as functions, with retries, checks and clear errors.

The same code talks to a real board and to the simulated one; only the transport differs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from qcompile.runtime import layouts, protocol
from qcompile.runtime.artifact import Artifact
from qcompile.runtime.errors import BoardError
from qcompile.runtime.protocol import (
    ALL_LAYERS,
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

WORDS_A_FRAME = 1024
RETRIES = 4
REPLY_SECONDS = 0.25
"""How long a reply may take to begin: a USB serial port adds up to 20 ms in each direction."""
RESYNC_SECONDS = protocol.FRAME_TIMEOUT_SECONDS * 1.2
"""After this silence the board has dropped a half frame."""

CORE_ERRORS = {
    CoreError.STREAM_CRC: "the program in flash is damaged (CRC of the stream)",
    CoreError.UNKNOWN_PACKET: "the program in flash holds a packet that it does not know",
    CoreError.FLASH_SILENT: "its flash does not answer",
}

Words = npt.NDArray[np.uint32]


class Board:
    """A board at the other end of a transport.

    Parameters
    ----------
    transport : Transport
    name : str
        How messages call it: the port.

    Attributes
    ----------
    retries : int
        Requests that were sent again so far.
    """

    def __init__(self, transport: Transport, *, name: str) -> None:
        self.transport = transport
        self.name = name
        self.retries = 0

    # -------------------------------------------------------------------------- commands

    def info(self) -> Info:
        """Which accelerator the bitstream holds."""
        payload = self._done(Command.INFO)
        try:
            return protocol.parse_info(payload)
        except FrameError as error:
            raise BoardError(
                f"{self.name}: {error}", help="program the board: qcompile flash DIR"
            ) from error

    def status(self) -> RunStatus:
        """State of the accelerator now; `cycles` may be torn while it runs."""
        return protocol.parse_status(self._done(Command.STATUS))

    def abort(self) -> None:
        """Reset the accelerator, in whatever it does; memory keeps its contents."""
        self._done(Command.ABORT)

    def start(self, program_address: int, *, stop_after: int = ALL_LAYERS) -> None:
        """Reset the accelerator and run the program at a byte address of the flash."""
        payload = protocol.start_payload(program_address, stop_after)
        for _ in range(RETRIES):
            self.abort()  # also undoes a START whose reply was lost
            reply = self._once(Command.START, payload)
            if reply is not None and reply.status == Status.OK:
                return
        raise self._silent(Command.START)

    def resume(self, *, stop_after: int = ALL_LAYERS) -> None:
        """Go on after a pause; `stop_after` counts from the program's start."""
        before = self.retries
        reply = self._request(Command.RESUME, protocol.resume_payload(stop_after))
        repeated = self.retries > before
        if reply.status != Status.OK and not (repeated and reply.status == Status.BUSY):
            raise self._refused(Command.RESUME, reply)

    def wait(self, timeout: float) -> RunStatus:
        """The status when the accelerator has stopped; BoardError after `timeout` seconds."""
        payload = self._done(Command.WAIT, patience=timeout, abort_late=True)
        return protocol.parse_status(payload)

    def write_memory(self, address: int, words: Words) -> None:
        """Write words from a memory address on."""
        for begin in range(0, len(words), WORDS_A_FRAME):
            part = words[begin : begin + WORDS_A_FRAME]
            payload = protocol.write_memory_payload(address + begin, part)
            self._done(Command.WRITE_MEMORY, payload)

    def read_memory(self, address: int, count: int) -> Words:
        """Read `count` words from a memory address on."""
        parts = []
        for begin in range(0, count, WORDS_A_FRAME):
            words = min(WORDS_A_FRAME, count - begin)
            payload = protocol.read_memory_payload(address + begin, words)
            parts.append(protocol.parse_words(self._done(Command.READ_MEMORY, payload)))
        return np.concatenate(parts) if parts else np.zeros(0, np.uint32)

    def read_flash(self, address: int, count: int) -> bytes:
        """Read `count` bytes, 65535 at most, of the flash."""
        reply = self._request(Command.READ_FLASH, protocol.read_flash_payload(address, count))
        if reply.status == Status.BUSY and self.status().error == CoreError.FLASH_SILENT:
            raise BoardError(
                f"{self.name}: its flash does not answer",
                help="disconnect the board, connect it again and program it: qcompile flash DIR",
            )
        if reply.status != Status.OK:
            raise self._refused(Command.READ_FLASH, reply)
        return reply.payload

    # -------------------------------------------------------------------------- checks

    def check(self, artifact: Artifact) -> Info:
        """Make sure that bitstream and program of the board are this build's; stops a run."""
        self.abort()
        info = self.info()
        reflash = f"program the board: qcompile flash {artifact.folder}"
        if info.version != protocol.PROTOCOL_VERSION:
            raise BoardError(
                f"{self.name}: the bitstream speaks protocol version {info.version},"
                f" not {protocol.PROTOCOL_VERSION}",
                help=reflash,
            )
        if info.configuration_id != artifact.header.configuration_id:
            raise BoardError(
                f"{self.name}: the bitstream on the board has another accelerator configuration",
                context=(
                    f"board: {info.configuration_id:08x}, {info.rows} x {info.columns}",
                    f"build: {artifact.header.configuration_id:08x}",
                ),
                help=reflash,
            )
        self._check_flash(artifact, reflash)
        return info

    def _check_flash(self, artifact: Artifact, reflash: str) -> None:
        data = self.read_flash(layouts.IMAGE_OFFSET, layouts.IMAGE_HEADER_BYTES)
        try:
            header = layouts.parse_image_header(data)
        except ValueError as error:
            raise BoardError(
                f"{self.name}: the board's flash holds no program ({error})", help=reflash
            ) from error
        if header.model_sha256 != artifact.model_sha256:
            raise BoardError(
                f"{self.name}: the board holds another model than {artifact.folder}",
                context=(
                    f"board: sha256 {header.model_sha256[:16]}...",
                    f"build: sha256 {artifact.model_sha256[:16]}... '{artifact.model_name}'",
                ),
                help=reflash,
            )
        if header != artifact.header:
            raise BoardError(
                f"{self.name}: the board holds '{artifact.model_name}' compiled in another way",
                context=(
                    f"board: program with CRC {header.program_crc:08x}",
                    f"build: program with CRC {artifact.header.program_crc:08x}",
                ),
                help=reflash,
            )

    def finished(self, status: RunStatus) -> RunStatus:
        """Check a status after a wait: DONE or PAUSED, else BoardError."""
        if status.state in (State.DONE, State.PAUSED):
            return status
        known = {int(code): text for code, text in CORE_ERRORS.items()}
        reason = known.get(status.error, f"state {status.state.name}, error {status.error}")
        raise BoardError(
            f"{self.name}: the accelerator stopped after {status.layers} layers: {reason}",
            help="program the board again: qcompile flash DIR",
        )

    # -------------------------------------------------------------------------- frames

    def write_all(self, parts: Sequence[tuple[int, Words]]) -> None:
        """Write several tensors; all again when a frame was damaged.

        A damaged frame may have written its words to a wrong address before its CRC told.
        """
        for _ in range(RETRIES):
            before = self.retries
            for address, words in parts:
                self.write_memory(address, words)
            if self.retries == before:
                return
        raise BoardError(
            f"{self.name}: the link damages too many frames ({self.retries} were sent again)",
            help="use a shorter or better cable",
        )

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
                raise BoardError(
                    f"{self.name}: the run did not end within {patience:g} s and was aborted",
                    help="try again; a board that does this always needs its bitstream anew",
                )
        raise self._silent(command)

    def _once(
        self, command: Command, payload: bytes, *, patience: float = REPLY_SECONDS
    ) -> Reply | None:
        """One try; None when the frame was damaged in either direction, or nothing came."""
        frame = protocol.request_frame(command, payload)
        line_seconds = 10 / protocol.BAUD
        self.transport.write(frame)
        try:
            header = self.transport.read(
                protocol.HEADER_BYTES, patience + len(frame) * line_seconds
            )
            following = protocol.reply_length(header)
            rest = self.transport.read(following, REPLY_SECONDS + following * line_seconds)
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
        self.transport.read(1 << 16, RESYNC_SECONDS)
        self.transport.drop_input()

    def _silent(self, command: Command) -> BoardError:
        return BoardError(
            f"{self.name}: the board does not answer {command.name}",
            context=(f"{RETRIES} tries at {protocol.BAUD} baud",),
            help="is it the right port, is the bitstream on the board? qcompile flash DIR",
        )

    def _refused(self, command: Command, reply: Reply) -> BoardError:
        known = {int(status): status.name for status in Status}
        return BoardError(
            f"{self.name}: the board refuses {command.name}:"
            f" {known.get(reply.status, reply.status)}",
            help="run again; a bitstream of another version needs qcompile flash DIR",
        )
