"""A cluster on this host, started as an operator starts it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Final

from cluster.coordination.registry import Address
from deploy import compose
from deploy.overrides import Overrides

if TYPE_CHECKING:
    from pathlib import Path

    from cluster.coordination.registry import Member

_READY_TIMEOUT_S: Final = 60.0
_END_TIMEOUT_S: Final = 30.0


class HostFailed(Exception):
    """The cluster did not do what a host's cluster does; the message says what."""


class Host:
    """`atria up` in a folder of its own, on free ports.

    Parameters
    ----------
    data : Path
        Its data folder. Its log, and sites that are moved away, are beside it.
    """

    def __init__(self, data: Path) -> None:
        self.settings = Overrides(data=data).settings()
        self.dicom = Address("", 0)
        self._data = data
        self._log = data.with_name(f"{data.name}.log")
        self._away = data.with_name(f"{data.name}-away")
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> float:
        """Start it, and return after how many seconds it was ready.

        Raises
        ------
        HostFailed
        """
        clock = asyncio.get_running_loop().time
        began = clock()
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "deploy.command.main", "up", "--json", f"--data={self._data}"),
                *("--dicom-port=0", "--http-port=0"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        assert self._process.stdout is not None
        line = b""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_READY_TIMEOUT_S):
                line = await self._process.stdout.readline()
        if not line:
            said = self._log.read_text("utf-8", "replace").strip() or "it said nothing"
            raise HostFailed(f"not ready after {clock() - began:.0f} s: {said.splitlines()[-1]}")
        place = json.loads(line)["dicom"]
        self.dicom = Address(place["host"], place["port"])
        return clock() - began

    async def end(self) -> int:
        """Send SIGINT, as Ctrl-C does, and return the exit code; SIGKILL when that takes too long."""
        if self._process is None:
            return 0
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGINT)
            try:
                async with asyncio.timeout(_END_TIMEOUT_S):
                    return await self._process.wait()
            except TimeoutError:
                self._process.kill()
        return await self._process.wait()

    async def workers(self) -> list[Member]:
        """Return the workers that are there."""
        return await compose.registry(self.settings).members("worker")

    def kill(self, worker: Member) -> None:
        """End a worker by SIGKILL."""
        os.kill(worker.pid, signal.SIGKILL)

    async def until_replaced(self, dead: Member, timeout_s: float) -> Member:
        """Wait until another process has a dead worker's name.

        Raises
        ------
        HostFailed
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                async for members in compose.registry(self.settings).watch():
                    for member in members:
                        if (member.kind, member.name) == (dead.kind, dead.name) and member.pid != dead.pid:
                            return member
        raise HostFailed(f"{dead.name} was not started again within {timeout_s:g} s")

    def take_away(self, site: str) -> None:
        """Move a site's folder away, objects and catalogue, while the cluster runs."""
        self._away.mkdir(exist_ok=True)
        self._folder(site).rename(self._away / site)

    def put_back(self, site: str) -> None:
        """Move a site's folder back."""
        (self._away / site).rename(self._folder(site))

    def _folder(self, site: str) -> Path:
        return next(one.objects_folder.parent for one in self.settings.sites if one.name == site)
