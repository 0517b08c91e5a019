"""Who holds an address, as a host on the same network sees it: whom ARP or neighbour discovery names."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import IPv4Address
from itertools import combinations
from typing import TYPE_CHECKING

from chaos.hosts import arp, neighbour_discovery

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chaos.hosts.arp import Claim
    from chaos.hosts.namespace import Namespace
    from chaos.hosts.story import Note
    from cluster.proxy_protocol import IPAddress


@dataclass(frozen=True, slots=True)
class Seen:
    """Somebody said that the address is his."""

    at_s: float
    """On the loop's clock."""
    claim: Claim


@dataclass(frozen=True, slots=True)
class Tenure:
    """A time in which somebody held the address."""

    mac: str
    begin_s: float
    end_s: float


class AddressWatch:
    """Asks for an address at a steady pace, and notes every answer, and what is told unasked.

    Parameters
    ----------
    namespace : Namespace
        Of the host that asks.
    interface : str
    own : IPv4Address or IPv6Address
        Of the host that asks.
    address : IPv4Address or IPv6Address
        Asked for; of the same version.
    interval_s : float
    note : callable
        Takes whose the address is, whenever somebody else than the last says that it is his.
    """

    def __init__(
        self,
        namespace: Namespace,
        interface: str,
        own: IPAddress,
        address: IPAddress,
        *,
        interval_s: float = 0.02,
        note: Note = lambda _: None,
    ) -> None:
        self.seen: list[Seen] = []
        self._note = note
        self._interval_s = interval_s
        by_arp = isinstance(address, IPv4Address)
        ether_type = arp.ETHER_TYPE if by_arp else neighbour_discovery.ETHER_TYPE
        with namespace.entered():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ether_type))
        self._socket.setblocking(False)
        self._socket.bind((interface, ether_type))
        mac: bytes = self._socket.getsockname()[4]
        self._question, self._claim = _spoken(address, own, mac)

    async def run(self) -> None:
        """Watch until cancelled."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._socket, self._receive, loop)
        try:
            while True:
                with contextlib.suppress(OSError):  # its cable is out
                    self._socket.send(self._question)
                await asyncio.sleep(self._interval_s)
        finally:
            loop.remove_reader(self._socket)
            self._socket.close()

    def _receive(self, loop: asyncio.AbstractEventLoop) -> None:
        with contextlib.suppress(OSError):
            while True:
                claim = self._claim(self._socket.recv(2048))
                if claim is None:
                    continue
                if not self.seen or self.seen[-1].claim.mac != claim.mac:
                    self._note(f"is said to be at {claim.mac}")
                self.seen.append(Seen(loop.time(), claim))


def _spoken(address: IPAddress, own: IPAddress, mac: bytes) -> tuple[bytes, Callable[[bytes], Claim | None]]:
    """Return the frame that asks for an address, and how an answer is read, as its version has it."""
    if isinstance(address, IPv4Address):
        assert isinstance(own, IPv4Address)
        return arp.question(address, own, mac), partial(arp.claim, address=address)
    assert not isinstance(own, IPv4Address)
    return (
        neighbour_discovery.question(address, own, mac),
        partial(neighbour_discovery.claim, address=address),
    )


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
        mac = one.claim.mac
        index = running.get(mac)
        if index is not None and one.at_s - found[index].end_s <= silence_s:
            found[index] = replace(found[index], end_s=one.at_s)
        else:
            running[mac] = len(found)
            found.append(Tenure(mac, one.at_s, one.at_s))
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
