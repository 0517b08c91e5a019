from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from balancer.relay import End, Relay
from balancer.workers import REFUSED_REST_S
from cluster.coordination.registry import Address, Load, Share
from cluster.settings import Settings
from tests.integration.balancer.world import (
    A_ABORT,
    A_ASSOCIATE_AC,
    AT_LIMIT,
    PERMANENT,
    TRANSIENT,
    Caller,
    FakeWorker,
    Visit,
    World,
    associate_rq,
    echo,
    pdu,
    world,
)
from tests.waiting import soon, until

UNKNOWN_CALLING = pdu(3, b"\0\1\1\3")


@asynccontextmanager
async def workers_and_world(
    *workers: FakeWorker, host: str = "127.0.0.1", **tables: object
) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        for worker in workers:
            await stack.enter_async_context(worker.listening())
        yield await stack.enter_async_context(world(*workers, host=host, **tables))


def at(name: str, site: str, **fields: Any) -> FakeWorker:
    return FakeWorker(echo, name, described={"labels": (("site", site),), **fields})


def status(here: World) -> dict[str, Any]:
    return here.door.status()


def waiting(here: World) -> int:
    return cast("int", status(here)["queue"]["waiting"])


def visits(*workers: FakeWorker) -> Sequence[int]:
    return [len(worker.visits) for worker in workers]


async def test_a_route_leads_to_the_workers_that_it_names() -> None:
    a, b = at("a", "a"), at("b", "b")
    routes = [
        {"calling_ae": "MR", "workers": {"site": "b"}},
        {"source": "127.0.0.0/8", "workers": {"site": "a"}},
    ]
    async with workers_and_world(a, b, routes=routes) as here, AsyncExitStack() as stack:
        for calling in ("MR", "CT", "MR", "MR"):
            caller = await stack.enter_async_context(here.caller())
            assert await caller.associate(calling) == A_ASSOCIATE_AC
        assert visits(a, b) == [1, 3]


@pytest.mark.parametrize(("only", "answer"), [(False, A_ASSOCIATE_AC), (True, TRANSIENT)])
async def test_without_a_worker_of_the_pool_another_takes_it_if_it_may(only: bool, answer: bytes) -> None:
    b = at("b", "b")
    routes = [{"workers": {"site": "a"}, "only": only}]
    async with (
        workers_and_world(b, routes=routes, limits={"queue_timeout_s": 0.2}) as here,
        here.caller() as caller,
    ):
        assert await caller.associate() == answer


async def test_a_route_to_workers_that_are_not_there_is_named_where_it_refuses(
    capsys: pytest.CaptureFixture[str],
) -> None:
    routes = [{"workers": {"site": "a", "modality": "ct"}, "only": True}]
    async with (
        workers_and_world(at("b", "b"), routes=routes, limits={"queue_timeout_s": 0.1}) as here,
        here.caller() as caller,
    ):
        assert await caller.associate() == TRANSIENT
    assert "no worker has site=a, modality=ct, and the route lets no other take it" in capsys.readouterr().out


async def test_routes_and_limits_change_while_it_runs() -> None:
    a, b = at("a", "a"), at("b", "b")
    async with workers_and_world(a, b, routes=[{"workers": {"site": "a"}, "only": True}]) as here:
        async with here.caller() as caller:
            assert await caller.associate() == A_ASSOCIATE_AC
        here.live.change(Settings.model_validate({"routes": [{"workers": {"site": "b"}, "only": True}]}))
        async with here.caller() as caller:
            assert await caller.associate() == A_ASSOCIATE_AC
            assert visits(a, b) == [1, 1]
            here.live.change(Settings.model_validate({"limits": {"balancer_associations": 1}}))
            async with here.caller() as one_too_many:
                assert await one_too_many.associate() == AT_LIMIT


async def test_a_limit_that_was_lowered_is_told_to_those_who_come_later() -> None:
    worker = FakeWorker(echo)
    async with (
        workers_and_world(worker, limits={"balancer_associations": 5}) as here,
        AsyncExitStack() as stack,
    ):
        for _ in range(5):
            assert await (await stack.enter_async_context(here.caller())).associate() == A_ASSOCIATE_AC
        here.live.change(Settings.model_validate({"limits": {"balancer_associations": 2}}))
        async with here.caller() as late:
            assert await late.associate("LATE") == AT_LIMIT


