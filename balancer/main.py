"""The balancer process."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
from datetime import UTC, datetime

import structlog

from balancer.front_door import FrontDoor
from cluster.coordination.registry import Address, Member, Registry
from cluster.http import Pages, StatusServer
from cluster.settings import Settings
from cluster.settings.live import LiveSettings

log = structlog.get_logger()


async def run(settings: Settings, registry: Registry, stop: asyncio.Event, *, name: str = "balancer") -> None:
    """Serve as a balancer until asked to stop; then let running associations end, and return.

    Parameters
    ----------
    settings : Settings
    registry : Registry
        Where workers are found, and where the balancer announces itself.
    stop : asyncio.Event
        Set by the caller when the process is to end.
    name : str
        Unique among the balancers.

    Raises
    ------
    OSError
        An address of the settings cannot be had.
    RegistryUnavailable
        The balancer cannot announce itself.
    """
    door = FrontDoor(LiveSettings(settings), registry, name=name)

    async def status() -> dict[str, object]:
        return {"kind": "balancer", "name": name, "dicom": str(dicom), **door.status()}

    dicom = await door.listen(settings.dicom.host, settings.dicom.port)
    pages = StatusServer(Pages(not_ready=door.not_ready, status=status))
    try:
        http = Address(settings.http.host, await pages.start(settings.http.host, settings.http.port))
        member = Member(
            kind="balancer",
            name=name,
            http=http,
            pid=os.getpid(),
            version=importlib.metadata.version("atria"),
            started_at=datetime.now(UTC),
            dicom=dicom,
        )
        async with await registry.announce(member), asyncio.TaskGroup() as tasks:
            following = tasks.create_task(door.follow())
            log.info("balancer.ready", dicom=str(dicom), http=str(http))
            await stop.wait()
            log.info("balancer.draining")
            await door.drain(settings.drain_timeout_s)
            following.cancel()
    finally:
        await door.drain(0)
        await pages.close()
    log.info("balancer.stopped")
