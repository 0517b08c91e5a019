from __future__ import annotations

import asyncio
import os
import socket

import pytest

from tests.integration.balancer.world import (
    A_ABORT,
    A_ASSOCIATE_AC,
    Caller,
    FakeWorker,
    Visit,
    echo,
    pdu,
    world,
)
from tests.waiting import soon


@pytest.fixture(autouse=True)
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("balancer.front_door.SILENT_GRACE_S", 0.1)


async def test_draining_lets_associations_end_and_takes_no_new_ones() -> None:
    worker = FakeWorker(echo)
    async with worker.listening(), world(worker) as here, here.caller() as caller:
        await caller.associate()
        draining = asyncio.create_task(here.door.drain(10))
        await asyncio.sleep(0)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(here.address.host, here.address.port)
        assert here.door.not_ready() == "takes no new associations"
        await asyncio.sleep(0.3)
        data = pdu(4, b"still here")
        caller.writer.write(data)
        assert await caller.read_pdu() == data
        await caller.release()
        caller.writer.close()
        async with soon("draining is over when the last association is"):
            await draining
        assert await here.outcomes() == {"released": 1}


async def test_draining_serves_those_that_have_connected_already(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("balancer.front_door.SILENT_GRACE_S", 30)
    worker = FakeWorker(echo)
    async with worker.listening(), world(worker) as here:
        in_the_backlog = socket.create_connection((here.address.host, here.address.port))
        draining = asyncio.create_task(here.door.drain(10))
        reader, writer = await asyncio.open_connection(sock=in_the_backlog)
        caller = Caller(reader, writer)
        assert await caller.associate() == A_ASSOCIATE_AC
        await caller.release()
        writer.close()
        await writer.wait_closed()
        await draining
        assert await here.outcomes() == {"released": 1}


async def test_draining_aborts_what_does_not_end_in_time() -> None:
    worker = FakeWorker(echo)
    async with worker.listening(), world(worker) as here, here.caller() as caller:
        await caller.associate()
        draining = asyncio.create_task(here.door.drain(0.1))
        assert await caller.reader.read() == A_ABORT
        caller.writer.close()
        async with soon("draining is over when the last association is"):
            await draining
        assert await here.outcomes() == {"drained": 1}


@pytest.mark.parametrize("rest_of", [["header"], ["body", "header"]])
async def test_draining_waits_for_the_end_of_a_pdu(rest_of: list[str]) -> None:
    whole = pdu(4, os.urandom(300_000))
    first = 3 if rest_of == ["header"] else 100_000
    go_on = asyncio.Event()

    async def pause_in_the_middle(visit: Visit) -> None:
        visit.writer.write(A_ASSOCIATE_AC + whole[:first])
        await go_on.wait()
        visit.writer.write(whole[first:] + whole)
        await visit.reader.read()

    worker = FakeWorker(pause_in_the_middle)
    async with worker.listening(), world(worker) as here, here.caller() as caller:
        await caller.associate()
        assert await caller.reader.readexactly(first) == whole[:first]
        draining = asyncio.create_task(here.door.drain(0.05))
        await asyncio.sleep(0.2)
        go_on.set()
        assert await caller.reader.read() == whole[first:] + A_ABORT
        caller.writer.close()
        await draining


async def test_draining_cuts_off_nothing_that_a_slow_caller_is_still_to_get() -> None:
    small = pdu(4, bytes(range(58)))
    stalled = asyncio.Event()

    async def send(visit: Visit) -> None:
        await visit.accept()
        visit.writer.write(small * 400_000)
        await asyncio.sleep(0.3)
        stalled.set()
        await visit.reader.read()

    worker = FakeWorker(send)
    async with worker.listening(), world(worker) as here, here.caller() as caller:
        await caller.associate()
        await stalled.wait()
        draining = asyncio.create_task(here.door.drain(0.01))
        await asyncio.sleep(0.1)
        received = await caller.reader.read(-1)
        caller.writer.close()
        await draining
    whole, last = received[: -len(A_ABORT)], received[-len(A_ABORT) :]
    assert last == A_ABORT
    assert whole == small * (len(whole) // len(small))


async def test_draining_does_not_wait_for_a_worker_stuck_in_a_pdu() -> None:
    async def stop_in_the_middle(visit: Visit) -> None:
        visit.writer.write(A_ASSOCIATE_AC + pdu(4, bytes(100))[:50])
        await visit.reader.read()

    worker = FakeWorker(stop_in_the_middle)
    async with worker.listening(), world(worker) as here, here.caller() as caller:
        await caller.associate()
        async with soon("draining is over"):
            await here.door.drain(0.05)
            with pytest.raises(ConnectionResetError):
                await caller.reader.read()


async def test_draining_does_not_wait_for_those_who_say_nothing() -> None:
    async with world() as here, here.caller() as silent:
        async with soon("draining is over", within_s=20):
            await here.door.drain(30)
        assert await silent.reader.read() == b""
