from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import itertools
import os
import random
import socket
import stat
import time
from pathlib import Path

import pytest

from balancer.pipes import PipePool
from balancer.relay import End, Outcome, Relay
from tests.integration.balancer.world import (
    A_ABORT,
    A_ASSOCIATE_AC,
    A_RELEASE_RP,
    A_RELEASE_RQ,
    FakeWorker,
    LateReader,
    Visit,
    buffered,
    echo,
    pdu,
    sent,
    settled,
    world,
)
from tests.waiting import soon, until

MIB = 1024 * 1024


async def discard(visit: Visit) -> None:
    await visit.accept()
    while await visit.reader.read(MIB):
        pass


async def test_many_mebibytes_arrive_as_they_were_sent() -> None:
    digest, done = hashlib.sha256(), asyncio.Event()

    async def receive(visit: Visit) -> None:
        await visit.accept()
        while data := await visit.reader.read(MIB):
            digest.update(data)
        done.set()

    worker = FakeWorker(receive)
    data = random.Random(1).randbytes(40 * MIB)
    async with worker.listening(), world(worker) as here, here.caller() as caller:
        await caller.associate()
        for start in range(0, len(data), 3 * MIB + 1):
            caller.writer.write(data[start : start + 3 * MIB + 1])
            await caller.writer.drain()
        caller.writer.write_eof()
        await done.wait()
    assert digest.digest() == hashlib.sha256(data).digest()


@pytest.mark.parametrize(
    "sizes", [[5 * MIB, 3, 0, 200_000], [65_536] * 40, [100] * 5000, [70_000, 66_000, 65_530]]
)
async def test_pdus_of_any_size_arrive_as_the_worker_sent_them(sizes: list[int]) -> None:
    sent = b"".join(pdu(4, random.Random(size).randbytes(size)) for size in sizes)

    async def send(visit: Visit) -> None:
        visit.writer.write(A_ASSOCIATE_AC + sent + A_RELEASE_RP)
        await visit.reader.read()

    worker = FakeWorker(send)
    async with worker.listening(), world(worker) as here:
        async with here.caller() as caller:
            assert await caller.associate() == A_ASSOCIATE_AC
            received = await caller.reader.readexactly(len(sent))
            assert received == sent
            assert await caller.read_pdu() == A_RELEASE_RP
        assert await here.outcomes() == {"released": 1}


@pytest.mark.parametrize("cut", range(8))
async def test_a_large_pdu_after_another_arrives_wherever_its_header_is_cut(cut: int) -> None:
    bodies = [random.Random(n).randbytes(n) for n in (300_000, 70_000, 65_537, 65_536, 10, 2 * MIB, 70_000)]
    pdus = [pdu(4, body) for body in bodies]
    arrived = asyncio.Semaphore(0)

    async def send(visit: Visit) -> None:
        await visit.accept()
        for each, following in itertools.zip_longest(pdus, pdus[1:], fillvalue=A_RELEASE_RP):
            visit.writer.write((each if each is pdus[0] else each[cut:]) + following[:cut])
            await arrived.acquire()
        visit.writer.write(A_RELEASE_RP[cut:])
        await visit.reader.read()

    worker = FakeWorker(send)
    async with worker.listening(), world(worker) as here:
        async with here.caller() as caller:
            assert await caller.associate() == A_ASSOCIATE_AC
            for each in pdus:
                assert await caller.read_pdu() == each
                arrived.release()
            assert await caller.read_pdu() == A_RELEASE_RP
        assert await here.outcomes() == {"released": 1}


async def test_a_worker_that_does_not_read_holds_back_the_caller_and_costs_no_time() -> None:
    late = LateReader()
    worker = FakeWorker(late)
    total = 64 * MIB
    async with worker.listening(), world(worker) as here, here.caller() as caller:
        await caller.associate()
        caller.writer.write(bytes(total))
        before = await settled(caller.writer)
        assert before > total // 2
        used = time.process_time()
        await asyncio.sleep(0.5)
        assert time.process_time() - used < 0.1
        assert buffered(caller.writer) == before
        late.go_on.set()
        await caller.writer.drain()
        caller.writer.write_eof()
        assert await caller.reader.read() == b""
    assert late.received_bytes == total


async def test_a_caller_that_does_not_read_holds_back_the_worker_and_loses_nothing() -> None:
    sent = b"".join(pdu(4, random.Random(n).randbytes(n)) for n in (300, 2 * MIB, 70_000, 8 * MIB) * 4)
    worker_waited = asyncio.Event()

    async def send(visit: Visit) -> None:
        await visit.accept()
        visit.writer.write(sent)
        await asyncio.sleep(0.3)
        if buffered(visit.writer):
            worker_waited.set()
        await visit.writer.drain()
        visit.writer.write(A_RELEASE_RP)
        await visit.reader.read()

    worker = FakeWorker(send)
    async with worker.listening(), world(worker) as here, here.caller() as caller:
        await caller.associate()
        await worker_waited.wait()
        assert await caller.reader.readexactly(len(sent)) == sent
        assert await caller.read_pdu() == A_RELEASE_RP


