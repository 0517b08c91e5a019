"""Requests to the kernel about addresses and routes: rtnetlink (RFC 3549), as far as a balancer needs it.

Each request is one system call or two, and is done when the function returns. It waits for others who are
changing the host's network at that moment.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from cluster.proxy_protocol import IPAddress

_RTM_NEWADDR: Final = 20
_RTM_DELADDR: Final = 21
_RTM_GETROUTE: Final = 26
_NLMSG_ERROR: Final = 2
_NLM_F_REQUEST: Final = 0x1
_NLM_F_ACK: Final = 0x4
_NLM_F_REPLACE: Final = 0x100
_NLM_F_CREATE: Final = 0x400
_IFA_ADDRESS: Final = 1
_IFA_LOCAL: Final = 2
_IFA_CACHEINFO: Final = 6
_IFA_FLAGS: Final = 8
_IFA_F_NODAD: Final = 0x02
_IFA_F_NOPREFIXROUTE: Final = 0x200
_RTA_DST: Final = 1
_RTA_OIF: Final = 4
_RTA_GATEWAY: Final = 5
_RTA_VIA: Final = 18
_RTN_LOCAL: Final = 2
_SCOPE_GLOBAL: Final = 0
_SCOPE_LINK: Final = 253
_HEADER: Final = struct.Struct("=IHHII")
_ADDRESS_HEADER: Final = struct.Struct("=BBBBI")
_ROUTE_HEADER: Final = struct.Struct("=BBBBBBBBI")
_ATTRIBUTE: Final = struct.Struct("=HH")
_CACHE_INFO: Final = struct.Struct("=IIII")
_ANSWER_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Route:
    """How packets get to an address."""

    interface: str
    is_on_link: bool
    """No gateway stands between."""
    is_local: bool
    """It is an address of this host."""


def add_address(address: IPAddress, interface: str, valid_s: int) -> None:
    """Give an interface an address for some seconds, or renew one that it has.

    It answers for it at once: an election has decided, so duplicates are not looked for. It never takes it
    for connections of its own: deprecated from the start (RFC 4862 5.5.4), and for IPv4 of the link's scope.

    Parameters
    ----------
    address : IPv4Address or IPv6Address
    interface : str
    valid_s : int
        `valid_lft`: the kernel drops the address by itself when it has not been renewed for so long.

    Raises
    ------
    OSError
    """
    flags = _IFA_F_NODAD | _IFA_F_NOPREFIXROUTE
    body = (
        _address(address, interface)
        + _attribute(_IFA_CACHEINFO, _CACHE_INFO.pack(0, valid_s, 0, 0))
        + _attribute(_IFA_FLAGS, struct.pack("=I", flags))
    )
    _request(_RTM_NEWADDR, _NLM_F_ACK | _NLM_F_CREATE | _NLM_F_REPLACE, body)


def remove_address(address: IPAddress, interface: str) -> None:
    """Take an address from an interface. One that is not there is no error.

    Raises
    ------
    OSError
    """
    try:
        _request(_RTM_DELADDR, _NLM_F_ACK, _address(address, interface))
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL:
            raise


def route(towards: IPAddress) -> Route:
    """Return how packets get to an address.

    Raises
    ------
    OSError
        There is no way.
    """
    packed = towards.packed
    header = _ROUTE_HEADER.pack(_family(towards), len(packed) * 8, 0, 0, 0, 0, 0, 0, 0)
    body = _request(_RTM_GETROUTE, 0, header + _attribute(_RTA_DST, packed))
    kind = _ROUTE_HEADER.unpack_from(body)[7]
    attributes = dict(_attributes(body[_ROUTE_HEADER.size :]))
    return Route(
        interface=socket.if_indextoname(struct.unpack("=I", attributes[_RTA_OIF])[0]),
        is_on_link=_RTA_GATEWAY not in attributes and _RTA_VIA not in attributes,
        is_local=kind == _RTN_LOCAL,
    )


def _family(address: IPAddress) -> int:
    return socket.AF_INET if isinstance(address, ipaddress.IPv4Address) else socket.AF_INET6


def _address(address: IPAddress, interface: str) -> bytes:
    """Return a struct ifaddrmsg, and which address it is about."""
    try:
        index = socket.if_nametoindex(interface)
    except OSError as error:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), interface) from error
    packed = address.packed
    scope = _SCOPE_LINK if address.version == 4 else _SCOPE_GLOBAL
    return (
        _ADDRESS_HEADER.pack(_family(address), len(packed) * 8, 0, scope, index)
        + _attribute(_IFA_LOCAL, packed)
        + _attribute(_IFA_ADDRESS, packed)
    )


def _attribute(kind: int, value: bytes) -> bytes:
    padding = bytes(-len(value) % 4)
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + padding


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        yield kind, data[_ATTRIBUTE.size : length]
        data = data[length + -length % 4 :]


def _request(kind: int, flags: int, body: bytes) -> bytes:
    """Send one request, and return the body of its answer.

    Raises
    ------
    OSError
        The kernel refused it.
    """
    message = _HEADER.pack(_HEADER.size + len(body), kind, _NLM_F_REQUEST | flags, 1, 0) + body
    with contextlib.closing(
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    ) as kernel:
        kernel.bind((0, 0))
        kernel.send(message)
        answer = kernel.recv(_ANSWER_BYTES)
    length, answered, _, _, _ = _HEADER.unpack_from(answer)
    if answered == _NLMSG_ERROR:
        number = -struct.unpack_from("=i", answer, _HEADER.size)[0]
        if number:
            raise OSError(number, os.strerror(number))
    return answer[_HEADER.size : length]
