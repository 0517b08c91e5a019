"""The sites' own servers as the supervisor keeps them: `atria up --sites minio --catalogue postgresql`."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING, Final

import structlog

from deploy import making, own_servers, record
from deploy.child import Child
from deploy.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cluster.settings import Settings
    from deploy.server import Server

_READY_TIMEOUT_S: Final = 15.0
"""How long the start waits for the servers: it goes on with those that are there."""
_STOP_TIMEOUT_S: Final = 15.0
_POLL_S: Final = 0.05

log = structlog.get_logger()


class SiteServers:
    """Starts the servers before, and ends them after, everything that uses them; restarts those that die.

    Parameters
    ----------
    settings : Settings
    servers : mapping of str to Server
        By their names.
    """

    def __init__(self, settings: Settings, servers: Mapping[str, Server]) -> None:
        self._settings = settings
        self._servers = {_child(settings, name, server): server for name, server in servers.items()}

    async def start(self, group: asyncio.TaskGroup) -> None:
        """Start them, and make the sites that they are for, unless that was done before.

        Raises
        ------
        UserError
            A new cluster's sites cannot be made.
        """
        if not self._servers:
            return
        made = record.is_whole(self._settings)
        for child, server in self._servers.items():
            try:
                await asyncio.to_thread(server.make_data)
            except (OSError, UserError) as error:  # its disk is lost: the others may do
                if not made:
                    raise UserError(f"{child.name}: {error}") from error
                log.warning("site.folder_not_made", name=child.name, reason=str(error))
            group.create_task(child.keep())
        if made:  # then the cluster can do without one of them, which may come back
            self._note_started()
        if missing := await self._missing():
            log.warning("cluster.servers_missing", names=missing, waited_s=_READY_TIMEOUT_S)
            if not made:
                raise UserError(
                    f"{', '.join(missing)} did not become ready: see {self._settings.logs_folder}"
                )
        if not made:
            names = {site.name for site in self._settings.sites}
            for said in await asyncio.to_thread(making.init, self._settings, names):
                log.warning("site.used", why=said)
            self._note_started()

    async def stop(self) -> None:
        """Ask them to end, and wait for that."""
        async with asyncio.TaskGroup() as group:
            for child in self._servers:
                group.create_task(child.stop(_STOP_TIMEOUT_S))

    def kill(self) -> None:
        """End them at once."""
        for child in self._servers:
            child.kill()

    async def _missing(self) -> list[str]:
        """Wait for all, and return the names of those that were not ready in time."""
        missing = dict(self._servers)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_READY_TIMEOUT_S):
                while missing:
                    for child, server in list(missing.items()):
                        if await server.is_ready():
                            del missing[child]
                    await asyncio.sleep(_POLL_S)
        return [child.name for child in missing]

    def _note_started(self) -> None:
        for child in self._servers:
            child.has_started()


def _child(settings: Settings, name: str, server: Server) -> Child:
    return Child(
        name,
        server.command,
        settings.logs_folder / f"{name}.log",
        environment=server.environment(),
        account=server.account,
        pid_file=own_servers.pid_file(settings, name),
        stop_signal=server.STOP_SIGNAL,
        # One that outlived us, stopped or hanging, would be at the drive beside the next one.
        orphan_signal=signal.SIGKILL,
    )
