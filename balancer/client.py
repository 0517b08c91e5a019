"""A caller's connection, as the front door accepted it: what an association needs of it, plain or not."""

from __future__ import annotations

import socket
from typing import Protocol

from balancer.relay import Outcome
from balancer.sockets import break_off, endpoint, tune
from cluster.proxy_protocol import Endpoint, TlsOfClient


class Client(Protocol):
    """A connection of a caller. Who has it calls `open` first, and `close` last."""

    source: Endpoint
    """Where the caller is."""
    entrance: Endpoint
    """Our own end."""

    @property
    def socket(self) -> socket.socket:
        """Where plaintext is read and written, non-blocking; there is one after `open`."""

    @property
    def tls(self) -> TlsOfClient | None:
        """What is known of the caller's TLS after `open`; None without it."""

    async def open(self, timeout_s: float) -> Outcome | None:
        """Make it ready to be read; return how it ended when it cannot be."""

    async def leave(self, timeout_s: float) -> None:
        """Deliver what was written, as far as the caller takes it in time."""

    def break_off(self) -> None:
        """Close it with a reset: the caller must not take what it has for the whole."""

    def close(self) -> None:
        """Close it at once. Harmless when repeated."""


class PlainClient:
    """A connection without TLS.

    Parameters
    ----------
    connection : socket.socket
        It is closed by `close`.
    source : tuple
        What `accept` gave.

    Raises
    ------
    OSError
        It is gone already.
    """

    tls: TlsOfClient | None = None

    def __init__(self, connection: socket.socket, source: tuple[str | int, ...]) -> None:
        self.socket = connection
        self.source = endpoint(source)
        self.entrance = endpoint(connection.getsockname())
        tune(connection)

    async def open(self, timeout_s: float) -> Outcome | None:  # noqa: ARG002  nothing is waited for
        """There is nothing to do."""
        return None

    async def leave(self, timeout_s: float) -> None:
        """There is nothing to do."""

    def break_off(self) -> None:
        """Close it with a reset."""
        break_off(self.socket)

    def close(self) -> None:
        """Close it; what was written is still delivered."""
        self.socket.close()
