"""What may stand between a transport connection and its first PDU: a header of who relays it, and TLS."""

from __future__ import annotations

import asyncio
from typing import Protocol


class PrefaceFields(Protocol):
    """What stood before the first PDU."""

    @property
    def consumed_bytes(self) -> int:
        """How many of the bytes are not the association's."""

    @property
    def source(self) -> str:
        """`host:port` of the requestor; empty where it is the sender itself, or is not known."""

    @property
    def association_id(self) -> str | None:
        """The name that the association has had so far."""

    @property
    def is_local(self) -> bool:
        """Whether there is no requestor behind the sender: it is a probe."""


class Preface(Protocol):
    """Reads what stands before the first PDU of each connection, such as a PROXY protocol header."""

    def __call__(self, data: bytes, /) -> PrefaceFields | None:
        """Return it, or None while `data`, all bytes so far, is not enough.

        Raises
        ------
        ValueError
            It is wrong: the connection is closed.
        """


class Upgraded(Protocol):
    """TLS, between a transport and a connection."""

    def feed(self, data: bytes, /) -> None:
        """Take what was read of it already."""


class Upgrade(Protocol):
    """Puts TLS on a connection."""

    def __call__(self, transport: asyncio.Transport, above: asyncio.BufferedProtocol, /) -> Upgraded:
        """Return what is to be the transport's protocol, and the connection's transport."""