async def test_unknown_titles_are_rejected_for_ever_and_no_worker_hears_of_it() -> None:
    worker = FakeWorker(echo)
    strict = {"check_called_ae_title": True, "check_calling_ae_title": True}
    async with workers_and_world(worker, dicom=strict, peers=[{"ae_title": "CT-1"}]) as here:
        for dicom, calling, answer in (
            (strict, "CT-1", A_ASSOCIATE_AC),
            (strict, "CT-2", UNKNOWN_CALLING),
            ({**strict, "ae_title": "OTHER"}, "CT-2", PERMANENT),
        ):
            tables = {"dicom": dicom, "peers": [{"ae_title": "CT-1"}]}
            here.live.change(Settings.model_validate(tables))
            async with here.caller() as caller:
                assert await caller.associate(calling) == answer
        assert await here.outcomes(3) == {"client_left": 1, "unknown_ae": 2}
        assert visits(worker) == [1]


async def test_a_calling_title_at_its_ceiling_keeps_no_other_out() -> None:
    worker = FakeWorker(echo)
    async with (
        workers_and_world(worker, limits={"calling_ae_associations": 1}) as here,
        here.caller() as one,
        here.caller() as two,
        here.caller() as other,
    ):
        assert await one.associate("CT-1") == A_ASSOCIATE_AC
        assert await two.associate("CT-1") == AT_LIMIT
        assert await other.associate("CT-2") == A_ASSOCIATE_AC
        await one.release()
        one.writer.close()
        two.writer.close()
        await here.outcomes(2)
        async with here.caller() as again:
            assert await again.associate("CT-1") == A_ASSOCIATE_AC


async def test_what_another_balancer_let_in_counts_after_a_failover() -> None:
    shares = (Share("balancer-0", "CT-1", "127.0.0.1", 2),)
    worker = FakeWorker(echo, described={"load": Load(2, shares)})
    async with workers_and_world(worker, limits={"source_associations": 2}) as here:
        async with here.caller() as caller:
            assert await caller.associate() == AT_LIMIT
        await worker.describe(load=Load(1, (replace(shares[0], associations=1),)))
        await until(lambda: status(here)["workers"][0]["elsewhere"] == 1)
        async with here.caller() as caller:
            assert await caller.associate() == A_ASSOCIATE_AC


async def test_full_workers_are_waited_for() -> None:
    worker = FakeWorker(echo, described={"capacity": 1})
    async with (
        workers_and_world(worker, limits={"queue_timeout_s": 30}) as here,
        here.caller() as one,
        here.caller() as two,
    ):
        assert await one.associate() == A_ASSOCIATE_AC
        two.writer.write(associate_rq())
        await until(lambda: waiting(here) == 1)
        await one.release()
        one.writer.close()
        assert await two.read_pdu() == A_ASSOCIATE_AC


async def test_those_who_wait_are_served_in_order_and_one_that_cannot_be_holds_up_nobody() -> None:
    a, b = at("a", "a", capacity=1), at("b", "b", capacity=1)
    routes = [{"calling_ae": f"TO-{site}", "workers": {"site": site.lower()}, "only": True} for site in "AB"]
    async with (
        workers_and_world(a, b, routes=routes, limits={"queue_timeout_s": 30}) as here,
        AsyncExitStack() as stack,
    ):
        callers = [await stack.enter_async_context(here.caller()) for _ in range(5)]
        for caller, calling in zip(callers, ("TO-A", "TO-B", "TO-A", "TO-B", "TO-B"), strict=True):
            caller.writer.write(associate_rq(calling))
            await until(lambda: status(here)["ceilings"]["balancer_associations"]["here"] > 0)
            await until(lambda caller=caller: sum(visits(a, b)) + waiting(here) > callers.index(caller))
        on_a, on_b, for_a, for_b, for_b_later = callers
        assert await on_a.read_pdu() == await on_b.read_pdu() == A_ASSOCIATE_AC
        await on_b.release()
        on_b.writer.close()
        assert await for_b.read_pdu() == A_ASSOCIATE_AC
        assert waiting(here) == 2
        await for_b.release()
        for_b.writer.close()
        assert await for_b_later.read_pdu() == A_ASSOCIATE_AC
        assert waiting(here) == 1
        await on_a.release()
        on_a.writer.close()
        assert await for_a.read_pdu() == A_ASSOCIATE_AC


