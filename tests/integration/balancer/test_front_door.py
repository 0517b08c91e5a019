from __future__ import annotations

import asyncio
import errno
import os
import re
import socket
from contextlib import AsyncExitStack

import pytest

from cluster.coordination.registry import Address
from tests.integration.balancer.world import (
    A_ABORT,
    A_ASSOCIATE_AC,
    AT_LIMIT,
    PERMANENT,
    TRANSIENT,
    FakeWorker,
    Script,
    Visit,
    associate_rq,
    echo,
    pdu,
    world,
)
from tests.registry import registry_in_memory
from tests.waiting import until


async def never_answer(visit: Visit) -> None:
    await visit.reader.read()


async def close_at_once(visit: Visit) -> None:
    return


async def break_off(visit: Visit) -> None:
    visit.writer.transport.abort()


def answering(answer: bytes) -> Script:
    async def script(visit: Visit) -> None:
        for byte in answer:
            visit.writer.write(bytes((byte,)))
            await visit.writer.drain()
            await asyncio.sleep(0.002)  # apart, or they arrive as one
        await visit.reader.read()

    return script


async def test_an_association_from_request_to_release() -> None:
    worker = FakeWorker(echo)
    async with worker.listening(), world(worker) as here:
        async with here.caller() as caller:
            assert await caller.associate() == A_ASSOCIATE_AC
            data = pdu(4, os.urandom(100))
            caller.writer.write(data)
            assert await caller.read_pdu() == data
            await caller.release()
            source = caller.writer.get_extra_info("sockname")
        assert await here.outcomes() == {"released": 1}
        (visit,) = worker.visits
        assert visit.request == associate_rq()
        assert visit.header.source == f"127.0.0.1:{source[1]}"
        assert visit.header.association_id is not None
        assert re.fullmatch(r"balancer-1-[0-9a-f]{16}", visit.header.association_id)


async def test_a_request_that_comes_byte_by_byte_is_passed_on_whole() -> None:
    worker = FakeWorker(echo)
    async with worker.listening(), world(worker) as here, here.caller() as caller:
        for byte in associate_rq(padding_bytes=20):
            caller.writer.write(bytes((byte,)))
            await caller.writer.drain()
        assert await caller.read_pdu() == A_ASSOCIATE_AC
        assert worker.visits[0].request == associate_rq(padding_bytes=20)


async def test_data_sent_along_with_the_request_is_not_lost() -> None:
    worker = FakeWorker(echo)
    data = pdu(4, b"too early, but theirs to judge")
    async with worker.listening(), world(worker) as here, here.caller() as caller:
        caller.writer.write(associate_rq() + data)
        assert await caller.read_pdu() == A_ASSOCIATE_AC
        assert await caller.read_pdu() == data


async def test_associations_are_spread_over_the_workers() -> None:
    workers = [FakeWorker(echo, name) for name in ("a", "b")]
    async with AsyncExitStack() as stack:
        for worker in workers:
            await stack.enter_async_context(worker.listening())
        here = await stack.enter_async_context(world(*workers))
        for _ in range(6):
            caller = await stack.enter_async_context(here.caller())
            assert await caller.associate() == A_ASSOCIATE_AC
        assert [len(worker.visits) for worker in workers] == [3, 3]


@pytest.mark.parametrize("script", [close_at_once, break_off, never_answer, answering(TRANSIENT)])
async def test_a_worker_that_does_not_take_it_is_passed_over_unseen(script: Script) -> None:
    failing, well = FakeWorker(script, "a"), FakeWorker(echo, "b")
    async with (
        failing.listening(),
        well.listening(),
        world(failing, well, upper_layer={"connect_timeout_s": 0.3}) as here,
        here.caller() as caller,
    ):
        assert await caller.associate() == A_ASSOCIATE_AC
        assert failing.visits[0].request == well.visits[0].request == associate_rq()
        data = pdu(4, b"on we go")
        caller.writer.write(data)
        assert await caller.read_pdu() == data


async def test_a_worker_that_refuses_the_connection_is_passed_over_unseen() -> None:
    gone, well = FakeWorker(echo, "a"), FakeWorker(echo, "b")
    async with gone.listening():
        pass
    async with well.listening(), world(gone, well) as here, here.caller() as caller:
        assert await caller.associate() == A_ASSOCIATE_AC


async def test_a_hung_worker_is_waited_for_once_and_not_by_each_association() -> None:
    hung, well = FakeWorker(never_answer, "a"), FakeWorker(echo, "b")
    async with (
        hung.listening(),
        well.listening(),
        world(hung, well, upper_layer={"connect_timeout_s": 0.3}) as here,
        AsyncExitStack() as stack,
    ):
        for _ in range(4):
            caller = await stack.enter_async_context(here.caller())
            assert await caller.associate() == A_ASSOCIATE_AC
        assert (len(hung.visits), len(well.visits)) == (1, 4)


async def test_a_permanent_rejection_is_the_callers_to_see() -> None:
    strict, other = FakeWorker(answering(PERMANENT), "a"), FakeWorker(echo, "b")
    async with strict.listening(), other.listening(), world(strict, other) as here:
        async with here.caller() as caller:
            assert await caller.associate() == PERMANENT
        assert await here.outcomes() == {"rejected": 1}
        assert other.visits == []


