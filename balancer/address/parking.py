"""Keeping an address on `lo` after another host has taken it, for the flows that this host still has.

Nothing there outlives its process for long, and nothing is changed that would have to be remembered: the
address has a `valid_lft`, and what stands in a table of its own is removed with the table.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import socket
import struct
from ipaddress import IPv4Address
from typing import Final

from balancer.address import netlink, nft
from balancer.address.faults import AddressFault
from cluster.proxy_protocol import IPAddress

LOOPBACK: Final = "lo"
VALID_S: Final = 30
RENEWED_AFTER_S: Final = 10.0
_TABLE: Final = "arp atria_parked"
_SIOCGIFADDR: Final = 0x8915


def enter(address: IPAddress, interface: str) -> None:
    """Move an address from an interface to `lo`, where no other host finds it.

    It is there before it leaves the interface, so that each packet finds it, and it is no longer answered for
    by then. IPv6 needs no rule: a Neighbour Solicitation is answered for addresses of the interface that it
    came by only (RFC 4861 7.2.3).

    Raises
    ------
    OSError
    AddressFault
        No rule can be set. The address stays where it was.
    """
    if interface == LOOPBACK:
        raise AddressFault("an address that is held at lo has nowhere to go")
    netlink.add_address(address, LOOPBACK, VALID_S)
    try:
        if isinstance(address, IPv4Address):
            nft.run(silence(address, _primary_address(interface, besides=address)))
        netlink.remove_address(address, interface)
    except BaseException:
        leave(address)
        raise


def renew(address: IPAddress) -> None:
    """Keep a parked address.

    Raises
    ------
    OSError
    """
    netlink.add_address(address, LOOPBACK, VALID_S)


def leave(address: IPAddress) -> None:
    """Let a parked address go, and answer again for one that an interface has. Without one nothing happens.

    Raises
    ------
    OSError
    AddressFault
    """
    netlink.remove_address(address, LOOPBACK)
    if isinstance(address, IPv4Address):
        nft.run(nft.removal(_TABLE))


def clear(address: IPAddress) -> None:
    """Remove what a process that was killed has parked.

    Raises
    ------
    OSError
    """
    netlink.remove_address(address, LOOPBACK)
    nft.clear(_TABLE)


def silence(address: IPv4Address, instead: IPv4Address) -> str:
    """Return the rules by which ARP never speaks of an address (RFC 826).

    Questions for it are not heard. And when this host asks for a client, it asks as `instead`: whoever hears
    a question learns from it where its sender is.
    """
    return f"""\
{nft.removal(_TABLE)}
table {_TABLE} {{
  chain input {{
    type filter hook input priority filter; policy accept;
    arp daddr ip {address} drop
  }}
  chain output {{
    type filter hook output priority filter; policy accept;
    arp saddr ip {address} arp saddr ip set {instead}
  }}
}}
"""


def _primary_address(interface: str, besides: IPv4Address) -> IPv4Address:
    """Return the host's own address at an interface; without one 0.0.0.0, as in a probe (RFC 5227 2.1.1)."""
    request = struct.pack("16sH14x", interface.encode(), socket.AF_INET)
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as any_socket:
        try:
            answer = fcntl.ioctl(any_socket, _SIOCGIFADDR, request)
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:
                raise
            return IPv4Address(0)
    found = IPv4Address(answer[20:24])
    return IPv4Address(0) if found == besides else found
