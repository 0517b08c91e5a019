"""Who holds an address, as a host on the same network sees it: whom ARP says it belongs to (RFC 826)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from itertools import combinations
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chaos.hosts.namespace import Namespace

_ETHER_ARP: Final = 0x0806
_BROADCAST: Final = b"\xff" * 6
_PACKET: Final = struct.Struct("!6s6sH HHBBH 6s4s6s4s")
_REQUEST: Final = 1
_ETHERNET_IPV4: Final = (1, 0x0800, 6, 4)


@dataclass(frozen=True, slots=True)
class Seen:
    """Somebody says that the address is his."""

    at_s: float
    """On the loop's clock."""
    mac: str
    gratuitous: bool
    """Whether nobody had asked (RFC 5227 3)."""


@dataclass(frozen=True, slots=True)
class Tenure:
    """A time in which somebody held the address."""

    mac: str
    begin_s: float
    end_s: float


class ArpWatch:
    """Asks for an address by ARP at a steady pace, and notes every answer, and what is told unasked.

    Parameters
    ----------
    namespace : Namespace
        Of the host that asks.
    interface : str
    own : IPv4Address
        Of the host that asks.
    address : IPv4Address
        Asked for.
    interval_s : float
    """

    def __init__(
        self,
        namespace: Namespace,
        interface: str,
        own: IPv4Address,
        address: IPv4Address,
        *,
        interval_s: float = 0.02,
    ) -> None:
        self.seen: list[Seen] = []
        self._own = own
        self._address = address
        self._interval_s = interval_s
        with namespace.entered():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETHER_ARP))
        self._socket.setblocking(False)
        self._socket.bind((interface, _ETHER_ARP))
        self._mac: bytes = self._socket.getsockname()[4]

    async def run(self) -> None:
        """Watch until cancelled."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._socket, self._receive, loop)
        try:
            while True:
                with contextlib.suppress(OSError):  # its cable is out
                    self._socket.send(self._request())
                await asyncio.sleep(self._interval_s)
        finally:
            loop.remove_reader(self._socket)
            self._socket.close()

    def _request(self) -> bytes:
        head = (_BROADCAST, self._mac, _ETHER_ARP, *_ETHERNET_IPV4, _REQUEST)
        return _PACKET.pack(*head, self._mac, self._own.packed, bytes(6), self._address.packed)

    def _receive(self, loop: asyncio.AbstractEventLoop) -> None:
        with contextlib.suppress(OSError):
            while True:
                found = parse(self._socket.recv(2048), self._address, loop.time())
                if found is not None:
                    self.seen.append(found)


def parse(frame: bytes, address: IPv4Address, at_s: float) -> Seen | None:
    """Return what an Ethernet frame says of who has an address; None if nothing."""
    if len(frame) < _PACKET.size:
        return None
    to, _, kind, *format_, operation, mac, sender, _, target = _PACKET.unpack_from(frame)
    if kind != _ETHER_ARP or tuple(format_) != _ETHERNET_IPV4 or sender != address.packed:
        return None
    # A request by which the holder looks for somebody else says as much of the holder.
    is_unasked = to == _BROADCAST and (operation == _REQUEST or target == sender)
    return Seen(at_s, mac.hex(":"), is_unasked)


def tenures(seen: Iterable[Seen], *, silence_s: float) -> list[Tenure]:
    """Return who held the address from when to when, in the order of their beginning.

    Parameters
    ----------
    seen : iterable of Seen
    silence_s : float
        Who has not said so for longer holds it no more; more than the interval of who asks.
    """
    found: list[Tenure] = []
    running: dict[str, int] = {}
    for one in sorted(seen, key=lambda one: one.at_s):
        index = running.get(one.mac)
        if index is not None and one.at_s - found[index].end_s <= silence_s:
            found[index] = replace(found[index], end_s=one.at_s)
        else:
            running[one.mac] = len(found)
            found.append(Tenure(one.mac, one.at_s, one.at_s))
    return found


def both_held_s(tenures: Iterable[Tenure]) -> float:
    """Return the longest time for which two held the address at once."""
    return max(
        (
            min(one.end_s, other.end_s) - max(one.begin_s, other.begin_s)
            for one, other in combinations(tenures, 2)
            if one.mac != other.mac
        ),
        default=0.0,
    )
