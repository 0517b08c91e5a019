"""Which hosts a cluster of the drills has, and where they are, in either IP version."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_interface
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ipaddress import IPv4Interface, IPv6Interface

    from cluster.proxy_protocol import IPAddress

BALANCERS: Final = ("lb1", "lb2")
SITES: Final = {"s1": "a", "s2": "b", "s3": "c"}
"""The hosts that have a site, and everything of it."""
CLIENT: Final = "client"
"""Where modalities are."""
WATCHER: Final = "watcher"
"""Asks who holds the service address: an answer would keep the client's kernel from believing another
for a second (arp(7), locktime), so it is not the client that asks."""

_NUMBERS: Final = {"lb1": 11, "lb2": 12, "s1": 21, "s2": 22, "s3": 23, WATCHER: 98, CLIENT: 99}
_SERVICE: Final = 100


@dataclass(frozen=True, slots=True)
class Addresses:
    """Of all hosts, in one network."""

    network: IPv4Network | IPv6Network

    def __getitem__(self, host: str) -> IPAddress:
        return self.network[_NUMBERS[host]]

    @property
    def service(self) -> IPAddress:
        """The service address."""
        return self.network[_SERVICE]

    @property
    def interfaces(self) -> dict[str, IPv4Interface | IPv6Interface]:
        """Each host's address and the network that it is in, by the host's name."""
        return {host: ip_interface(f"{self[host]}/{self.network.prefixlen}") for host in _NUMBERS}


IPV4: Final = Addresses(IPv4Network("10.213.0.0/24"))
IPV6: Final = Addresses(IPv6Network("fd00:213::/64"))