async def test_who_has_waited_in_vain_is_told_that_it_is_for_now() -> None:
    worker = FakeWorker(echo, described={"capacity": 1})
    async with (
        workers_and_world(worker, limits={"queue_timeout_s": 0.3}) as here,
        here.caller() as one,
        here.caller() as two,
    ):
        assert await one.associate() == A_ASSOCIATE_AC
        begun_at = asyncio.get_running_loop().time()
        assert await two.associate() == TRANSIENT
        assert asyncio.get_running_loop().time() - begun_at >= 0.25
        assert waiting(here) == 0


async def test_no_more_wait_than_may() -> None:
    worker = FakeWorker(echo, described={"capacity": 1})
    async with (
        workers_and_world(worker, limits={"queue_timeout_s": 30, "queued_associations": 1}) as here,
        here.caller() as one,
        here.caller() as two,
        here.caller() as three,
    ):
        assert await one.associate() == A_ASSOCIATE_AC
        two.writer.write(associate_rq())
        await until(lambda: waiting(here) == 1)
        assert await three.associate() == TRANSIENT
        await one.release()
        one.writer.close()
        assert await two.read_pdu() == A_ASSOCIATE_AC


async def test_a_worker_that_comes_is_given_those_who_wait() -> None:
    worker = FakeWorker(echo)
    async with worker.listening(), world(limits={"queue_timeout_s": 30}) as here, here.caller() as caller:
        caller.writer.write(associate_rq())
        await until(lambda: waiting(here) == 1)
        async with await here.registry.announce(worker.member()):
            assert await caller.read_pdu() == A_ASSOCIATE_AC


async def test_a_worker_that_was_started_anew_is_given_those_who_wait() -> None:
    dead, alive = FakeWorker(echo), FakeWorker(echo)
    alive.started_at = datetime.now(UTC) + timedelta(seconds=1)
    async with dead.listening():
        pass
    async with (
        alive.listening(),
        world(dead, limits={"queue_timeout_s": 30}) as here,
        here.caller() as caller,
    ):
        caller.writer.write(associate_rq())
        await until(lambda: waiting(here) == 1)
        async with await here.registry.announce(alive.member()):
            assert await caller.read_pdu() == A_ASSOCIATE_AC


async def test_a_worker_that_takes_some_again_is_given_those_who_wait() -> None:
    takes = False

    async def now_and_then(visit: Visit) -> None:
        if takes:
            await echo(visit)
        else:
            visit.writer.write(AT_LIMIT)
            await visit.reader.read()

    worker = FakeWorker(now_and_then)
    async with (
        workers_and_world(worker, limits={"queue_timeout_s": 30}) as here,
        here.caller() as one,
        here.caller() as two,
    ):
        one.writer.write(associate_rq())
        two.writer.write(associate_rq())
        await until(lambda: waiting(here) == 2)
        takes = True
        assert await one.read_pdu() == await two.read_pdu() == A_ASSOCIATE_AC


async def test_workers_that_go_on_rejecting_slowly_are_not_asked_for_ever() -> None:
    async def think_and_reject(visit: Visit) -> None:
        await asyncio.sleep(REFUSED_REST_S + 0.1)
        visit.writer.write(AT_LIMIT)
        await visit.reader.read()

    a, b = FakeWorker(think_and_reject, "a"), FakeWorker(think_and_reject, "b")
    async with workers_and_world(a, b, limits={"queue_timeout_s": 0.5}) as here, here.caller() as caller:
        async with soon("the caller is rejected"):
            assert await caller.associate() == AT_LIMIT
        assert sum(visits(a, b)) > 2


async def leave(caller: Caller) -> None:
    caller.writer.close()


async def break_off(caller: Caller) -> None:
    caller.reset()


async def abort(caller: Caller) -> None:
    caller.writer.write(A_ABORT)
    assert await caller.reader.read() == b""


