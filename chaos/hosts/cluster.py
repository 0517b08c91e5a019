"""A whole cluster on hosts of its own: described, rendered, booted, and looked at from outside."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_interface
from typing import TYPE_CHECKING, Any, Final

import tomlkit

from chaos.hosts.arp_watch import ArpWatch
from chaos.hosts.etcd_leader import etcd_leader
from chaos.hosts.host import Host
from chaos.hosts.inside import Inside
from chaos.hosts.network import INTERFACE, Network
from cluster.coordination.registry import Address
from deploy import pages
from deploy.render import cluster_file, places, tree, units
from deploy.render.certificates import utc_now

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from pathlib import Path

CLIENT: Final = "client"
WATCHER: Final = "watcher"
"""Asks who holds the service address: an answer would keep the client's kernel from believing another
for a second (arp(7), locktime), so it is not the client that asks."""
SITES: Final = {"s1": "a", "s2": "b", "s3": "c"}
"""The hosts that have a site, and everything of it."""
BALANCERS: Final = ("lb1", "lb2")
ADDRESSES: Final = {
    "lb1": "10.213.0.11",
    "lb2": "10.213.0.12",
    "s1": "10.213.0.21",
    "s2": "10.213.0.22",
    "s3": "10.213.0.23",
    CLIENT: "10.213.0.99",
    WATCHER: "10.213.0.98",
}
SERVICE: Final = "10.213.0.100"
AE_TITLE: Final = "ATRIA"
ATRIA: Final = (sys.executable, "-m", "deploy.command.main")
"""The command."""
DICOM_PORT: Final = 11112
HTTP_PORT: Final = 8112

_PREFIX_LENGTH: Final = 24
_POLL_S: Final = 0.1
_READY_TIMEOUT_S: Final = 60.0
_INIT_ATTEMPTS: Final = 3


class NotReady(Exception):
    """A cluster did not come up; the message says what was waited for, and what is in the logs."""


@dataclass(frozen=True, slots=True)
class Running:
    """A cluster that runs."""

    folder: Path
    network: Network
    hosts: Mapping[str, Host]
    client: Inside
    """Where modalities are."""

    @property
    def service(self) -> Address:
        """The address that modalities call."""
        return Address(SERVICE, DICOM_PORT)

    def at(self, host: str) -> Address:
        """Return where a host's balancer is called by its own address."""
        return Address(ADDRESSES[host], DICOM_PORT)

    def watch(self) -> ArpWatch:
        """Return who tells which host holds the service address."""
        own, service = IPv4Address(ADDRESSES[WATCHER]), IPv4Address(SERVICE)
        return ArpWatch(self.network[WATCHER], INTERFACE, own, service)

    async def page(self, host: str, path: str) -> pages.Page | None:
        """Return a page of a balancer, as seen from the client; None when there is none."""
        try:
            return await self.client.run(
                pages.fetch(Address(ADDRESSES[host], HTTP_PORT), path, timeout_s=1.0)
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
        members = [(name, ADDRESSES[name]) for name in SITES]
        return await self.client.run(etcd_leader(members, self.hosts["s1"].config.parent))

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
            raise NotReady(f"{what}: not within {timeout_s:g} s{self._last_words()}") from None

    def _last_words(self) -> str:
        logs = sorted((self.folder / "logs").rglob("*.log"))
        last = ((log, log.read_text("utf-8", "replace").strip().splitlines()) for log in logs)
        return "".join(f"\n  {log.parent.name}/{log.name}: {lines[-1][:300]}" for log, lines in last if lines)


def described(folder: Path, minio: Path, postgresql: Path, **settings: object) -> dict[str, Any]:
    """Return the cluster's file: two balancers, three hosts with all that a site has.

    Parameters
    ----------
    folder : Path
        Everything is kept below it.
    minio : Path
        Its program.
    postgresql : Path
        The folder of its programs.
    **settings
        What all hosts' settings say besides.
    """
    nodes = [
        {
            "name": name,
            "address": ADDRESSES[name],
            "site": site,
            "workers": 1,
            **dict.fromkeys(("upkeep", "etcd", "objects", "catalogue"), True),
        }
        for name, site in SITES.items()
    ]
    return {
        "install": {
            "atria": list(ATRIA),
            "minio": str(minio),
            "postgresql": str(postgresql),
            "config": f"{folder}/rendered/{{host}}",
            "data": f"{folder}/data/{{host}}",
            "user": "root",
        },
        "service": {"address": SERVICE, "interface": INTERFACE},
        "settings": {"drain_timeout_s": 20, **settings},
        "sites": [{"name": site} for site in SITES.values()],
        "hosts": [
            *({"name": name, "address": ADDRESSES[name], "balancer": True} for name in BALANCERS),
            *nodes,
        ],
    }


def render(folder: Path, values: Mapping[str, Any]) -> cluster_file.Cluster:
    """Render a cluster's file below a folder.

    Raises
    ------
    UserError
    """
    file = folder / "cluster.toml"
    file.write_text(tomlkit.dumps(dict(values)), "utf-8")
    cluster = cluster_file.load(file)
    out = folder / "rendered"
    out.mkdir(mode=0o755, exist_ok=True)
    tree.write(out, tree.plan(cluster, out, utc_now()))
    return cluster


@asynccontextmanager
async def running(folder: Path, values: Mapping[str, Any]) -> AsyncIterator[Running]:
    """Run a cluster on hosts of its own for as long as the context lasts.

    Parameters
    ----------
    folder : Path
        New, and such that PostgreSQL's user gets into it.
    values : mapping
        Its file (`described`).

    Raises
    ------
    NotReady
    NetworkFailed
    """
    cluster = render(folder, values)
    network = Network({name: ip_interface(f"{at}/{_PREFIX_LENGTH}") for name, at in ADDRESSES.items()})
    environment = {key: value for key, value in os.environ.items() if key in ("PYTHONPATH", "LANG")}
    try:
        network.make()
        hosts = {
            host.name: Host(
                host.name, network, folder / "rendered" / host.name, folder / "logs" / host.name, environment
            )
            for host in cluster.hosts
        }
        async with Inside(network[CLIENT]) as client:
            found = Running(folder, network, hosts, client)
            try:
                await boot(found)
                yield found
            finally:
                await asyncio.gather(*(host.power_off() for host in hosts.values()))
    finally:
        network.remove()


async def boot(cluster: Running) -> None:
    """Start all hosts: first the servers, then what needs the sites, which are made in between.

    Raises
    ------
    NotReady
    """
    servers = (units.ETCD, units.MINIO, units.POSTGRESQL)
    await _start(cluster, lambda name: name in servers)
    await _make_sites(cluster)
    await _start(cluster, lambda name: name not in servers)
    await cluster.until(lambda: ready(cluster), "balancers with workers")


async def _start(cluster: Running, which: Callable[[str], bool]) -> None:
    await asyncio.gather(*(host.start(which) for host in cluster.hosts.values()))


async def _make_sites(cluster: Running) -> None:
    ports = (places.ETCD_CLIENT_PORT, places.MINIO_PORT, places.POSTGRESQL_PORT)
    waited = [Address(ADDRESSES[name], port) for name in SITES for port in ports]
    await cluster.until(lambda: _listen(cluster, waited), "etcd, MinIO and PostgreSQL")
    host = cluster.hosts["s1"]
    said = ""
    for _ in range(_INIT_ATTEMPTS):
        done = await host.run(*ATRIA, "site", "init", f"--config={host.config}")
        if done.returncode == 0:
            return
        said = (done.stdout + done.stderr).strip()
        await asyncio.sleep(1.0)
    raise NotReady(f"atria site init: {said}")


async def _listen(cluster: Running, addresses: list[Address]) -> bool:
    """Whether all listen; those that do are not called again."""
    found = await asyncio.gather(*(cluster.client.run(_listens(one)) for one in addresses))
    addresses[:] = [one for one, listens in zip(addresses, found, strict=True) if not listens]
    return not addresses


async def _listens(address: Address) -> bool:
    try:
        async with asyncio.timeout(1.0):
            _, writer = await asyncio.open_connection(address.host, address.port)
    except OSError:  # also when it takes too long
        return False
    writer.close()
    return True


async def ready(cluster: Running) -> bool:
    """Whether each balancer knows every worker, and none of these fails."""
    for host in BALANCERS:
        page = await cluster.page(host, "/status")
        if page is None:
            return False
        workers = page.json()["workers"]
        if len(workers) != len(SITES) or any(worker["failing"] for worker in workers):
            return False
    return True
