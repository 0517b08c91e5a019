"""A cluster starts on hosts of its own, from nothing but its file."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from chaos.hosts.addresses import CLIENT, IPV4, IPV6, SITES
from chaos.hosts.cluster import NotReady, Running
from chaos.hosts.description import ATRIA, environment, install
from chaos.hosts.host import Host
from chaos.hosts.inside import Inside
from chaos.hosts.network import Network
from chaos.hosts.story import Journal
from cluster.coordination.registry import Address
from deploy.render import places, units

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

_INIT_ATTEMPTS: Final = 3


@asynccontextmanager
async def running(folder: Path, values: Mapping[str, Any]) -> AsyncIterator[Running]:
    """Run a cluster on hosts of its own for as long as the context lasts.

    Parameters
    ----------
    folder : Path
        New, and such that any user gets into it.
    values : mapping
        Its file (`described`).

    Raises
    ------
    NotReady
    NetworkFailed
    """
    cluster = install(folder, values)
    addresses = IPV6 if cluster.hosts[0].address.version == 6 else IPV4
    journal = Journal()
    network = Network(addresses.interfaces, journal.of("the network"))
    try:
        network.make()
        hosts = {
            host.name: Host(
                host.name,
                network,
                cluster.config(host),
                cluster.install.user,
                folder / "logs" / host.name,
                environment(),
                journal,
            )
            for host in cluster.hosts
        }
        async with Inside(network[CLIENT]) as client:
            found = Running(folder, network, addresses, hosts, client, journal)
            try:
                await boot(found)
                yield found
            finally:
                await asyncio.gather(*(host.end() for host in hosts.values()))
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
    await cluster.until(cluster.is_ready, "balancers with workers")


async def _start(cluster: Running, which: Callable[[str], bool]) -> None:
    await asyncio.gather(*(host.start(which) for host in cluster.hosts.values()))


async def _make_sites(cluster: Running) -> None:
    ports = (places.ETCD_CLIENT_PORT, places.MINIO_PORT, places.POSTGRESQL_PORT)
    waited = [Address(str(cluster.addresses[name]), port) for name in SITES for port in ports]
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
