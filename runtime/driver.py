"""The driver: is the board what a build needs, and did its run end well."""

from __future__ import annotations

from qcompile.runtime import layouts, protocol
from qcompile.runtime.artifact import Artifact
from qcompile.runtime.errors import BoardError
from qcompile.runtime.link import Link
from qcompile.runtime.multiply_test import check_multipliers
from qcompile.runtime.protocol import CoreError, Info, RunStatus, State

LOAD_SECONDS = 1.0
"""Within which weights that stay have come: 500 KB at 1 MB/s, for a slow flash."""
CORE_ERRORS = {
    CoreError.STREAM_CRC: "the program in flash is damaged (CRC of the stream)",
    CoreError.UNKNOWN_PACKET: "the program in flash holds a packet that it does not know",
    CoreError.FLASH_SILENT: "its flash does not answer",
}


class Board:
    """A board at the other end of a link.

    Parameters
    ----------
    link : Link

    Attributes
    ----------
    name : str
        How messages call it: the port.
    """

    def __init__(self, link: Link) -> None:
        self.link = link
        self.name = link.name
        self._multiplies = False  # known to, since the multiply self-test passed

    def check(self, artifact: Artifact) -> Info:
        """Make sure that bitstream and program of the board are this build's; stops a run.

        The first time, the build's multiply self-test runs, where it has one. Weights that stay in
        the array's memory are brought there.
        """
        self.link.abort()
        info = self.link.info()
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
        if artifact.multiply_test is not None and not self._multiplies:
            check_multipliers(self.link, artifact, artifact.multiply_test)
            self._multiplies = True
        if artifact.load_address is not None:
            self.link.start(artifact.load_address)
            self.finished(self.link.wait(LOAD_SECONDS))
        return info

    def _check_flash(self, artifact: Artifact, reflash: str) -> None:
        address = layouts.image_address(artifact.program_address)
        data = self.link.read_flash(address, layouts.IMAGE_FIELD_BYTES)
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

    def finished(self, status: RunStatus, *, running: bool = False) -> RunStatus:
        """Check a status after a wait: DONE or PAUSED (or RUNNING), else BoardError."""
        if status.state in (State.DONE, State.PAUSED) or (
            running and status.state == State.RUNNING
        ):
            return status
        known = {int(code): text for code, text in CORE_ERRORS.items()}
        reason = known.get(status.error, f"state {status.state.name}, error {status.error}")
        raise BoardError(
            f"{self.name}: the accelerator stopped after {status.layers} layers: {reason}",
            help="program the board again: qcompile flash DIR",
        )
