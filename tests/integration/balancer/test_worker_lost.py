from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cluster.coordination.registry import Address
from tests.integration.balancer.world import (
    A_ABORT,
    A_ASSOCIATE_AC,
    FakeWorker,
    echo,
    pdu,
    sent,
    settled,
    world,
)

MIB = 1024 * 1024

KILLABLE_WORKER = """
import socket, sys
from cluster import proxy_protocol
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
connection, _ = listener.accept()
data = b""
while (header := proxy_protocol.parse(data)) is None or len(data) < header.consumed_bytes + 74:
    data += connection.recv(4096)
connection.sendall(bytes.fromhex(sys.argv[1]) + bytes(int(sys.argv[2])))
while connection.recv(4096):
    pass
"""


@contextmanager
def killable_worker(answer: bytes, zeros: int = 0) -> Iterator[tuple[subprocess.Popen[bytes], FakeWorker]]:
    command = [sys.executable, "-c", KILLABLE_WORKER, answer.hex(), str(zeros)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        worker = FakeWorker(echo)
        worker.address = Address("127.0.0.1", int(process.stdout.readline()))
        try:
            yield process, worker
        finally:
            process.kill()


async def test_a_killed_worker_is_told_with_an_abort() -> None:
    with killable_worker(A_ASSOCIATE_AC) as (process, worker):
        async with world(worker) as here:
            async with here.caller() as caller:
                assert await caller.associate() == A_ASSOCIATE_AC
                process.send_signal(signal.SIGKILL)
                assert await caller.reader.read() == A_ABORT
            assert await here.outcomes() == {"worker_lost": 1}


async def test_a_worker_killed_while_the_caller_sends_is_told_with_an_abort() -> None:
    with killable_worker(A_ASSOCIATE_AC) as (process, worker):
        async with world(worker) as here:
            async with here.caller() as caller:
                assert await caller.associate() == A_ASSOCIATE_AC
                process.send_signal(signal.SIGSTOP)
                caller.writer.write(pdu(4, os.urandom(48 * MIB)))
                await settled(caller.writer)
                process.send_signal(signal.SIGKILL)
                await sent(caller.writer)
                assert await caller.read_pdu() == A_ABORT
            assert await here.outcomes() == {"worker_lost": 1}


@pytest.mark.parametrize("body_sent", [0, 50, 200_000])
async def test_a_worker_killed_in_the_middle_of_a_pdu_breaks_the_connection(body_sent: int) -> None:
    cut_short = pdu(4, bytes(300_000))[: 6 + body_sent]
    with killable_worker(A_ASSOCIATE_AC + cut_short[:6], body_sent) as (process, worker):
        async with world(worker) as here:
            async with here.caller() as caller:
                assert await caller.associate() == A_ASSOCIATE_AC
                assert await caller.reader.readexactly(len(cut_short)) == cut_short
                process.send_signal(signal.SIGKILL)
                with pytest.raises(ConnectionResetError):
                    await caller.reader.read()
            assert await here.outcomes() == {"worker_lost": 1}


async def test_answers_that_a_worker_sent_before_it_died_arrive_before_the_abort() -> None:
    answers = b"".join(pdu(4, os.urandom(150)) for _ in range(3))
    with killable_worker(A_ASSOCIATE_AC + answers) as (process, worker):
        async with world(worker) as here, here.caller() as caller:
            assert await caller.associate() == A_ASSOCIATE_AC
            process.send_signal(signal.SIGKILL)
            assert await caller.reader.read() == answers + A_ABORT
