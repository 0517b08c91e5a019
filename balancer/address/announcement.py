"""Telling the network where an address is now: gratuitous ARP, unsolicited Neighbour Advertisement."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from cluster.proxy_protocol import IPAddress

_ARPHRD_ETHER: Final = 1
_ETH_P_ARP: Final = 0x0806
_ETH_P_IP: Final = 0x0800
_ETH_BYTES: Final = 6
_BROADCAST: Final = b"\xff" * _ETH_BYTES
_ARP: Final = struct.Struct("!HHBBH6s4s6s4s")
_ARP_REQUEST: Final = 1
_ARP_REPLY: Final = 2
_ADVERTISEMENT: Final = struct.Struct("!BBHI16sBB6s")
_ND_NEIGHBOR_ADVERT: Final = 136
_OVERRIDE: Final = 0x2000_0000
_TARGET_LINK_LAYER_ADDRESS: Final = 2
_ALL_NODES: Final = "ff02::1"
_HOP_LIMIT: Final = 255
"""Neighbour discovery from farther away is not believed (RFC 4861 7.1.2)."""


def announce(address: IPAddress, interface: str, is_here: Callable[[], bool]) -> None:
    """Tell all hosts of the interface's network that the address is here: once, in every form there is.

    An interface without Ethernet addresses has nobody to tell.

    Parameters
    ----------
    address : IPv4Address or IPv6Address
    interface : str
    is_here : callable
        Asked before each packet: a process that was stopped on the way must not tell what is no longer so.

    Raises
    ------
    OSError
    """
    with contextlib.closing(socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)) as packets:
        packets.bind((interface, 0))
        _, _, _, hardware, link_layer_address = packets.getsockname()
        if hardware != _ARPHRD_ETHER:
            return
        if isinstance(address, IPv4Address):
            for packet in filter(lambda _: is_here(), gratuitous_arp(address, link_layer_address)):
                packets.sendto(packet, (interface, _ETH_P_ARP, 0, 0, _BROADCAST))
        elif is_here():
            _advertise(address, interface, neighbour_advertisement(address, link_layer_address))


def gratuitous_arp(address: IPv4Address, link_layer_address: bytes) -> tuple[bytes, bytes]:
    """Return an ARP Announcement (RFC 5227 2.3), and the same as a reply.

    Hosts are to take either (RFC 826; RFC 5227 3), and there are some that take only one.
    """
    request = _arp(_ARP_REQUEST, address, link_layer_address, bytes(_ETH_BYTES))
    reply = _arp(_ARP_REPLY, address, link_layer_address, _BROADCAST)
    return request, reply


def neighbour_advertisement(address: IPv6Address, link_layer_address: bytes) -> bytes:
    """Return an unsolicited Neighbour Advertisement that replaces what was known (RFC 4861 4.4, 7.2.6).

    Its checksum is left to the kernel.
    """
    return _ADVERTISEMENT.pack(
        _ND_NEIGHBOR_ADVERT,
        0,
        0,
        _OVERRIDE,
        address.packed,
        _TARGET_LINK_LAYER_ADDRESS,
        1,  # length of the option, in units of 8 bytes
        link_layer_address,
    )


def _arp(operation: int, address: IPv4Address, sender: bytes, target: bytes) -> bytes:
    own = address.packed
    return _ARP.pack(_ARPHRD_ETHER, _ETH_P_IP, _ETH_BYTES, len(own), operation, sender, own, target, own)


def _advertise(address: IPv6Address, interface: str, message: bytes) -> None:
    index = socket.if_nametoindex(interface)
    raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    with contextlib.closing(raw):
        raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, _HOP_LIMIT)
        raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        raw.bind((str(address), 0, 0, index))
        raw.sendto(message, (_ALL_NODES, 0, 0, index))