async def test_when_all_workers_are_at_their_limit_the_caller_is_told_so() -> None:
    full = FakeWorker(answering(AT_LIMIT))
    async with full.listening(), world(full, limits={"queue_timeout_s": 0.4}) as here:
        async with here.caller() as caller:
            assert await caller.associate() == AT_LIMIT
            assert await caller.reader.read() == b""
        assert await here.outcomes() == {"no_worker": 1}


async def test_without_a_worker_the_caller_is_rejected_for_now() -> None:
    async with world(limits={"queue_timeout_s": 0.2}) as here:
        assert here.door.not_ready() == "knows no worker"
        async with here.caller() as caller:
            assert await caller.associate() == TRANSIENT
            assert await caller.reader.read() == b""
        assert await here.outcomes() == {"no_worker": 1}


async def test_a_worker_that_announces_itself_later_is_used() -> None:
    worker = FakeWorker(echo)
    async with worker.listening(), world() as here, await here.registry.announce(worker.member()):
        await until(lambda: here.door.not_ready() is None)
        async with here.caller() as caller:
            assert await caller.associate() == A_ASSOCIATE_AC


async def test_past_the_ceiling_the_caller_is_rejected_and_the_others_go_on() -> None:
    worker = FakeWorker(echo)
    async with (
        worker.listening(),
        world(worker, limits={"balancer_associations": 2}) as here,
        here.caller() as one,
        here.caller() as two,
        here.caller() as three,
    ):
        assert await one.associate() == A_ASSOCIATE_AC
        assert await two.associate() == A_ASSOCIATE_AC
        assert await three.associate() == AT_LIMIT
        three.writer.close()
        await one.release()
        one.writer.close()
        assert await here.outcomes(2) == {"at_limit": 1, "released": 1}
        async with here.caller() as four:
            assert await four.associate() == A_ASSOCIATE_AC
        await two.release()


async def test_past_twice_the_ceiling_a_silent_connection_gives_way_to_the_next() -> None:
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def answer_late(visit: Visit) -> None:
        arrived.set()
        await go_on.wait()
        await echo(visit)

    worker = FakeWorker(answer_late)
    async with (
        worker.listening(),
        world(worker, limits={"balancer_associations": 1}) as here,
        here.caller() as silent,
        here.caller() as served,
    ):
        served.writer.write(associate_rq())
        await arrived.wait()
        async with here.caller() as late:
            assert await silent.reader.read() == b""
            assert await late.associate("LATE") == AT_LIMIT
        go_on.set()
        assert await served.read_pdu() == A_ASSOCIATE_AC
        await served.release()
        assert (await here.outcomes(2))["gave_way"] == 1


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 1),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", 1),
        (pdu(4, b"data before an association"), 2),
        (pdu(1, bytes(10)), 6),
        (b"\x01\0\x7f\xff\xff\xff", 6),
    ],
)
async def test_what_is_no_request_is_answered_with_the_reason(sent: bytes, reason: int) -> None:
    async with world() as here:
        async with here.caller() as caller:
            caller.writer.write(sent)
            assert await caller.reader.read() == pdu(7, bytes((0, 0, 2, reason)))
        assert await here.outcomes() == {"no_associate_rq": 1}


async def test_a_request_that_stops_half_way_is_aborted_in_time() -> None:
    async with world(upper_layer={"artim_timeout_s": 0.2}) as here:
        async with here.caller() as caller:
            caller.writer.write(associate_rq()[:40])
            assert await caller.reader.read() == A_ABORT
        assert await here.outcomes() == {"no_associate_rq": 1}


async def test_probes_are_no_fault() -> None:
    async with world(upper_layer={"artim_timeout_s": 0.2}) as here:
        async with here.caller():
            pass
        async with here.caller() as resetting:
            resetting.reset()
        async with here.caller() as silent:
            assert await silent.reader.read() == b""
        outcomes = await here.outcomes(3)
        assert outcomes.get("probe", 0) >= 2
        assert outcomes.keys() <= {"probe", "client_left"}


async def test_running_out_of_descriptors_is_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = FakeWorker(echo)
    faults = [errno.EMFILE, errno.ECONNABORTED, errno.ENFILE]
    accept = socket.socket.accept

    def failing_accept(listener: socket.socket) -> tuple[socket.socket, object]:
        if faults and listener.getsockname()[1] == port:
            code = faults.pop()
            raise OSError(code, os.strerror(code))
        return accept(listener)

    unexpected: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unexpected.append(context))
    async with worker.listening(), world(worker) as here:
        port = here.address.port
        monkeypatch.setattr(socket.socket, "accept", failing_accept)
        async with here.caller() as caller:
            assert await caller.associate() == A_ASSOCIATE_AC
    assert (faults, unexpected) == ([], [])


async def test_a_port_in_use_is_an_os_error() -> None:
    from balancer.front_door import FrontDoor

    async with world() as here:
        door = FrontDoor(here.live, registry_in_memory(), name="balancer-2")
        with pytest.raises(OSError, match="in use"):
            await door.listen(here.address.host, here.address.port)


async def test_every_address_of_a_name_is_listened_to() -> None:
    from balancer.sockets import listen

    listeners = await listen(Address("localhost", 0), 1)
    try:
        assert len({listener.getsockname()[1] for listener in listeners}) == 1
    finally:
        for listener in listeners:
            listener.close()