@pytest.mark.parametrize("how", [leave, break_off, abort])
async def test_who_leaves_while_it_waits_is_noticed(how: Any) -> None:
    worker = FakeWorker(echo, described={"capacity": 1})
    async with (
        workers_and_world(worker, limits={"queue_timeout_s": 30}) as here,
        here.caller() as one,
        here.caller() as two,
    ):
        assert await one.associate() == A_ASSOCIATE_AC
        two.writer.write(associate_rq())
        await until(lambda: waiting(here) == 1)
        await how(two)
        assert await here.outcomes() == {"client_left": 1}
        assert (waiting(here), visits(worker)) == (0, [1])
        assert status(here)["ceilings"]["balancer_associations"]["here"] == 1


async def test_data_that_comes_while_it_waits_is_not_lost() -> None:
    worker = FakeWorker(echo, described={"capacity": 1})
    async with (
        workers_and_world(worker, limits={"queue_timeout_s": 30}) as here,
        here.caller() as one,
        here.caller() as two,
    ):
        assert await one.associate() == A_ASSOCIATE_AC
        early = pdu(4, b"too early, but theirs to judge")
        two.writer.write(associate_rq() + early)
        await until(lambda: waiting(here) == 1)
        await one.release()
        one.writer.close()
        assert await two.read_pdu() == A_ASSOCIATE_AC
        assert await two.read_pdu() == early


async def test_a_draining_worker_gets_nothing_new_and_what_it_has_goes_on() -> None:
    a, b = FakeWorker(echo, "a"), FakeWorker(echo, "b")
    async with workers_and_world(a, b) as here, here.caller() as running, AsyncExitStack() as stack:
        assert await running.associate() == A_ASSOCIATE_AC
        assert visits(a, b) == [1, 0]
        await a.describe(draining=True)
        await until(lambda: status(here)["workers"][0]["draining"])
        for _ in range(3):
            caller = await stack.enter_async_context(here.caller())
            assert await caller.associate() == A_ASSOCIATE_AC
        assert visits(a, b) == [1, 3]
        data = pdu(4, b"still here")
        running.writer.write(data)
        assert await running.read_pdu() == data
        await running.release()


async def test_a_worker_at_the_ceiling_that_it_announced_is_not_asked() -> None:
    a, b = FakeWorker(echo, "a", described={"capacity": 1}), FakeWorker(echo, "b")
    async with workers_and_world(a, b) as here, AsyncExitStack() as stack:
        for _ in range(4):
            caller = await stack.enter_async_context(here.caller())
            assert await caller.associate() == A_ASSOCIATE_AC
        assert visits(a, b) == [1, 3]


async def test_a_worker_of_twice_the_weight_gets_twice_the_associations() -> None:
    a, b = FakeWorker(echo, "a"), FakeWorker(echo, "b", described={"weight": 2})
    async with workers_and_world(a, b) as here, AsyncExitStack() as stack:
        for _ in range(6):
            caller = await stack.enter_async_context(here.caller())
            assert await caller.associate() == A_ASSOCIATE_AC
        assert visits(a, b) == [2, 4]


@asynccontextmanager
async def host_that_is_off() -> AsyncIterator[FakeWorker]:
    """A port that answers no SYN: so many wait to be accepted that the kernel drops the rest."""
    loop = asyncio.get_running_loop()
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        worker = FakeWorker(echo, "a")
        worker.address = Address(*listener.getsockname())
        for _ in range(3):
            filling = stack.enter_context(socket.socket())
            filling.setblocking(False)
            with suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await loop.sock_connect(filling, listener.getsockname())
        yield worker


async def test_a_host_that_is_off_is_not_waited_for_where_there_is_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("balancer.association.CONNECT_PATIENCE_S", 0.2)
    b = FakeWorker(echo, "b")
    async with (
        host_that_is_off() as a,
        b.listening(),
        world(a, b, upper_layer={"connect_timeout_s": 30}) as here,
        here.caller() as caller,
        soon("another is asked", within_s=20),
    ):
        assert await caller.associate() == A_ASSOCIATE_AC
        assert visits(a, b) == [0, 1]
        assert status(here)["workers"][0]["failing"]


