"""How the balancer opens, watches over and leaves TCP connections."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import struct
from collections.abc import Callable
from typing import Final

from cluster.coordination.registry import Address
from cluster.proxy_protocol import Endpoint, IPAddress

KEEPALIVE_IDLE_S: Final = 30
KEEPALIVE_INTERVAL_S: Final = 10
UNRESPONSIVE_LIMIT_S: Final = 120
"""How long bytes or keep-alives may stay unacknowledged before a host counts as gone. Linux counts a closed
window, too: so this is longer than the time limits of those at both ends."""
IP_BIND_ADDRESS_NO_PORT: Final = 24
"""Option of Linux that Python does not name: the port is chosen on connecting, so that connections to several
peers may share one."""
_NOT_HERE: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
"""`localhost` often stands for ::1 on hosts without IPv6."""
_DISCARDED_AT_ONCE_BYTES: Final = 64 * 1024


def tune(connection: socket.socket) -> None:
    """Set a connection up: no delay of small PDUs, and a peer that is gone without a word is noticed."""
    connection.setblocking(False)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNRESPONSIVE_LIMIT_S * 1000)


async def connect(
    address: Address, source_for: Callable[[IPAddress], IPAddress | None] = lambda _: None
) -> socket.socket:
    """Return a connection to an address, the caller's to close.

    Parameters
    ----------
    address : Address
    source_for : callable, optional
        Says for the peer's address from which of ours to call; None to leave it to the kernel.

    Raises
    ------
    OSError
        Nobody takes it.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    family, kind, protocol, _, where = found[0]
    connection = socket.socket(family, kind, protocol)
    try:
        tune(connection)
        if (source := source_for(endpoint((str(where[0]), int(where[1]))).address)) is not None:
            connection.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            connection.bind((str(source), 0))
        await loop.sock_connect(connection, where)
    except BaseException:
        connection.close()
        raise
    return connection


async def listen(address: Address, backlog: int) -> list[socket.socket]:
    """Return listening sockets for every address of this host that a name stands for, all on one port.

    Raises
    ------
    OSError
        The address or the port cannot be had.
    """
    found = await asyncio.get_running_loop().getaddrinfo(
        address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    listeners: list[socket.socket] = []
    not_here: OSError | None = None
    port = address.port
    try:
        for family, _, _, _, where in dict.fromkeys(found):
            try:
                listener = socket.create_server((str(where[0]), port), family=family, backlog=backlog)
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                not_here = error
            else:
                listeners.append(listener)
                listener.setblocking(False)
                port = listener.getsockname()[1]
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    if not_here is not None and not listeners:
        raise not_here
    return listeners


def endpoint(name: tuple[str | int, ...]) -> Endpoint:
    """Return what `getpeername` or `getsockname` gave; an IPv4 client of an IPv6 socket is an IPv4 client."""
    address = ipaddress.ip_address(str(name[0]).partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return Endpoint(address, int(name[1]))


def break_off(connection: socket.socket) -> None:
    """Close a connection with a reset: the peer must not take what it has for the whole."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


async def receive(connection: socket.socket, limit_bytes: int) -> bytes:
    """Return what has come, without a turn of the loop; wait only where nothing has.

    Not to be called again and again without a bound on what is read: a quick sender would keep the loop.

    Raises
    ------
    OSError
        The connection is broken.
    """
    try:
        return connection.recv(limit_bytes)
    except BlockingIOError:
        return await asyncio.get_running_loop().sock_recv(connection, limit_bytes)


async def take_leave(connection: socket.socket, last_words: bytes, timeout_s: float) -> None:
    """Send the last PDU, and wait for the peer to close (PS3.8 9.2, Sta13).

    What the peer still sends is thrown away: closing with bytes unread would reset the connection, and the
    peer might never see the PDU. A peer that has gone, or does not go in time, is no fault.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout_s):
            if last_words:
                await loop.sock_sendall(connection, last_words)
            connection.shutdown(socket.SHUT_WR)
            more = await receive(connection, _DISCARDED_AT_ONCE_BYTES)
            while more:
                more = await loop.sock_recv(connection, _DISCARDED_AT_ONCE_BYTES)
    except OSError:  # TimeoutError is one as well
        return
