"""Hosts that are network namespaces, joined by a bridge: one calls, the others may hold the address."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Final, TypeVar

from cluster.proxy_protocol import IPAddress

PORT: Final = 11112
INTERFACE: Final = "eth0"
_CLONE_NEWNET: Final = 0x4000_0000
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Host:
    """A network namespace with an interface of its own."""

    namespace: str
    address: IPAddress

    def run(self, *command: str) -> str:
        return _run("ip", "netns", "exec", self.namespace, *command)

    def inside(self, act: Callable[[], T]) -> T:
        """Call a function in a thread that is in this host: a socket that it opens stays there."""
        found: list[T] = []
        faults: list[BaseException] = []

        def enter() -> None:
            try:
                _enter(self.namespace)
                found.append(act())
            except BaseException as error:
                faults.append(error)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if faults:
            raise faults[0]
        return found[0]

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
        async with self._asking, asyncio.timeout(10):
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
    if os.geteuid() != 0:
        return "needs root, for network namespaces"
    for program in ("ip", "nft"):
        if shutil.which(program) is None:
            return f"needs {program}"
    probe = f"adr{os.getpid()}-probe"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"needs network namespaces: {made.stderr.strip()}"
    _run("ip", "netns", "del", probe)
    return None


@contextlib.contextmanager
def network(version: int) -> Iterator[Network]:
    """Make hosts, and remove them."""
    prefix = f"adr{os.getpid()}"
    net = "10.9.0.{}" if version == 4 else "fd09::{}"
    names = ("client", "one", "two", "three")
    hosts = [Host(f"{prefix}-{name}", ip_address(net.format(i + 1))) for i, name in enumerate(names)]
    bridge = f"{prefix}-bridge"
    try:
        _run("ip", "netns", "add", bridge)
        _run("ip", "-n", bridge, "link", "add", "br0", "type", "bridge")
        _run("ip", "-n", bridge, "link", "set", "br0", "up")
        for host, name in zip(hosts, names, strict=True):
            _join(host, bridge, name, 24 if version == 4 else 64)
        yield Network(ip_address(net.format(100)), hosts[0], (hosts[1], hosts[2], hosts[3]))
    finally:
        for namespace in (bridge, *(host.namespace for host in hosts)):
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True, check=False)


def _join(host: Host, bridge: str, port: str, prefix_length: int) -> None:
    at = ("ip", "-n", host.namespace)
    _run("ip", "netns", "add", host.namespace)
    _run(*at, "link", "add", INTERFACE, "type", "veth", "peer", "name", port, "netns", bridge)
    _run("ip", "-n", bridge, "link", "set", port, "master", "br0", "up")
    _run(*at, "link", "set", "lo", "up")
    _run(*at, "link", "set", INTERFACE, "up")
    nodad = ["nodad"] if host.address.version == 6 else []
    _run(*at, "addr", "add", f"{host.address}/{prefix_length}", "dev", INTERFACE, *nodad)


def _enter(namespace: str) -> None:
    with Path(f"/run/netns/{namespace}").open() as there:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(there.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"{namespace} cannot be entered")


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
