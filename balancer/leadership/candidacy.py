"""A balancer process's part in who leads: put together from the settings, on one host and on several."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from ipaddress import ip_address
from random import SystemRandom

import structlog

from balancer.address import kernel_address, kernel_detour
from balancer.leadership.certificates import link_certificates
from balancer.leadership.interfaces import Outside
from balancer.leadership.leadership import Leadership
from balancer.leadership.link import LinkPeers, LinkServer
from balancer.leadership.remembered import FileNotebook
from cluster.coordination.protocol import Coordination
from cluster.coordination.registry import Address, Registry
from cluster.proxy_protocol import Endpoint
from cluster.settings import Settings

log = structlog.get_logger()


class LinkUnusable(Exception):
    """Other balancers could not call this one. The message says which setting is wrong."""


class Alone:
    """The part of a balancer on one host: there is no other, and no address moves."""

    async def listen(self) -> Address | None:
        """Have no link."""
        return None

    async def run(self) -> None:
        """Have nothing to do until cancelled."""
        await asyncio.get_running_loop().create_future()

    async def retire(self) -> None:
        """Have nobody to hand over to."""

    async def close(self) -> None:
        """Have nothing to close."""

    def led_by(self) -> str | None:
        """Lead."""
        return None

    def status(self) -> dict[str, object]:
        """Have nothing to tell."""
        return {}


class Candidacy:
    """The part of a balancer among others.

    Parameters
    ----------
    settings : Settings
    coordination : Coordination
        Where they elect one.
    registry : Registry
        Where they find each other.
    name : str
        Of this balancer.
    flows : callable
        The clients whose connections came in by the service address and are served here.

    Raises
    ------
    AddressFault
        The kernel does not let this process change what the service address needs.
    CertificatesUnusable
        Those of the link.
    """

    def __init__(
        self,
        settings: Settings,
        coordination: Coordination,
        registry: Registry,
        name: str,
        flows: Callable[[], Collection[Endpoint]],
    ) -> None:
        self._link = settings.link
        certificates = link_certificates(settings.link) if settings.link.is_given else None
        self._peers = LinkPeers(name, certificates) if certificates is not None else None
        self._leadership = Leadership(
            name,
            Outside(
                coordination,
                registry,
                FileNotebook(settings.remembered_folder / name / "balancers.json"),
                kernel_address(settings),
                kernel_detour(settings),
                self._peers,
                flows,
            ),
            lease_s=settings.service.lease_s,
            cold_start_s=settings.etcd.cold_start_s,
            random=SystemRandom(),
        )
        self._server = (
            LinkServer(certificates, self._leadership.handlers()) if certificates is not None else None
        )
        self.run = self._leadership.run
        self.retire = self._leadership.retire
        self.led_by = self._leadership.led_by

    async def listen(self) -> Address | None:
        """Answer other balancers, and return where; None without a link.

        Raises
        ------
        OSError
            The address cannot be had.
        LinkUnusable
            It is none that others could call.
        """
        if self._server is None:
            log.warning("leadership.by_lease_only", why="link.certificate_file is not set")
            return None
        if _is_unspecified(self._link.host):
            raise LinkUnusable(f"link.host {self._link.host}: give the address that other balancers reach")
        return await self._server.start(self._link.host, self._link.port)

    async def close(self) -> None:
        """Answer nobody any more."""
        if self._server is not None:
            await self._server.close()
        if self._peers is not None:
            await self._peers.close()

    def status(self) -> dict[str, object]:
        """Return what the status page says."""
        return {"leadership": self._leadership.status()}


def _is_unspecified(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False