async def test_a_host_is_waited_for_where_there_is_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("balancer.association.CONNECT_PATIENCE_S", 0.05)
    limits: dict[str, Any] = {
        "upper_layer": {"connect_timeout_s": 0.6},
        "limits": {"queue_timeout_s": 0.1},
    }
    async with host_that_is_off() as a, world(a, **limits) as here, here.caller() as caller:
        begun_at = asyncio.get_running_loop().time()
        assert await caller.associate() == TRANSIENT
        assert asyncio.get_running_loop().time() - begun_at >= 0.6


async def test_nothing_is_asked_of_another_when_an_answer_has_begun() -> None:
    async def half_an_answer(visit: Visit) -> None:
        visit.writer.write(A_ASSOCIATE_AC[:20])
        await visit.writer.drain()

    a, b = FakeWorker(half_an_answer, "a"), FakeWorker(echo, "b")
    async with workers_and_world(a, b) as here:
        async with here.caller() as caller:
            caller.writer.write(associate_rq())
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                await caller.read_pdu()
        assert visits(a, b) == [1, 0]


async def test_a_fault_after_the_answer_lets_no_other_worker_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(relay: Relay, answer: bytes) -> End:
        raise ConnectionResetError

    monkeypatch.setattr(Relay, "run", fail)
    a, b = FakeWorker(echo, "a"), FakeWorker(echo, "b")
    async with workers_and_world(a, b) as here:
        async with here.caller() as caller:
            caller.writer.write(associate_rq())
            assert await here.outcomes() == {"failed": 1}
        assert visits(a, b) == [1, 0]


async def test_the_status_says_what_there_is() -> None:
    worker = at("a", "a", capacity=5, weight=2)
    async with workers_and_world(worker) as here, here.caller() as caller:
        await caller.associate()
        found = status(here)
        assert found["ceilings"]["calling_ae_associations"] == {"limit": None, "associations": {"CT-1": 1}}
        assert found["queue"] == {"waiting": 0, "limit": 64}
        (seen,) = found["workers"]
        assert seen == {
            "name": "a",
            "dicom": str(worker.address),
            "associations": 1,
            "elsewhere": 0,
            "capacity": 5,
            "weight": 2,
            "labels": {"site": "a"},
            "draining": False,
            "full": False,
            "failing": False,
            "last_probe": None,
        }


async def test_the_service_address_is_listened_at_wherever_it_is() -> None:
    worker = FakeWorker(echo)
    service = {"address": "127.83.1.2", "interface": "lo"}
    async with workers_and_world(worker, service=service) as here, here.caller() as caller:
        assert await caller.associate() == A_ASSOCIATE_AC
        reader, writer = await asyncio.open_connection("127.83.1.2", here.address.port)
        by_service = Caller(reader, writer)
        assert await by_service.associate("MR-1") == A_ASSOCIATE_AC
        name = writer.get_extra_info("sockname")
        (flow,) = here.door.flows(ipaddress.ip_address("127.83.1.2"))
        assert str(flow) == f"{name[0]}:{name[1]}"
        assert len(here.door.flows(ipaddress.ip_address("127.0.0.1"))) == 1
        assert {visit.writer.get_extra_info("peername")[0] for visit in worker.visits} == {"127.0.0.1"}
        assert {str(visit.header.server) for visit in worker.visits} == {
            f"{address}:{here.address.port}" for address in ("127.0.0.1", "127.83.1.2")
        }
        writer.close()
        await writer.wait_closed()
        await until(lambda: here.door.flows(ipaddress.ip_address("127.83.1.2")) == ())


async def test_workers_are_called_from_the_address_that_is_the_balancers_own() -> None:
    worker = FakeWorker(echo)
    often = {"interval_s": 0.05}
    async with workers_and_world(worker, host="127.83.1.1", probing=often) as here, here.caller() as caller:
        assert await caller.associate() == A_ASSOCIATE_AC
        assert worker.visits[0].writer.get_extra_info("peername")[0] == "127.83.1.1"
        await until(lambda: worker.probes > 0)
        assert worker.callers == {"127.83.1.1"}


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
async def test_the_service_address_need_not_be_there(address: str) -> None:
    worker = FakeWorker(echo)
    service = {"address": address, "interface": "lo"}
    async with workers_and_world(worker, service=service) as here, here.caller() as caller:
        assert await caller.associate() == A_ASSOCIATE_AC
