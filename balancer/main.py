"""The balancer process."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
from datetime import UTC, datetime

import structlog

from balancer.front_door import FrontDoor
from balancer.leadership.candidacy import Alone, Candidacy
from cluster.coordination.protocol import Coordination
from cluster.coordination.registry import Address, Member, Registry
from cluster.http import Pages, StatusServer
from cluster.proxy_protocol import Endpoint
from cluster.settings.live import LiveSettings

log = structlog.get_logger()


async def run(
    live: LiveSettings,
    registry: Registry,
    stop: asyncio.Event,
    *,
    name: str = "balancer",
    coordination: Coordination | None = None,
) -> None:
    """Serve as a balancer until asked to stop; then let running associations end, and return.

    Parameters
    ----------
    live : LiveSettings
    registry : Registry
        Where workers are found, and where the balancer announces itself.
    stop : asyncio.Event
        Set by the caller when the process is to end: then another leads, if this one did, and there is one.
    name : str
        Unique among the balancers.
    coordination : Coordination, optional
        Where balancers of several hosts elect one that leads; without it this one is alone.

    Raises
    ------
    OSError
        An address of the settings cannot be had.
    RegistryUnavailable
        The balancer cannot announce itself.
    AddressFault
        The service address cannot be held here.
    CertificatesUnusable
        Those of TLS, or of the link.
    LinkUnusable
        Other balancers could not call this one.
    """
    settings = live.now
    door = FrontDoor(live, registry, name=name)

    def flows() -> tuple[Endpoint, ...]:
        return door.flows(settings.service.address) if settings.service.address is not None else ()

    part = Candidacy(settings, coordination, registry, name, flows) if coordination is not None else Alone()

    async def status() -> dict[str, object]:
        return {
            "kind": "balancer",
            "name": name,
            "dicom": str(dicom),
            **tls,
            **part.status(),
            **door.status(),
        }

    dicom = await door.listen(settings.dicom.host, settings.dicom.port)
    tls = {} if door.tls_address is None else {"tls": str(door.tls_address)}
    pages = StatusServer(Pages(not_ready=door.not_ready, status=status, led_by=part.led_by))
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
            link=await part.listen(),
        )
        async with await registry.announce(member), asyncio.TaskGroup() as tasks:
            following = tasks.create_task(door.follow())
            leading = tasks.create_task(part.run())
            log.info("balancer.ready", dicom=str(dicom), **tls, http=str(http))
            await stop.wait()
            log.info("balancer.draining")
            await part.retire()
            await door.drain(live.now.drain_timeout_s)
            following.cancel()
            leading.cancel()
    finally:
        await door.drain(0)
        await part.close()
        await pages.close()
    log.info("balancer.stopped")
