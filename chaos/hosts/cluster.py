"""A whole cluster on hosts of its own, while it runs: looked at from outside, and waited for."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from chaos.hosts.address_watch import AddressWatch
from chaos.hosts.addresses import BALANCERS, SITES, WATCHER, Addresses
from chaos.hosts.etcd_leader import etcd_leader
from chaos.hosts.network import INTERFACE, Network
from chaos.hosts.story import Journal, told
from cluster.coordination.registry import Address
from deploy import pages

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import datetime
    from pathlib import Path

    from chaos.hosts.host import Host
    from chaos.hosts.inside import Inside

AE_TITLE: Final = "ATRIA"
DICOM_PORT: Final = 11112
HTTP_PORT: Final = 8112

_LAST_LINES: Final = 40
_POLL_S: Final = 0.1
_READY_TIMEOUT_S: Final = 60.0


class NotReady(Exception):
    """A cluster did not come up; the message says what was waited for, and what is in the logs."""


@dataclass(frozen=True, slots=True)
class Running:
    """A cluster that runs."""

    folder: Path
    network: Network
    addresses: Addresses
    hosts: Mapping[str, Host]
    client: Inside
    """Where modalities are."""
    journal: Journal

    def story(self, since: datetime | None = None) -> list[str]:
        """Return what happened, a line each, by what was done, what was seen, and all hosts' logs."""
        return told(self.journal.entries, self.folder / "logs", since)

    @property
    def service(self) -> Address:
        """The address that modalities call."""
        return Address(str(self.addresses.service), DICOM_PORT)

    def at(self, host: str) -> Address:
        """Return where a host's balancer is called by its own address."""
        return Address(str(self.addresses[host]), DICOM_PORT)

    def watch(self) -> AddressWatch:
        """Return who tells which host holds the service address."""
        return AddressWatch(
            self.network[WATCHER],
            INTERFACE,
            self.addresses[WATCHER],
            self.addresses.service,
            note=self.journal.of("the service address"),
        )

    async def page(self, host: str, path: str) -> pages.Page | None:
        """Return a page of a balancer, as seen from the client; None when there is none."""
        try:
            return await self.client.run(
                pages.fetch(Address(str(self.addresses[host]), HTTP_PORT), path, timeout_s=1.0)
            )
        except pages.NoPage:
            return None

    async def leader(self) -> str | None:
        """Return the host whose balancer says that it leads."""
        for host in BALANCERS:
            page = await self.page(host, "/leader")
            if page is not None and page.status == 200:
                return host
        return None

    async def until_led(self) -> str:
        """Wait until a balancer leads, and return its host.

        Raises
        ------
        NotReady
        """
        leader: str | None = None

        async def leads() -> bool:
            nonlocal leader
            leader = await self.leader()
            return leader is not None

        await self.until(leads, "a balancer that leads")
        return str(leader)

    async def etcd_leader(self) -> str | None:
        """Return the host whose etcd leads; None when none does."""
        members = [(name, str(self.addresses[name])) for name in SITES]
        return await self.client.run(etcd_leader(members, self.hosts["s1"].config.parent))

    async def is_ready(self) -> bool:
        """Whether each balancer knows every worker, and none of these fails."""
        for host in BALANCERS:
            page = await self.page(host, "/status")
            if page is None:
                return False
            workers = page.json()["workers"]
            if len(workers) != len(SITES) or any(worker["failing"] for worker in workers):
                return False
        return True

    async def mend(self) -> None:
        """Put right whatever has been done to it, and wait until it works.

        Raises
        ------
        NotReady
        """
        self.network.let_through()
        for name, host in self.hosts.items():
            self.network.speed_up(name)
            await host.mend()
        await self.until(self.is_ready, "balancers with workers")
        await self.until_led()

    async def until(
        self, holds: Callable[[], Awaitable[bool]], what: str, timeout_s: float = _READY_TIMEOUT_S
    ) -> None:
        """Wait for something that raises no event here.

        Raises
        ------
        NotReady
        """
        try:
            async with asyncio.timeout(timeout_s):
                while not await holds():  # noqa: ASYNC110  another process's doing raises no event here
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            told = "\n".join(self.story()[-_LAST_LINES:])
            raise NotReady(f"{what}: not within {timeout_s:g} s. What happened last:\n{told}") from None
