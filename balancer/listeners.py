"""Where the front door listens, and from where it calls workers."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from typing import Final

from balancer.sockets import endpoint, listen
from cluster.coordination.registry import Address
from cluster.proxy_protocol import IPAddress

IP_FREEBIND: Final = 15
IPV6_FREEBIND: Final = 78
"""Options of Linux that Python does not name: an address may be listened at before this host has it."""


async def open_listeners(address: Address, service: IPAddress | None, backlog: int) -> list[socket.socket]:
    """Return listening sockets for an address of this host, and for the service address on the same port.

    The service address need not be here now: whoever is given it later can be called there at once.

    Raises
    ------
    OSError
        The address or the port cannot be had.
    """
    listeners = await listen(address, backlog)
    if service is None:
        return listeners
    bound = {endpoint(listener.getsockname()).address for listener in listeners}
    everywhere = ipaddress.ip_address("0.0.0.0" if service.version == 4 else "::")  # noqa: S104
    if bound & {service, everywhere}:
        return listeners
    try:
        listeners.append(_listener_ahead(service, listeners[0].getsockname()[1], backlog))
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def own_addresses(listeners: Iterable[socket.socket], service: IPAddress | None) -> tuple[IPAddress, ...]:
    """Return the addresses of this host that are listened at by name: not all of them, nor the service's."""
    bound = dict.fromkeys(endpoint(listener.getsockname()).address for listener in listeners)
    return tuple(address for address in bound if not address.is_unspecified and address != service)


def source_towards(peer: IPAddress, own: Iterable[IPAddress]) -> IPAddress | None:
    """Return from which address of ours to call a peer; None to leave it to the kernel.

    Workers take connections from known addresses only, and the service address moves from host to host: a
    connection that had it as its source would be cut off. One of loopback reaches nothing but loopback.
    """
    for address in own:
        if address.version == peer.version and address.is_loopback == peer.is_loopback:
            return address
    return None


def _listener_ahead(address: IPAddress, port: int, backlog: int) -> socket.socket:
    is_v4 = address.version == 4
    listener = socket.socket(socket.AF_INET if is_v4 else socket.AF_INET6, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_v4:
            listener.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
        else:
            listener.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((str(address), port))
        listener.listen(backlog)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener
