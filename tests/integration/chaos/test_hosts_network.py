from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from ipaddress import ip_interface, ip_network
from pathlib import Path

import pytest

from chaos.hosts import namespace
from chaos.hosts.address_watch import AddressWatch
from chaos.hosts.inside import Inside
from chaos.hosts.namespace import NetworkFailed
from chaos.hosts.network import INTERFACE, Network

ADDRESSES = {"one": "10.214.0.1", "two": "10.214.0.2", "three": "10.214.0.3"}
SHARED = "10.214.0.100"


@pytest.fixture(scope="module")
def possible() -> None:
    if (why := namespace.why_not()) is not None:
        pytest.skip(why)


@pytest.fixture
def network(possible: None) -> Iterator[Network]:
    network = Network({name: ip_interface(f"{address}/24") for name, address in ADDRESSES.items()})
    try:
        network.make()
        yield network
    finally:
        network.remove()


@pytest.fixture
async def inside_one(network: Network) -> AsyncIterator[Inside]:
    async with Inside(network["one"]) as inside:
        yield inside


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.received = asyncio.Event()

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self.received.set()


async def arrives(network: Network, source: str, destination: str) -> bool:
    """Whether a datagram arrives, which takes ARP in both directions the first time only."""
    loop = asyncio.get_running_loop()
    protocol = Datagrams()
    with network[destination].entered():
        receiver = _bound(ADDRESSES[destination])
    with network[source].entered():
        sender = _bound(ADDRESSES[source])
    transport, _ = await loop.create_datagram_endpoint(lambda: protocol, sock=receiver)
    try:
        with sender:
            for _ in range(10):
                try:
                    sender.sendto(b"?", receiver.getsockname())
                except OSError:
                    return False
                try:
                    async with asyncio.timeout(0.05):
                        await protocol.received.wait()
                except TimeoutError:
                    continue
                return True
        return False
    finally:
        transport.close()


def _bound(address: str) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setblocking(False)
    made.bind((address, 0))
    return made


async def test_hosts_reach_each_other_and_a_removed_network_leaves_nothing(network: Network) -> None:
    assert await arrives(network, "one", "two")
    assert await arrives(network, "three", "one")
    network.remove()
    assert not [name for name in namespace.names() if name.endswith(("-one", "-two", "-three"))]


async def test_what_is_dropped_one_way_arrives_the_other_way(network: Network) -> None:
    assert await arrives(network, "one", "two")
    assert await arrives(network, "two", "one")
    network.drop("one", "two")
    assert not await arrives(network, "one", "two")
    assert await arrives(network, "two", "one")
    assert await arrives(network, "one", "three")
    network.let_through()
    assert await arrives(network, "one", "two")


async def test_who_is_cut_off_reaches_nobody_and_sees_its_link_up(network: Network) -> None:
    network.cut_off("one")
    assert not await arrives(network, "one", "two")
    assert not await arrives(network, "two", "one")
    assert "LOWER_UP" in network["one"].run("ip", "link", "show", INTERFACE)
    network.let_through()
    assert await arrives(network, "one", "two")


async def test_who_is_unplugged_sees_that_and_is_back_when_plugged_in(network: Network) -> None:
    network.unplug("one")
    assert "NO-CARRIER" in network["one"].run("ip", "link", "show", INTERFACE)
    assert not await arrives(network, "two", "one")
    await network.flap("one", times=2, down_s=0.01, up_s=0.01)
    assert await arrives(network, "two", "one")


async def test_a_slow_link_is_slow_until_it_is_not(network: Network) -> None:
    network.slow_down("two", 1_000_000)
    network.slow_down("two", 500_000)
    assert "tbf" in network["two"].run("tc", "qdisc", "show", "dev", INTERFACE)
    assert await arrives(network, "one", "two")
    assert network.held_back("two") == 0
    with network["two"].entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(64):
            sender.sendto(bytes(1024), (ADDRESSES["one"], 9))
    assert network.held_back("two") > 0
    network.speed_up("two")
    network.speed_up("two")
    assert "tbf" not in network["two"].run("tc", "qdisc", "show", "dev", INTERFACE)


async def test_a_host_that_is_reset_has_its_own_address_and_no_other(network: Network) -> None:
    network["two"].ip(f"address add {SHARED}/32 dev {INTERFACE}", f"address add {SHARED}/32 dev lo")
    network["two"].run("nft", "add", "table", "arp", "left_over")
    network.reset("two")
    shown = network["two"].run("ip", "-brief", "address", "show")
    assert ADDRESSES["two"] in shown
    assert SHARED not in shown
    assert network["two"].run("nft", "list", "ruleset") == ""


@pytest.mark.parametrize("version", [4, 6])
async def test_the_watch_sees_an_address_go_from_host_to_host(possible: None, version: int) -> None:
    within = ip_network("10.214.0.0/24" if version == 4 else "fd00:214::/64")
    shared, own = within[100], within[1]
    network = Network(
        {
            name: ip_interface(f"{within[number]}/{within.prefixlen}")
            for number, name in enumerate(ADDRESSES, start=1)
        }
    )

    async def until_held_by(host: str) -> None:
        async with asyncio.timeout(5):
            while not (watch.seen and watch.seen[-1].claim.mac == network.macs[host]):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    try:
        network.make()
        watch = AddressWatch(network["one"], INTERFACE, own, shared)
        watching = asyncio.create_task(watch.run())
        network["two"].ip(f"address add {shared} dev {INTERFACE}")
        await until_held_by("two")
        network["two"].ip(f"address delete {shared} dev {INTERFACE}")
        network["three"].ip(f"address add {shared} dev {INTERFACE}")
        await until_held_by("three")
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching
    finally:
        network.remove()


async def test_work_inside_sees_that_host_and_we_do_not(network: Network, inside_one: Inside) -> None:
    async def names() -> str:
        return Path("/proc/thread-self/net/dev").read_text()

    assert f"{INTERFACE}:" in await inside_one.run(names())
    assert Path("/proc/self/net/dev").read_text() == await names()


async def test_a_thing_that_cannot_be_done_is_told(network: Network) -> None:
    with pytest.raises(NetworkFailed, match=r"-one -batch -: Error: .*10\.0\.0\.300"):
        network["one"].ip("address add 10.0.0.300/24 dev eth0", "address add nonsense")
