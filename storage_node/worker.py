"""One protocol-handler process: it takes associations, answers requests, and holds nothing of its own."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Final

import structlog

from cluster import proxy_protocol
from cluster.coordination.registry import Address, Member, RegistryUnavailable
from cluster.coordination.requests import Wish
from cluster.dicom import negotiation
from cluster.dicom.acceptor import Acceptor
from cluster.http import Pages, StatusServer
from cluster.settings import Tls, TlsMode
from cluster.tls import ServerTls
from cluster.tls_protocol import TlsProtocol
from storage_node.acceptance import follow, policy
from storage_node.announcing import Announcing
from storage_node.load import load_of
from storage_node.services.service import Services

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cluster.coordination.registry import Registry
    from cluster.coordination.requests import Requests
    from cluster.dicom.acceptor import IPAddress
    from cluster.dicom.preface import Upgrade
    from cluster.settings import Settings
    from cluster.settings.live import LiveSettings
    from storage_node.grid.grid import Grid
    from storage_node.kept_port import KeptPort

log = structlog.get_logger()

NOTICE_S: Final = 0.5
"""How long a worker that drains goes on taking associations, so that balancers have learned of it. One that
has not learned finds the port closed, and offers the association to the next worker."""


async def run(
    live: LiveSettings,
    grid: Grid,
    registry: Registry,
    requests: Requests,
    stop: asyncio.Event,
    *,
    name: str,
    kept_port: KeptPort | None = None,
) -> bool:
    """Serve until asked to end; then let running associations finish, and return.

    Parameters
    ----------
    live : LiveSettings
    grid : Grid
        Started by the caller, and closed by it.
    registry : Registry
        Where balancers find this worker, from when it is ready until it has drained.
    requests : Requests
        Where it is asked to drain or restart.
    stop : asyncio.Event
        Set by the caller when the process is to end.
    name : str
        Unique among the workers.
    kept_port : KeptPort, optional
        Where it listens again after each start; without it, at any free port.

    Returns
    -------
    bool
        Whether it was asked to stay ended.

    Raises
    ------
    OSError
        No port could be had.
    RegistryUnavailable
        The worker cannot announce itself.
    CertificatesUnusable
        TLS is to be ended here, and cannot be.
    """
    return await _Worker(live, grid, name).run(registry, requests, stop, kept_port)


class _Worker:
    """What the parts of a worker share, from its start to its end."""

    def __init__(self, live: LiveSettings, grid: Grid, name: str) -> None:
        settings = live.now
        self._live = live
        self._grid = grid
        self._name = name
        self._started_at = datetime.now(UTC)
        self._dicom = self._http = Address("", 0)
        self._changed = asyncio.Event()
        self._draining = False
        self._stays_ended = False
        self._acceptor = Acceptor(
            policy(settings),
            settings.upper_layer_limits,
            Services(live, grid).serve,
            preface=proxy_protocol.parse,
            admits=admission(settings),
            upgrade=_upgrade(settings.tls),
            on_change=self._changed.set,
        )
        follow(self._acceptor, live)
        live.follow(lambda _: self._changed.set())

    async def run(
        self, registry: Registry, requests: Requests, stop: asyncio.Event, kept_port: KeptPort | None
    ) -> bool:
        host = self._live.now.worker.host
        pages = StatusServer(Pages(not_ready=self._not_ready, status=self._status))
        try:
            await asyncio.to_thread(negotiation.prepare)
            self._dicom = Address(*await self._listen(host, kept_port))
            self._http = Address(host, await pages.start(host, 0))
            member = self._describe()
            async with await registry.announce(member) as announcement, asyncio.TaskGroup() as tasks:
                announcing = Announcing(announcement, member, self._describe, self._changed)
                following = [
                    tasks.create_task(announcing.follow()),
                    tasks.create_task(self._heed(requests, stop)),
                ]
                log.info("worker.ready", dicom=str(member.dicom), http=str(member.http))
                await stop.wait()
                await self._drain(announcing, registry)
                for task in following:
                    task.cancel()
        finally:
            await self._acceptor.drain(0)
            await pages.close()
        log.info("worker.stopped", stays_ended=self._stays_ended)
        return self._stays_ended

    async def _listen(self, host: str, kept_port: KeptPort | None) -> tuple[str, int]:
        if kept_port is None:
            return await self._acceptor.listen(host, 0)
        return await kept_port.listen(self._acceptor, host)

    async def _heed(self, requests: Requests, stop: asyncio.Event) -> None:
        """Do as is asked, also while draining: what was asked last holds."""
        async for request in requests.incoming("worker", self._name):
            if request.started_at != self._started_at:
                log.info(
                    "request.void", wish=request.wish.value, why="it is for a process that was here before"
                )
            elif request.wish in (Wish.DRAIN, Wish.RESTART):
                log.info("request.taken", wish=request.wish.value)
                self._stays_ended = request.wish is Wish.DRAIN
                stop.set()

    async def _drain(self, announcing: Announcing, registry: Registry) -> None:
        self._draining = True
        log.info("worker.draining", associations=self._acceptor.associations)
        if await announcing.tell() and await _has_balancers(registry):
            await asyncio.sleep(NOTICE_S)
        settings = self._live.now
        await self._acceptor.drain(settings.drain_timeout_s, settings.drain_idle_s)

    def _describe(self) -> Member:
        settings = self._live.now
        labels = dict(settings.worker.labels)
        if settings.site is not None:
            labels["site"] = settings.site
        return Member(
            kind="worker",
            name=self._name,
            http=self._http,
            pid=os.getpid(),
            version=importlib.metadata.version("atria"),
            started_at=self._started_at,
            dicom=self._dicom,
            labels=tuple(sorted(labels.items())),
            capacity=settings.limits.associations,
            weight=settings.worker.weight,
            draining=self._draining,
            load=load_of(self._acceptor.running),
        )

    async def _status(self) -> Mapping[str, object]:
        return {
            "kind": "worker",
            "name": self._name,
            "dicom": str(self._dicom),
            "associations": self._acceptor.associations,
            "draining": self._draining,
            "sites": {site: state.to_json() for site, state in self._grid.health().items()},
        }

    def _not_ready(self) -> str | None:
        if self._draining:
            return "drains: it takes no new associations"
        health = self._grid.health()
        writable = sum(site.takes_writes for site in health.values())
        needed = self._live.now.writing.copies_before_success
        if writable >= needed:
            return None
        reasons = "; ".join(f"{name}: {site.why}" for name, site in health.items() if not site.takes_writes)
        return f"{writable} of {needed} sites needed to store take writes ({reasons})"


def admission(settings: Settings) -> Callable[[IPAddress], bool]:
    """Return what tells whether a balancer may call from an address.

    The balancer of this host calls from `dicom.host` where that is one address: nobody else can.
    """
    networks = list(settings.worker.balancers)
    try:
        own = ip_address(settings.dicom.host)
    except ValueError:  # a host name, or every address: then it calls from whichever suits
        pass
    else:
        networks.append(ip_network(own))
    return lambda address: any(address in network for network in networks)


async def _has_balancers(registry: Registry) -> bool:
    try:
        return bool(await registry.members("balancer"))
    except RegistryUnavailable:
        return True


def _upgrade(tls: Tls) -> Upgrade | None:
    """Return what ends TLS that balancers pass through, if they do."""
    if tls.mode is not TlsMode.PASSED_THROUGH:
        return None
    server = ServerTls(tls)
    return lambda transport, above: TlsProtocol(server.context(), transport, above)
