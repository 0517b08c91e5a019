"""Callers that send or receive as much as they can: `python -m tests.bench.relay_client`.

Arguments: the relay's port, `SINK` or `SOURCE` as what is called, how many at once, for how many seconds, and
over TLS the file of the certificate that is trusted. Prints in JSON how many bytes passed, in what time.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable

from tests.bench import instances, pdus
from tests.bench.relay_worker import AT_ONCE_BYTES, SINK, discard, repeated


def _associate(port: int, called: str, context: ssl.SSLContext | None) -> socket.socket:
    connection: socket.socket = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if context is not None:
        connection = context.wrap_socket(connection, server_hostname="127.0.0.1")
    connection.sendall(pdus.associate_rq(called, "BENCH", instances.CT_IMAGE_STORAGE))
    head = _read(connection, 6)
    _read(connection, int.from_bytes(head[2:], "big"))
    return connection


def _read(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise ConnectionError("the relay has closed the connection")
        data += more
    return data


def _send(connection: socket.socket, until: float) -> int:
    """Send until that moment; return how much the worker says it got."""
    file, size = repeated()
    data = memoryview(os.pread(file, AT_ONCE_BYTES, 0))
    sent = 0
    while time.monotonic() < until:
        if isinstance(connection, ssl.SSLSocket):
            connection.sendall(data)
        else:
            sent = (
                sent + os.sendfile(connection.fileno(), file, sent, min(size - sent, AT_ONCE_BYTES))
            ) % size
    socket.socket.shutdown(connection, socket.SHUT_WR)  # that of SSLSocket would end TLS in both directions
    return int(struct.unpack(">6xQ", _read(connection, 14))[0])


def _receive(connection: socket.socket, until: float) -> int:
    """Receive until that moment; return how much."""
    if not isinstance(connection, ssl.SSLSocket):
        return discard(connection, until)
    buffer = bytearray(AT_ONCE_BYTES)
    total = 0
    while time.monotonic() < until:
        total += connection.recv_into(buffer)
    return total


def main() -> None:
    """Do what the arguments say."""
    port, called, streams, seconds, *trusted = sys.argv[1:]
    context = ssl.create_default_context(cafile=trusted[0]) if trusted else None
    work: Callable[[socket.socket, float], int] = _send if called == SINK else _receive
    connections = [_associate(int(port), called, context) for _ in range(int(streams))]
    counts: list[int] = []
    begun = time.monotonic()

    def run(connection: socket.socket) -> None:
        counts.append(work(connection, begun + float(seconds)))

    threads = [threading.Thread(target=run, args=(connection,)) for connection in connections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - begun
    if len(counts) != len(connections):
        raise SystemExit("a stream broke off")
    print(json.dumps({"bytes": sum(counts), "seconds": took}))


if __name__ == "__main__":
    main()
