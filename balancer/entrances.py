"""The ports of the front door, and what comes in by each: plain, with TLS that ends here, or passed on."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from typing import Final, TypeAlias

from balancer.association import Association, Hall
from balancer.client import PlainClient
from balancer.listeners import open_listeners
from balancer.passed_through import PassedThrough
from balancer.tls import TlsClient
from cluster.coordination.registry import Address
from cluster.settings import TlsMode
from cluster.tls import ServerTls

BACKLOG: Final = 1024

Opener: TypeAlias = Callable[[socket.socket, tuple[str | int, ...]], Association]
"""Takes what `accept` gave; raises OSError when the connection is gone already."""


class Entrances:
    """Opens the ports that the settings name.

    Parameters
    ----------
    name : str
        Of this balancer.
    hall : Hall

    Raises
    ------
    CertificatesUnusable
    """

    def __init__(self, name: str, hall: Hall) -> None:
        self._name = name
        self._hall = hall
        settings = hall.live.now
        self._service = settings.service.address
        self._mode, self._tls_port = settings.tls.mode, settings.tls.port
        self._tls = ServerTls(settings.tls) if self._mode is TlsMode.ENDED else None
        self.tls_address: Address | None = None
        """Where TLS is spoken, once it listens there."""

    async def open(self, address: Address) -> dict[socket.socket, Opener]:
        """Listen at an address of this host, and at the service address, whoever holds it now.

        Raises
        ------
        OSError
            The address cannot be had, or, with TLS, its port.
        """
        plain: Opener = self._plain
        listeners = dict.fromkeys(await open_listeners(address, self._service, BACKLOG), plain)
        if self._mode is TlsMode.OFF:
            return listeners
        opener = self._passed_through if self._tls is None else self._with_tls
        try:
            with_tls = await open_listeners(Address(address.host, self._tls_port), self._service, BACKLOG)
        except BaseException:
            for listener in listeners:
                listener.close()
            raise
        self.tls_address = bound(with_tls[0], address.host)
        return listeners | dict.fromkeys(with_tls, opener)

    def _plain(self, connection: socket.socket, source: tuple[str | int, ...]) -> Association:
        return Association(PlainClient(connection, source), self._id(), self._hall)

    def _with_tls(self, connection: socket.socket, source: tuple[str | int, ...]) -> Association:
        assert self._tls is not None
        client = TlsClient(connection, source, self._tls.context(), self._hall.pipes)
        return Association(client, self._id(), self._hall)

    def _passed_through(self, connection: socket.socket, source: tuple[str | int, ...]) -> Association:
        return PassedThrough(PlainClient(connection, source), self._id(), self._hall)

    def _id(self) -> str:
        return f"{self._name}-{secrets.token_hex(8)}"


def bound(listener: socket.socket, host: str) -> Address:
    """Return where a listener is; `host` as it was asked for, if it was."""
    bound_host, port = listener.getsockname()[:2]
    return Address(host or bound_host, port)
