"""Sending flows that another host has on to it, after the service address has come here.

No list of flows is right at any moment: they begin and end while the address moves. So it is told by how they
begin. Whatever began here with a SYN is this host's; so is what it has from an earlier term; all else is the
other host's, which has parked the address and serves these flows to their end. Its answers go straight to the
clients.

The packets are sent on where they arrive, before the kernel looks whom they are for (nftables, family netdev,
`fwd`): neither routes nor forwarding, nor any other setting of the host is changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from balancer.address import netlink, nft
from balancer.address.faults import AddressFault, fault
from cluster.proxy_protocol import Endpoint, IPAddress

TABLE: Final = "netdev atria_detour"
FLOWS_LIMIT: Final = 65_536
"""Flows that can be known as this host's. One more goes to the other host, which takes it as well."""
_OPENING_S: Final = 60
"""How long a SYN is remembered after which nothing came: a flood of them is soon forgotten."""
TCP_TAIL_S: Final = 300
"""How much longer than an idle association may be silent its flow is remembered."""


@dataclass(frozen=True, slots=True)
class Front:
    """Where clients call."""

    address: IPAddress
    interface: str
    ports: tuple[int, ...]
    remembered_s: int
    """How long a flow of this host is known without a packet of its client."""


class KernelDetour:
    """The detour, as the kernel has it. All methods raise `AddressFault`.

    Changes are made one after another in a thread; one that was asked for is made, even when nobody waits for
    it any more.

    Parameters
    ----------
    front : Front
    """

    def __init__(self, front: Front) -> None:
        self._front = front
        self._kernel = ThreadPoolExecutor(1, "detour")
        self._is_there = False

    def clear(self) -> None:
        """Remove what a process that was killed left behind. At the start, before anything else."""
        nft.clear(TABLE)

    async def begin(self, towards: IPAddress, own: Collection[Endpoint]) -> None:
        """Send flows of the service address that are not ours to another host. Before the address is taken.

        Where there is a detour already, it leads to `towards` from now on; what began here stays here.

        Parameters
        ----------
        towards : IPv4Address or IPv6Address
            An address of the other host, on a network that both share.
        own : collection of Endpoint
            The clients of flows to the service address that this host has already.
        """
        self._is_there = True
        await self._do(lambda: self._begin(towards, own))

    async def end(self) -> None:
        """Take all flows for ours. Without a detour nothing happens.

        When those of the other host have ended, or the host has: they are reset, rather than left to wait.
        """
        if not self._is_there:
            return
        self._is_there = False  # one that begins meanwhile is there after this
        try:
            await self._do(lambda: nft.run(nft.removal(TABLE)))
        except AddressFault:
            self._is_there = True
            raise

    def _do(self, change: Callable[[], None]) -> asyncio.Future[None]:
        return asyncio.get_running_loop().run_in_executor(self._kernel, change)

    def _begin(self, towards: IPAddress, own: Iterable[Endpoint]) -> None:
        if towards.version != self._front.address.version:
            raise AddressFault(
                f"flows to {self._front.address} cannot be sent to {towards}: the other host needs an address"
                f" of IPv{self._front.address.version}, too"
            )
        try:
            way = netlink.route(towards)
        except OSError as error:
            raise fault(f"flows cannot be sent to {towards}", error) from error
        if way.is_local:
            raise AddressFault(f"flows cannot be sent to {towards}: that is this host itself")
        if not way.is_on_link:
            raise AddressFault(
                f"flows cannot be sent to {towards}: there is a gateway between, and it must be on a network"
                " that both share"
            )
        nft.run(rules(self._front, towards, way.interface, own))


def rules(front: Front, towards: IPAddress, way: str, own: Iterable[Endpoint]) -> str:
    """Return the script of a detour. It is carried out at once, and what began here outlives it.

    Parameters
    ----------
    front : Front
    towards : IPv4Address or IPv6Address
    way : str
        Interface by which `towards` is reached without a gateway.
    own : iterable of Endpoint
    """
    ip = "ip" if front.address.version == 4 else "ip6"
    flow = f"{ip} saddr . tcp sport . tcp dport"
    ports = ", ".join(map(str, front.ports))
    arriving = f"meta pkttype host {ip} daddr {front.address} tcp dport {{ {ports} }}"
    rule = f"add rule {TABLE} arriving {arriving}"
    known = [
        f"{client.address} . {client.port} . {port}"
        for client in own
        if client.address.version == front.address.version
        for port in front.ports
    ]
    return f"""\
table {TABLE} {{
  set began_here {{
    type ipv{front.address.version}_addr . inet_service . inet_service
    flags dynamic, timeout
    timeout {front.remembered_s}s
    size {FLOWS_LIMIT}
  }}
  chain arriving {{ type filter hook ingress device "{front.interface}" priority -150; policy accept; }}
}}
flush chain {TABLE} arriving
{rule} tcp flags & (syn | ack) == syn update @began_here {{ {flow} timeout {_OPENING_S}s }} accept
{rule} {flow} @began_here update @began_here {{ {flow} }} accept
{rule} fwd {ip} to {towards} device "{way}"
""" + (f"add element {TABLE} began_here {{ {', '.join(known)} }}\n" if known else "")
