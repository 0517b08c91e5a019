"""The address moves from host to host while clients send, and no flow of theirs is reset."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from tests.integration.address.network import Balancer, Host, Network, Refused, balancer
from tests.waiting import soon


class Caller:
    """One connection that sends as long as it lasts, and looks whether it gets back what it sent."""

    def __init__(self, connection: socket.socket, served_by: str, progress: asyncio.Event) -> None:
        self.connection = connection
        self.served_by = served_by
        self._progress = progress
        self.rounds = 0

    async def send(self) -> None:
        loop = asyncio.get_running_loop()
        message = bytes(range(256)) * 64
        while True:
            await loop.sock_sendall(self.connection, message)
            await _read(self.connection, message)
            self.rounds += 1
            self._progress.set()
            await asyncio.sleep(0.001)


class Callers:
    """Clients: some stay, and others come and go all the time."""

    def __init__(self, net: Network) -> None:
        self._net = net
        self._progress = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.staying: list[Caller] = []
        self.visits: list[str] = []

    async def open(self, tasks: asyncio.TaskGroup, number: int = 3) -> list[Caller]:
        """Let more clients stay; which host serves each is known when it returns."""
        opened = [await self._call() for _ in range(number)]
        self.staying += opened
        self._tasks += [tasks.create_task(caller.send()) for caller in opened]
        return opened

    async def come_and_go(self) -> None:
        while True:
            caller = await self._call()
            self.visits.append(caller.served_by)
            self._progress.set()
            caller.connection.close()

    async def keep_sending(self) -> None:
        """Wait until each that stays has got something through that it sent after now."""
        before = [caller.rounds for caller in self.staying]
        async with soon("each has got more through", seen=lambda: [one.rounds for one in self.staying]):
            while any(c.rounds < rounds + 3 for c, rounds in zip(self.staying, before, strict=True)):
                self._progress.clear()
                await self._progress.wait()

    async def visited(self, host: Host) -> None:
        """Wait until a new connection is served by a host."""
        async with soon(f"{host.namespace} serves", seen=lambda: self.visits[-3:]):
            while not self.visits or self.visits[-1] != host.namespace:
                self._progress.clear()
                await self._progress.wait()

    def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        for caller in self.staying:
            caller.connection.close()

    async def _call(self) -> Caller:
        connection = await self._net.connect()
        try:
            name = await _line(connection)
        except BaseException:
            connection.close()
            raise
        return Caller(connection, name, self._progress)


async def _line(connection: socket.socket) -> str:
    read = b""
    async with soon("a line comes", seen=lambda: read):
        while not read.endswith(b"\n"):
            data = await asyncio.get_running_loop().sock_recv(connection, 1)
            assert data, "the connection was closed"
            read += data
    return read.decode().strip()


async def _read(connection: socket.socket, expected: bytes) -> None:
    heard = bytearray()
    async with soon("all comes back", seen=lambda: len(heard)):
        while len(heard) < len(expected):
            data = await asyncio.get_running_loop().sock_recv(connection, 65536)
            assert data, "the connection was closed"
            heard += data
    assert heard == expected


@contextlib.asynccontextmanager
async def _calling(net: Network) -> AsyncIterator[tuple[Callers, asyncio.TaskGroup]]:
    callers = Callers(net)
    async with asyncio.TaskGroup() as tasks:
        visiting = tasks.create_task(callers.come_and_go())
        try:
            yield callers, tasks
        finally:
            visiting.cancel()
            callers.end()


@contextlib.asynccontextmanager
async def _balancers(net: Network, number: int) -> AsyncIterator[list[Balancer]]:
    async with contextlib.AsyncExitStack() as stack:
        found = [await stack.enter_async_context(balancer(net, host)) for host in net.hosts[:number]]
        for each in found:
            await each.ask("start")
        yield found


@contextlib.asynccontextmanager
async def _held(net: Network, number: int) -> AsyncIterator[list[Balancer]]:
    """Run balancers, of which the first holds the address."""
    async with _balancers(net, number) as found:
        await found[0].ask("hold", 600)
        await found[0].ask("announce")
        yield found


def _configured(host: Host) -> list[str]:
    """Return what may be left when the address was here: rules, routes, addresses, settings."""
    return [
        host.rules(),
        host.run("ip", "rule"),
        host.run("ip", "-br", "addr"),
        *(host.run("ip", version, "route", "show", "table", "all") for version in ("-4", "-6")),
        *(host.run("sysctl", f"net.{version}.conf") for version in ("ipv4", "ipv6")),
    ]


async def _hand_over(old: Balancer, new: Balancer) -> None:
    await new.ask("begin", str(old.host.address))
    await old.ask("park")
    await new.ask("hold", 600)
    await new.ask("announce")


async def test_no_flow_is_reset_when_the_address_moves(net: Network) -> None:
    async with _held(net, 2) as (old, new), _calling(net) as (callers, tasks):
        before = await callers.open(tasks)
        assert {caller.served_by for caller in before} == {old.host.namespace}
        await _hand_over(old, new)
        await callers.visited(new.host)
        await callers.keep_sending()
        after = await callers.open(tasks)
        assert {caller.served_by for caller in after} == {new.host.namespace}
        await callers.keep_sending()


async def test_no_flow_is_reset_when_it_moves_back_while_old_flows_run(net: Network) -> None:
    async with _held(net, 2) as (one, two), _calling(net) as (callers, tasks):
        await callers.open(tasks)
        old, new = one, two
        for _ in range(4):
            await _hand_over(old, new)
            await old.ask("end")  # its detour led to where the address is now
            await callers.visited(new.host)
            await callers.open(tasks, 2)
            await callers.keep_sending()
            old, new = new, old


async def test_flows_find_their_host_over_two_others(net: Network) -> None:
    async with _held(net, 3) as (one, two, three), _calling(net) as (callers, tasks):
        await callers.open(tasks)
        await _hand_over(one, two)
        await callers.visited(two.host)
        await callers.open(tasks)
        await _hand_over(two, three)
        await callers.visited(three.host)
        await callers.open(tasks)
        await callers.keep_sending()
        assert [await each.ask("flows") for each in (one, two)] == [3, 3]


async def test_a_detour_that_is_begun_again_knows_what_began_here(net: Network) -> None:
    async with _held(net, 2) as (old, new), _calling(net) as (callers, tasks):
        await callers.open(tasks)
        await _hand_over(old, new)
        await callers.visited(new.host)
        await callers.open(tasks)
        await new.ask("begin", str(old.host.address))
        await callers.keep_sending()


async def test_a_hand_over_that_is_given_up_leaves_all_as_it_was(net: Network) -> None:
    async with _held(net, 2) as (old, new), _calling(net) as (callers, tasks):
        await callers.open(tasks)
        await new.ask("begin", str(old.host.address))
        await old.ask("park")
        await old.ask("hold", 600)
        await new.ask("end")
        await callers.keep_sending()
        await callers.visited(old.host)
        assert str(net.service) not in old.host.addresses("lo")
        assert [each.host.rules() for each in (old, new)] == ["", ""]


async def test_what_ended_leaves_the_hosts_as_they_were(net: Network) -> None:
    async with _balancers(net, 2) as (old, new):
        before = [_configured(each.host) for each in (old, new)]
        await old.ask("hold", 600)
        await _hand_over(old, new)
        await old.ask("unpark")
        await old.ask("unpark")
        await new.ask("end")
        await new.ask("end")
        await new.ask("drop")
        assert [_configured(each.host) for each in (old, new)] == before


@pytest.mark.parametrize(
    ("towards", "reason"),
    [
        ("own", "that is this host itself"),
        ("far", "there is a gateway between"),
        ("other", "the other host needs an address of IPv"),
        ("nowhere", "Network is unreachable"),
    ],
)
async def test_a_host_that_cannot_be_sent_to_is_refused(net: Network, towards: str, reason: str) -> None:
    host = net.hosts[0]
    version = net.service.version
    if towards == "far":
        host.run("ip", "route", "add", "default", "via", str(net.hosts[1].address))
    addresses = {
        "own": str(host.address),
        "far": "192.0.2.7" if version == 4 else "2001:db8::7",
        "nowhere": "192.0.2.7" if version == 4 else "2001:db8::7",
        "other": "10.9.0.2" if version == 6 else "fd09::2",
    }
    async with balancer(net, host) as there:
        await there.ask("start")
        with pytest.raises(Refused, match=reason):
            await there.ask("begin", addresses[towards])
        assert host.rules() == ""
