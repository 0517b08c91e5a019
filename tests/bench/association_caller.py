"""Callers that associate and release, again and again: `python -m tests.bench.association_caller`.

Arguments: the port, for how many seconds, how many at once, and `proxied` where a PROXY protocol header is
sent first, as by a balancer. Prints in JSON how many associations there were a second.
"""

from __future__ import annotations

import ipaddress
import json
import socket
import sys
import threading
import time

from cluster.proxy_protocol import Command, Endpoint, Header, encode
from tests.bench import instances, pdus

PROXIED = "proxied"
_READ_BYTES = 4096
_RELEASE_RP_BYTES = 10


def associate(port: int, preface: bytes = b"") -> socket.socket:
    """Return a connection with an association that was accepted."""
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(preface + pdus.associate_rq("ATRIA", "BENCH", instances.CT_IMAGE_STORAGE))
    answer = connection.recv(_READ_BYTES)
    if not answer or answer[0] != pdus.A_ASSOCIATE_AC:
        raise ConnectionError(f"no A-ASSOCIATE-AC but {answer[:10]!r}")
    return connection


def _call(port: int, preface: bytes) -> None:
    with associate(port, preface) as connection:
        connection.sendall(pdus.release(pdus.A_RELEASE_RQ))
        if len(connection.recv(_RELEASE_RP_BYTES, socket.MSG_WAITALL)) != _RELEASE_RP_BYTES:
            raise ConnectionError("no A-RELEASE-RP")


def main() -> None:
    """Do what the arguments say."""
    port, seconds, at_once, *how = sys.argv[1:]
    here = Endpoint(ipaddress.ip_address("127.0.0.1"), 104)
    header = Header(Command.PROXY, here, here, association_id="0123456789abcdef")
    preface = encode(header) if PROXIED in how else b""
    counts: list[int] = []
    begun = time.monotonic()

    def run() -> None:
        count = 0
        while time.monotonic() < begun + float(seconds):
            _call(int(port), preface)
            count += 1
        counts.append(count)

    threads = [threading.Thread(target=run) for _ in range(int(at_once))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(counts) != len(threads):
        raise SystemExit("an association was not accepted")
    print(json.dumps({"rate": sum(counts) / (time.monotonic() - begun)}))


if __name__ == "__main__":
    main()
