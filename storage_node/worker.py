"""One protocol-handler process: it takes associations, answers requests, and holds nothing of its own."""

from __future__ import annotations

import importlib.metadata
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from cluster import proxy_protocol
from cluster.coordination.registry import Address, Member
from cluster.dicom.acceptor import Acceptor
from cluster.http import Pages, StatusServer
from storage_node.acceptance import follow, policy
from storage_node.services.service import Services

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from cluster.coordination.registry import Registry
    from cluster.settings.live import LiveSettings
    from storage_node.grid.grid import Grid

log = structlog.get_logger()


async def run(live: LiveSettings, grid: Grid, registry: Registry, stop: asyncio.Event, *, name: str) -> None:
    """Serve until asked to stop; then let running associations finish, and return.

    Parameters
    ----------
    live : LiveSettings
        The shared ones among them hold from when they are changed on.
    grid : Grid
        Started by the caller, and closed by it.
    registry : Registry
        Where balancers find this worker, from when it is ready until it drains.
    stop : asyncio.Event
        Set by the caller when the process is to end.
    name : str
        Unique among the workers.

    Raises
    ------
    OSError
        No port could be had.
    RegistryUnavailable
        The worker cannot announce itself.
    """
    settings = live.now
    services = Services(live, grid)
    acceptor = Acceptor(
        policy(settings), settings.upper_layer_limits, services.serve, preface=proxy_protocol.parse
    )
    follow(acceptor, live)

    async def status() -> Mapping[str, object]:
        return {
            "kind": "worker",
            "name": name,
            "dicom": f"{host}:{port}",
            "associations": acceptor.associations,
            "sites": {site: state.to_json() for site, state in grid.health().items()},
        }

    def not_ready() -> str | None:
        health = grid.health()
        writable = sum(site.takes_writes for site in health.values())
        needed = settings.writing.copies_before_success
        if writable >= needed:
            return None
        reasons = "; ".join(f"{name}: {site.why}" for name, site in health.items() if not site.takes_writes)
        return f"{writable} of {needed} sites needed to store take writes ({reasons})"

    host, port = await acceptor.listen("127.0.0.1", 0)
    pages = StatusServer(Pages(not_ready=not_ready, status=status))
    try:
        member = Member(
            kind="worker",
            name=name,
            http=Address("127.0.0.1", await pages.start("127.0.0.1", 0)),
            pid=os.getpid(),
            version=importlib.metadata.version("atria"),
            started_at=datetime.now(UTC),
            dicom=Address(host, port),
        )
        async with await registry.announce(member):
            log.info("worker.ready", dicom=str(member.dicom), http=str(member.http))
            await stop.wait()
        log.info("worker.draining", associations=acceptor.associations)
        await acceptor.drain(settings.drain_timeout_s)
    finally:
        await acceptor.drain(0)
        await pages.close()
    log.info("worker.stopped")
