"""Asking who has an IPv4 address, and being told (RFC 826)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

ETHER_TYPE: Final = 0x0806
_BROADCAST: Final = b"\xff" * 6
_PACKET: Final = struct.Struct("!6s6sH HHBBH 6s4s6s4s")
_REQUEST: Final = 1
_ETHERNET_IPV4: Final = (1, 0x0800, 6, 4)


@dataclass(frozen=True, slots=True)
class Claim:
    """Somebody says that an address is his."""

    mac: str
    is_unasked: bool
    """Whether nobody had asked (RFC 5227 3; RFC 4861 7.2.6)."""


def question(address: IPv4Address, own: IPv4Address, mac: bytes) -> bytes:
    """Return the Ethernet frame that asks who has an address.

    Parameters
    ----------
    address : IPv4Address
    own : IPv4Address
        Of who asks.
    mac : bytes
        Of who asks.
    """
    head = (_BROADCAST, mac, ETHER_TYPE, *_ETHERNET_IPV4, _REQUEST)
    return _PACKET.pack(*head, mac, own.packed, bytes(6), address.packed)


def claim(frame: bytes, address: IPv4Address) -> Claim | None:
    """Return what an Ethernet frame says of who has an address; None if nothing."""
    if len(frame) < _PACKET.size:
        return None
    to, _, kind, *format_, operation, mac, sender, _, target = _PACKET.unpack_from(frame)
    if kind != ETHER_TYPE or tuple(format_) != _ETHERNET_IPV4 or sender != address.packed:
        return None
    # A request by which the holder looks for somebody else says as much of the holder.
    is_unasked = to == _BROADCAST and (operation == _REQUEST or target == sender)
    return Claim(mac.hex(":"), is_unasked)
