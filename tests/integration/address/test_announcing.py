"""Hosts of the network learn where the address is."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from ipaddress import IPv4Address, IPv6Address

from balancer.address.announcement import gratuitous_arp, neighbour_advertisement
from tests.integration.address.network import INTERFACE, Balancer, Host, Network, balancer
from tests.waiting import soon

_ETH_P_ALL = 0x0003
_ARP, _IPV6 = 0x0806, 0x86DD


class Sniffer:
    """What a host hears about where an address is."""

    def __init__(self, packets: socket.socket, net: Network) -> None:
        self._packets = packets
        self._service = net.service
        self._own: bytes = packets.getsockname()[4]

    async def next(self) -> bytes:
        """Return the next packet that tells of the address: an ARP packet, or an ICMPv6 message."""
        loop = asyncio.get_running_loop()
        async with soon("it is announced"):
            while True:
                frame = await loop.sock_recv(self._packets, 2048)
                (protocol,) = struct.unpack_from("!H", frame, 12)
                if protocol == _ARP and (frame[28:32] == self._service.packed or self._is_answer(frame)):
                    return frame[14:42]
                if protocol == _IPV6 and frame[20] == 58 and frame[54] == 136:
                    if frame[62:78] != self._service.packed:
                        continue
                    assert frame[21] == 255  # hop limit, else nobody believes it
                    assert frame[38:54] == IPv6Address("ff02::1").packed
                    return frame[54:]

    def _is_answer(self, frame: bytes) -> bool:
        """Whether it answers this host's own question, which was for the address."""
        return frame[:6] == self._own and frame[20:22] == b"\0\2"

    async def count(self, for_s: float) -> int:
        heard = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(for_s):
                while True:
                    await self.next()
                    heard += 1
        return heard


@contextlib.asynccontextmanager
async def _sniffing(host: Host, net: Network) -> AsyncIterator[Sniffer]:
    def open_socket() -> socket.socket:
        packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        packets.bind((INTERFACE, _ETH_P_ALL))
        return packets

    with host.inside(open_socket) as packets:
        packets.setblocking(False)
        yield Sniffer(packets, net)


def _expected(net: Network, host: Host) -> list[bytes]:
    mac = bytes.fromhex(host.link_layer_address.replace(":", ""))
    if isinstance(net.service, IPv4Address):
        return list(gratuitous_arp(net.service, mac))
    advertisement = neighbour_advertisement(net.service, mac)
    return [advertisement]


def _without_checksum(message: bytes, net: Network) -> bytes:
    return message if net.service.version == 4 else message[:2] + bytes(2) + message[4:]


async def test_every_form_is_sent_at_once_and_again_soon_and_as_long_as_it_is_held(net: Network) -> None:
    host = net.hosts[0]
    expected = _expected(net, host)
    async with balancer(net, host) as there, _sniffing(net.client, net) as sniffer:
        await there.ask("start")
        await there.ask("hold", 8)
        await there.ask("announce")
        began = asyncio.get_running_loop().time()
        for due in (0.0, 0.1, 0.3, 1.0, 3.0, 3.5, 4.0):
            for packet in expected:
                assert _without_checksum(await sniffer.next(), net) == packet
            assert asyncio.get_running_loop().time() - began < due + 2


async def test_it_is_announced_no_more_when_it_was_dropped(net: Network) -> None:
    async with balancer(net, net.hosts[0]) as there, _sniffing(net.client, net) as sniffer:
        await there.ask("start")
        await there.ask("hold", 5)
        await there.ask("announce")
        await sniffer.next()
        await there.ask("drop")
        await sniffer.count(0.1)
        assert await sniffer.count(1.5) == 0


async def test_a_process_that_was_stopped_and_wakes_late_announces_nothing(net: Network) -> None:
    async with balancer(net, net.hosts[0]) as there, _sniffing(net.client, net) as sniffer:
        await there.ask("start")
        await there.ask("hold", 2)
        await there.ask("announce")
        for _ in _expected(net, net.hosts[0]):
            await sniffer.next()
        there.stop()
        await asyncio.sleep(2.2)
        await sniffer.count(0.1)
        there.wake()
        assert await sniffer.count(1.5) == 0


async def test_an_announcement_replaces_what_a_client_knew(net: Network) -> None:
    one, two = net.hosts[:2]
    async with balancer(net, one) as old, balancer(net, two) as new:
        await old.ask("start")
        await new.ask("start")
        await old.ask("hold", 600)
        (await net.connect()).close()
        assert net.client.neighbour(net.service) == one.link_layer_address
        await old.ask("drop")
        await new.ask("hold", 600)
        async with _sniffing(net.client, net) as sniffer:
            await new.ask("announce")
            await sniffer.next()
        assert net.client.neighbour(net.service) == two.link_layer_address


async def test_a_parked_address_is_answered_for_no_more(net: Network) -> None:
    async with _parked(net) as (old, connection):
        async with _sniffing(net.client, net) as sniffer:
            net.client.run("ip", "neigh", "flush", "dev", INTERFACE)
            await asyncio.get_running_loop().sock_sendall(connection, b"who has it?")
            assert await sniffer.count(1.5) == 0
        assert net.client.neighbour(net.service) is None
        await old.ask("hold", 600)
        await _heard(connection, b"who has it?")
        assert str(net.service) not in old.host.addresses("lo")


async def test_a_host_with_a_parked_address_asks_for_clients_by_its_own(net: Network) -> None:
    async with _parked(net) as (old, connection):
        known = (str(net.service), "lladdr", old.host.link_layer_address, "dev", INTERFACE)
        net.client.run("ip", "neigh", "replace", *known)
        async with _sniffing(net.client, net) as sniffer:
            old.host.run("ip", "neigh", "flush", "dev", INTERFACE)
            await asyncio.get_running_loop().sock_sendall(connection, b"still here")
            await _heard(connection, b"still here")
            assert await sniffer.count(0.3) == 0


@contextlib.asynccontextmanager
async def _parked(net: Network) -> AsyncIterator[tuple[Balancer, socket.socket]]:
    """Run a balancer that had the address and has parked it, with a client's connection from before."""
    async with balancer(net, net.hosts[0]) as old:
        await old.ask("start")
        await old.ask("hold", 600)
        with await net.connect() as connection:
            await _heard(connection, b"one\n")
            await old.ask("park")
            yield old, connection


async def _heard(connection: socket.socket, expected: bytes) -> None:
    heard = b""
    async with soon(f"{expected!r} is heard", seen=lambda: heard):
        while not heard.endswith(expected):
            heard += await asyncio.get_running_loop().sock_recv(connection, 1024)