async def test_callers_that_do_not_read_get_none_of_each_others_bytes() -> None:
    stalled = asyncio.Event()

    async def send_small(visit: Visit) -> None:
        number = len(worker.visits)
        await visit.accept()
        visit.writer.write(pdu(4, bytes((number,)) * 60_000) * 300)
        await settled(visit.writer)
        if number == 2:
            stalled.set()
        await visit.reader.read()

    worker = FakeWorker(send_small)
    async with worker.listening(), world(worker) as here, here.caller() as one, here.caller() as two:
        await one.associate()
        await two.associate()
        await stalled.wait()
        for number, caller in enumerate((one, two), start=1):
            expected = pdu(4, bytes((number,)) * 60_000)
            for _ in range(300):
                assert await caller.read_pdu() == expected


async def test_towards_the_worker_every_byte_is_spliced(monkeypatch: pytest.MonkeyPatch) -> None:
    splice, into_pipes = os.splice, 0

    def counting(source: int, destination: int, count: int, **options: int) -> int:
        nonlocal into_pipes
        moved = splice(source, destination, count, **options)
        into_pipes += moved if stat.S_ISFIFO(os.fstat(destination).st_mode) else 0
        return moved

    monkeypatch.setattr(os, "splice", counting)
    worker = FakeWorker(discard)
    async with worker.listening(), world(worker) as here:
        async with here.caller() as caller:
            await caller.associate()
            for size in (1, 150, 100_000, 3 * MIB):
                caller.writer.write(bytes(size))
                await caller.writer.drain()
            caller.writer.write_eof()
            assert await caller.reader.read() == b""
        await here.outcomes()
    assert into_pipes == 1 + 150 + 100_000 + 3 * MIB


async def test_without_a_pipe_bytes_are_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_: int) -> tuple[int, int]:
        raise OSError(errno.EMFILE, "no pipe")

    monkeypatch.setattr("balancer.pipes.os.pipe2", failing)
    worker = FakeWorker(echo)
    async with worker.listening(), world(worker) as here, here.caller() as caller:
        await caller.associate()
        for size in (1000, 3 * MIB):
            data = pdu(4, os.urandom(size))
            caller.writer.write(data)
            assert await caller.read_pdu() == data
        await caller.release()


async def test_a_kernel_that_gives_small_pipes_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(errno.EPERM, "over the share of pipe memory")

    monkeypatch.setattr("balancer.pipes.fcntl.fcntl", refuse)
    worker = FakeWorker(echo)
    async with worker.listening(), world(worker) as here, here.caller() as caller:
        await caller.associate()
        data = pdu(4, os.urandom(MIB))
        caller.writer.write(data)
        assert await caller.read_pdu() == data


async def test_idle_associations_cost_no_time() -> None:
    worker = FakeWorker(echo)
    async with worker.listening(), world(worker) as here, here.caller() as caller:
        await caller.associate()
        used = time.process_time()
        await asyncio.sleep(0.3)
        assert time.process_time() - used < 0.05


async def test_the_end_of_the_callers_stream_is_passed_on_and_answers_still_come() -> None:
    async def answer_at_the_end(visit: Visit) -> None:
        await visit.accept()
        assert await visit.reader.read() == A_RELEASE_RQ
        visit.writer.write(A_RELEASE_RP)

    worker = FakeWorker(answer_at_the_end)
    async with worker.listening(), world(worker) as here:
        async with here.caller() as caller:
            await caller.associate()
            caller.writer.write(A_RELEASE_RQ)
            caller.writer.write_eof()
            assert await caller.reader.read() == A_RELEASE_RP
        assert await here.outcomes() == {"released": 1}


async def test_a_worker_that_still_answers_after_the_callers_end_is_not_left() -> None:
    async def answer_slowly(visit: Visit) -> None:
        await visit.accept()
        await visit.reader.read()
        for _ in range(20):
            visit.writer.write(pdu(4, b"more"))
            await asyncio.sleep(0.05)
        visit.writer.write(A_RELEASE_RP)

    worker = FakeWorker(answer_slowly)
    async with worker.listening(), world(worker, upper_layer={"artim_timeout_s": 0.6}) as here:
        async with here.caller() as caller:
            await caller.associate()
            caller.writer.write_eof()
            assert await caller.reader.read() == 20 * pdu(4, b"more") + A_RELEASE_RP
        assert await here.outcomes() == {"released": 1}


