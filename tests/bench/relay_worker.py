"""A worker that costs next to nothing: `python -m tests.bench.relay_worker PORT`.

It accepts an association of whoever a relay announces by a PROXY protocol header. Called `SINK`, it lets the
kernel throw away what comes, and at its end says in a P-DATA-TF how much that was. Called `SOURCE`, it sends
P-DATA-TFs until nobody takes them.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import struct
import sys
import threading
import time
from typing import Final

from cluster import proxy_protocol
from tests.bench import pdus

SINK: Final = "SINK"
SOURCE: Final = "SOURCE"
AT_ONCE_BYTES: Final = 1024 * 1024
_PDUS: Final = 16


def repeated(pdu_bytes: int = pdus.LARGEST_PDU_BYTES) -> tuple[int, int]:
    """Return a file in memory with P-DATA-TFs one after the other, and its length in bytes."""
    file = os.memfd_create("pdus")
    one = struct.pack(">BxI", pdus.P_DATA_TF, pdu_bytes) + bytes(pdu_bytes)
    for _ in range(_PDUS):
        os.write(file, one)
    return file, _PDUS * len(one)


def discard(connection: socket.socket, until: float = math.inf) -> int:
    """Let the kernel throw away what comes, until its end or that moment; return how many bytes that were."""
    buffer = bytearray(AT_ONCE_BYTES)
    total = 0
    while time.monotonic() < until:
        count = connection.recv_into(buffer, AT_ONCE_BYTES, socket.MSG_TRUNC)
        if not count:
            break
        total += count
    return total


def _serve(connection: socket.socket, file: int, size: int) -> None:
    with connection, contextlib.suppress(OSError):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not _read_header(connection):
            return
        head = connection.recv(6, socket.MSG_WAITALL)
        request = connection.recv(int.from_bytes(head[2:], "big"), socket.MSG_WAITALL)
        connection.sendall(pdus.associate_ac("ANY", "ANY"))
        if request[4:20].strip() == SOURCE.encode():
            while True:
                _send(connection, file, size)
        count = discard(connection)
        connection.sendall(struct.pack(">BxIQ", pdus.P_DATA_TF, 8, count))


def _read_header(connection: socket.socket) -> bool:
    """Read a PROXY protocol header; tell whether there was one."""
    header = b""
    while proxy_protocol.parse(header) is None:
        more = connection.recv(1 if header else proxy_protocol.FIXED_BYTES)
        if not more:
            return False
        header += more
    return True


def _send(connection: socket.socket, file: int, size: int) -> None:
    sent = 0
    while sent < size:
        sent += os.sendfile(connection.fileno(), file, sent, size - sent)


def main() -> None:
    """Listen on the loopback port that is the first argument, until killed."""
    file, size = repeated()
    with socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=64) as listener:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_serve, args=(connection, file, size), daemon=True).start()


if __name__ == "__main__":
    main()
