"""Noticing that a caller has left while it waits, and nobody reads what it sends."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from balancer.associate_rq import A_ABORT, A_ABORT_BYTES


@contextmanager
def watched(client: socket.socket, left: Callable[[], None]) -> Iterator[None]:
    """Call `left` once if the client closes its connection, breaks it, or aborts, within the context.

    Nothing else is read. One that sends more before its request is answered is watched no longer: that it
    has left is seen when what it sent is relayed.
    """
    loop = asyncio.get_running_loop()

    def look() -> None:
        try:
            first = client.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            first = b""
        loop.remove_reader(client)
        if not first:
            left()
        elif first[0] == A_ABORT:
            client.recv(A_ABORT_BYTES)  # to close with bytes unread would reset the connection
            left()

    loop.add_reader(client, look)
    try:
        yield
    finally:
        loop.remove_reader(client)
