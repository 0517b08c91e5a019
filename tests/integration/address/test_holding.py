"""The address goes in time, whatever becomes of the process that held it."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections.abc import Iterator

import pytest

from tests.integration.address.network import INTERFACE, Balancer, Host, Network, Refused, balancer
from tests.waiting import soon

_RTM_DELADDR = 21
_ADDRESS_GROUPS = 0x10 | 0x100


def _watch(host: Host) -> socket.socket:
    """Return a socket to which the kernel tells each change of addresses at a host."""

    def open_socket() -> socket.socket:
        watching = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        watching.bind((0, _ADDRESS_GROUPS))
        return watching

    watching = host.inside(open_socket)
    watching.setblocking(False)
    return watching


def _kinds(data: bytes) -> Iterator[int]:
    while data:
        length, kind = struct.unpack_from("=IH", data)
        yield kind
        data = data[length + -length % 4 :]


async def _gone(watching: socket.socket) -> float:
    """Return when the kernel has dropped an address."""
    async with soon("the kernel has dropped an address"):
        while True:
            if _RTM_DELADDR in _kinds(await asyncio.get_running_loop().sock_recv(watching, 65536)):
                return time.monotonic()


async def _held(there: Balancer, for_s: float) -> float:
    await there.ask("start")
    until = await there.ask("hold", for_s)
    assert isinstance(until, float)
    return until


@pytest.mark.parametrize(("how", "lease_s"), [("killed", 2.0), ("stopped", 3.0)])
async def test_the_address_goes_in_time_without_its_process(net: Network, how: str, lease_s: float) -> None:
    host = net.hosts[0]
    async with balancer(net, host) as there:
        until = await _held(there, lease_s)
        assert str(net.service) in host.addresses()
        with _watch(host) as watching:
            if how == "killed":
                await there.kill()
            else:
                there.stop()
            assert until - 2 < await _gone(watching) < until
        assert str(net.service) not in host.addresses()


async def test_a_process_that_was_stopped_and_wakes_late_does_not_hold_it(net: Network) -> None:
    host = net.hosts[0]
    async with balancer(net, host) as there:
        until = await _held(there, 2)
        await there.ask("announce")
        there.stop()
        with _watch(host) as watching:
            await _gone(watching)
        await asyncio.sleep(until - time.monotonic())
        there.wake()
        assert await there.ask("is_held") is False
        assert str(net.service) not in host.addresses()


async def test_it_stays_as_long_as_it_is_renewed(net: Network) -> None:
    host = net.hosts[0]
    async with balancer(net, host) as there:
        await _held(there, 2.0)
        with _watch(host) as watching:
            gone = asyncio.create_task(_gone(watching))
            for _ in range(6):
                await asyncio.sleep(0.5)
                await there.ask("hold", 2.0)
            assert not gone.done()
            await there.ask("drop")
            await gone
        await there.ask("drop")


async def test_with_less_time_than_the_kernel_can_measure_it_is_dropped(net: Network) -> None:
    host = net.hosts[0]
    async with balancer(net, host) as there:
        await _held(there, 3)
        await there.ask("hold", 1.2)
        assert str(net.service) not in host.addresses()
        assert await there.ask("is_held") is False
        await there.ask("hold", -5)
        assert str(net.service) not in host.addresses()


async def test_it_is_never_the_source_of_the_hosts_own_connections(net: Network) -> None:
    host = net.hosts[0]
    async with balancer(net, host) as there:
        await _held(there, 3)
        family = socket.AF_INET if net.service.version == 4 else socket.AF_INET6
        with host.inside(lambda: socket.socket(family, socket.SOCK_DGRAM)) as own:
            own.connect((str(net.client.address), 9))
            assert own.getsockname()[0] == str(host.address)


async def test_what_a_killed_process_left_goes_at_the_next_start(net: Network) -> None:
    host, other = net.hosts[:2]
    async with balancer(net, host) as there:
        await _held(there, 600)
        await there.ask("begin", str(other.address))
        await there.ask("park")
        await there.ask("hold", 600)
        await there.ask("park")
    host.run("ip", "addr", "add", f"{net.service}/{net.service.max_prefixlen}", "dev", INTERFACE)
    assert str(net.service) in host.addresses("lo")
    assert "atria_" in host.rules()
    async with balancer(net, host) as there:
        await there.ask("start")
        assert str(net.service) not in host.addresses("lo") + host.addresses()
        assert "atria_" not in host.rules()


async def test_a_parked_address_goes_by_itself_without_its_process(net: Network) -> None:
    host = net.hosts[0]
    async with balancer(net, host) as there:
        await _held(there, 3)
        await there.ask("park")
    found = json.loads(host.run("ip", "-j", "addr", "show", "dev", "lo"))
    parked = next(info for info in found[0]["addr_info"] if info["local"] == str(net.service))
    assert 0 < parked["valid_life_time"] <= 30


async def test_without_the_right_the_start_says_what_to_do(net: Network) -> None:
    async with balancer(net, net.hosts[0], "setpriv", "--bounding-set", "-net_admin", "--") as there:
        with pytest.raises(Refused, match="give it CAP_NET_ADMIN"):
            await there.ask("start")


async def test_without_the_interface_it_says_so(net: Network) -> None:
    host = net.hosts[0]
    async with balancer(net, host) as there:
        await there.ask("start")
        host.run("ip", "link", "del", INTERFACE)
        with pytest.raises(Refused, match=f"at {INTERFACE}: there is no such interface: correct service"):
            await there.ask("hold", 3)
