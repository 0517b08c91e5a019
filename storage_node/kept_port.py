"""A worker's port, which it has again after each start: there balancers find it though nobody tells them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from cluster.durable import replace_durably

if TYPE_CHECKING:
    from pathlib import Path

    from cluster.dicom.acceptor import Acceptor

log = structlog.get_logger()


class KeptPort:
    """The port that one worker had last.

    Parameters
    ----------
    file : Path
        Where it is kept; its folder is made if it is not there.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    async def listen(self, acceptor: Acceptor, host: str) -> tuple[str, int]:
        """Have an acceptor listen at that port, or at a free one where somebody else has it, and keep it.

        Raises
        ------
        OSError
            No port can be had.
        """
        former = self._former()
        try:
            place = await acceptor.listen(host, former)
        except OSError:
            if former == 0:
                raise
            place = await acceptor.listen(host, 0)
        if place[1] != former:
            self._keep(place[1])
        return place

    def _former(self) -> int:
        try:
            port = int(self._file.read_text("ascii"))
        except (OSError, ValueError):  # it has not run before, or not to the end
            return 0
        return port if 0 < port < 65536 else 0

    def _keep(self, port: int) -> None:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            replace_durably(self._file, f"{port}\n")
        except OSError as error:  # it serves all the same
            log.warning("worker.port_not_kept", file=str(self._file), why=error.strerror)
