"""Hosts that are network namespaces, joined by a bridge: one calls, the others may hold the address."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_interface
from typing import Final, TypeVar

from chaos.hosts import network as hosts
from chaos.hosts.namespace import Namespace, why_not
from cluster.proxy_protocol import IPAddress
from tests.waiting import soon

PORT: Final = 11112
INTERFACE: Final = hosts.INTERFACE
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Host:
    """A network namespace with an interface of its own."""

    within: Namespace
    address: IPAddress

    @property
    def namespace(self) -> str:
        return self.within.name

    def run(self, *command: str) -> str:
        return self.within.run(*command)

    def inside(self, act: Callable[[], T]) -> T:
        """Call a function with this thread in this host: a socket that it opens stays there."""
        with self.within.entered():
            return act()

    @property
    def link_layer_address(self) -> str:
        link: list[dict[str, str]] = json.loads(self.run("ip", "-j", "link", "show", "dev", INTERFACE))
        return link[0]["address"]

    def addresses(self, interface: str = INTERFACE) -> list[str]:
        found = json.loads(self.run("ip", "-j", "addr", "show", "dev", interface))
        return [info["local"] for info in found[0]["addr_info"]]

    def neighbour(self, address: IPAddress) -> str | None:
        found = json.loads(self.run("ip", "-j", "neigh", "show", str(address)) or "[]")
        return found[0].get("lladdr") if found else None

    def rules(self) -> str:
        return self.run("nft", "list", "ruleset")


@dataclass(frozen=True, slots=True)
class Network:
    """A client and three hosts, of which any may hold the service address."""

    service: IPAddress
    client: Host
    hosts: tuple[Host, Host, Host]

    async def connect(self) -> socket.socket:
        """Return a connection of the client to the service address."""
        family = socket.AF_INET if self.service.version == 4 else socket.AF_INET6
        connection = self.client.inside(lambda: socket.socket(family, socket.SOCK_STREAM))
        connection.setblocking(False)
        try:
            async with asyncio.timeout(5):
                await asyncio.get_running_loop().sock_connect(connection, (str(self.service), PORT))
        except BaseException:
            connection.close()
            raise
        return connection


@dataclass(slots=True)
class Balancer:
    """A process at a host that does to the address what it is told, and serves there: `process.py`."""

    host: Host
    process: asyncio.subprocess.Process
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def ask(self, do: str, *arguments: object) -> object:
        """Let it do something, and return what it answers."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        async with self._asking, soon(f"{self.host.namespace} does: {do}"):
            self.process.stdin.write(json.dumps([do, *arguments]).encode() + b"\n")
            line = await self.process.stdout.readline()
        answer, fault = json.loads(line)
        if fault is not None:
            raise Refused(fault)
        return answer

    def stop(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    async def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()


class Refused(Exception):
    """An AddressFault there."""


@contextlib.asynccontextmanager
async def balancer(network: Network, host: Host, *before: str) -> AsyncIterator[Balancer]:
    """Run a balancer's process at a host."""
    process = await asyncio.create_subprocess_exec(
        *("ip", "netns", "exec", host.namespace, *before, sys.executable),
        *("-m", "tests.integration.address.process", str(network.service), host.namespace),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    running = Balancer(host, process)
    try:
        yield running
    finally:
        await running.kill()


def missing() -> str | None:
    """Return why there can be no such network here, or None."""
    return why_not(("ip", "nft", "setpriv", "sysctl"))


@contextlib.contextmanager
def network(version: int) -> Iterator[Network]:
    """Make hosts, and remove them."""
    net, length = ("10.9.0.{}", 24) if version == 4 else ("fd09::{}", 64)
    names = ("client", "one", "two", "three")
    addresses = {
        name: ip_interface(f"{net.format(number)}/{length}") for number, name in enumerate(names, start=1)
    }
    made = hosts.Network(addresses)
    try:
        made.make()
        client, *others = (Host(made[name], address.ip) for name, address in addresses.items())
        yield Network(ip_address(net.format(100)), client, (others[0], others[1], others[2]))
    finally:
        made.remove()
