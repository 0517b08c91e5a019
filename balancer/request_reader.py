"""The first bytes of a caller, and how they are put together: an A-ASSOCIATE-RQ, or the beginning of TLS."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack
from typing import Final, Protocol

from balancer.associate_rq import AssociateRq
from balancer.sockets import receive

LARGE_REQUEST_BYTES: Final = 64 * 1024
"""Hardly any request is larger: 128 presentation contexts of ten transfer syntaxes each take 40 KB."""
LARGE_REQUESTS_AT_ONCE: Final = 16
"""How many larger ones are read at the same time: a flood of them that never end would fill memory."""
_READ_AT_ONCE_BYTES: Final = 64 * 1024


class RequestReader(Protocol):
    """Puts together what a caller says first."""

    @property
    def received_bytes(self) -> int:
        """How much has come."""

    @property
    def needed_bytes(self) -> int:
        """How many more bytes may be fed now."""

    def feed(self, data: bytes) -> AssociateRq | None:
        """Take bytes; return the request when it is complete, or raise `NotAnAssociateRq`."""


async def read_request(
    reader: RequestReader, connection: socket.socket, large_requests: asyncio.Semaphore
) -> AssociateRq | None:
    """Read what a caller says first, and nothing beyond it.

    Parameters
    ----------
    reader : RequestReader
        With nothing fed yet.
    connection : socket.socket
        Non-blocking.
    large_requests : asyncio.Semaphore
        Held from when it is known that more than `LARGE_REQUEST_BYTES` are to come.

    Returns
    -------
    AssociateRq or None
        None where the caller leaves before it is complete.

    Raises
    ------
    NotAnAssociateRq
    OSError
        The connection is broken.
    """
    async with AsyncExitStack() as turn:
        has_turn = False
        while data := await receive(connection, min(reader.needed_bytes, _READ_AT_ONCE_BYTES)):
            if (request := reader.feed(data)) is not None:
                return request
            if reader.needed_bytes > LARGE_REQUEST_BYTES and not has_turn:
                await turn.enter_async_context(large_requests)
                has_turn = True
    return None