async def test_when_both_have_gone_it_was_the_caller_who_left() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, contextlib.ExitStack() as stack:
        ends = []
        for _ in ("caller", "worker"):
            far = stack.enter_context(socket.create_connection(listener.getsockname()))
            near = stack.enter_context(listener.accept()[0])
            near.setblocking(False)
            ends.append(near)
            far.close()
        client, worker = ends
        relay = Relay(client, worker, PipePool(), silence_limit_s=1)
        assert await relay.run(A_ASSOCIATE_AC) == End(Outcome.CLIENT_LEFT)


@pytest.mark.parametrize("pipes", [True, False])
async def test_a_caller_that_aborts_and_waits_has_left(monkeypatch: pytest.MonkeyPatch, pipes: bool) -> None:
    if not pipes:
        monkeypatch.setattr(PipePool, "take", lambda _: None)

    async def close_on_abort(visit: Visit) -> None:
        await visit.accept()
        assert await visit.read_pdu() == A_ABORT

    worker = FakeWorker(close_on_abort)
    async with worker.listening(), world(worker) as here:
        async with here.caller() as caller:
            await caller.associate()
            caller.writer.write(A_ABORT)
            assert await caller.reader.read() == b""
        assert await here.outcomes() == {"client_left": 1}


async def test_what_comes_after_an_abort_is_no_abort() -> None:
    async def die(visit: Visit) -> None:
        await visit.accept()
        await visit.read_pdu()
        visit.writer.write(A_ABORT[:4])  # nothing says that all has come but what is answered
        await visit.read_pdu()

    worker = FakeWorker(die)
    async with worker.listening(), world(worker) as here:
        async with here.caller() as caller:
            await caller.associate()
            caller.writer.write(A_ABORT)
            await caller.reader.readexactly(4)
            caller.writer.write(pdu(4, b"more"))
            with contextlib.suppress(ConnectionError):
                await caller.reader.read()
        assert await here.outcomes() == {"worker_lost": 1}


async def test_a_worker_that_ignores_the_callers_end_is_left() -> None:
    async def ignore(visit: Visit) -> None:
        await visit.accept()
        await asyncio.Event().wait()

    worker = FakeWorker(ignore)
    async with worker.listening(), world(worker, upper_layer={"artim_timeout_s": 0.6}) as here:
        async with here.caller() as caller:
            await caller.associate()
        assert await here.outcomes() == {"client_left": 1}


async def test_a_caller_that_breaks_off_ends_the_workers_connection() -> None:
    ended = asyncio.Event()

    async def wait_for_the_end(visit: Visit) -> None:
        await visit.accept()
        await visit.reader.read()
        ended.set()

    worker = FakeWorker(wait_for_the_end)
    async with worker.listening(), world(worker) as here, here.caller() as caller:
        await caller.associate()
        caller.reset()
        async with soon("the worker's connection has ended"):
            await ended.wait()
        assert await here.outcomes() == {"client_left": 1}


@pytest.mark.parametrize(("last", "outcome"), [(A_RELEASE_RP, "released"), (A_ABORT, "aborted")])
async def test_a_worker_that_says_farewell_gets_no_abort_put_after_it(last: bytes, outcome: str) -> None:
    async def leave(visit: Visit) -> None:
        await visit.accept()
        visit.writer.write(last)

    worker = FakeWorker(leave)
    async with worker.listening(), world(worker) as here:
        async with here.caller() as caller:
            await caller.associate()
            assert await caller.reader.read() == last
        assert await here.outcomes() == {outcome: 1}


async def test_the_workers_abort_arrives_though_the_caller_still_sends() -> None:
    async def abort_in_the_middle(visit: Visit) -> None:
        await visit.accept()
        await visit.reader.readexactly(MIB)
        visit.writer.write(A_ABORT)

    worker = FakeWorker(abort_in_the_middle)
    async with worker.listening(), world(worker) as here:
        async with here.caller() as caller:
            await caller.associate()
            caller.writer.write(bytes(48 * MIB))
            await sent(caller.writer)
            assert await caller.read_pdu() == A_ABORT
        assert await here.outcomes() == {"aborted": 1}


async def test_no_descriptor_is_left_behind() -> None:
    worker = FakeWorker(echo)
    async with worker.listening(), world(worker) as here:
        open_after: list[int] = []
        for _ in range(5):
            async with here.caller() as caller:
                await caller.associate()
                data = pdu(4, bytes(200_000))
                caller.writer.write(data)
                assert await caller.read_pdu() == data
                await caller.release()
            async with here.caller() as caller:
                await caller.associate()
                caller.reset()
            await until(lambda: not here.door.status()["connections"] and not worker.tasks)
            open_after.append(open_descriptors())
        # What was just closed is gone with the next turn of the loop: that may be counted in any round.
        await until(lambda: open_descriptors() <= open_after[0], seen=lambda: open_after)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
