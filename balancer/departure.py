"""Noticing that a caller has left while it waits, and nobody reads what it sends."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from balancer.associate_rq import A_ABORT


@contextmanager
def watched(client: socket.socket, left: Callable[[], None]) -> Iterator[None]:
    """Call `left` once if the client closes its connection, breaks it, or aborts, within the context.

    Nothing is read. One that sends anything else, before its request is answered, is watched no more: that
    it has left is seen when its data is relayed.
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
        if not first or first[0] == A_ABORT:
            left()

    loop.add_reader(client, look)
    try:
        yield
    finally:
        loop.remove_reader(client)
