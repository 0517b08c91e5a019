from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from balancer.probing import ProbeFailed, probe
from cluster import proxy_protocol
from cluster.coordination.registry import Address
from cluster.dicom.acceptor import Acceptor
from cluster.dicom.association import Association
from cluster.dicom.command_set import CommandField, CommandSet
from cluster.dicom.limits import UpperLayerLimits
from cluster.dicom.negotiation import AcceptancePolicy
from tests.integration.balancer.world import (
    A_ASSOCIATE_AC,
    FakeWorker,
    Visit,
    World,
    associate_rq,
    echo,
    world,
)
from tests.waiting import until

OFTEN = {"interval_s": 0.05, "timeout_s": 1.0, "failures": 2}


@asynccontextmanager
async def real_worker(status: int = 0, **policy: Any) -> AsyncIterator[tuple[Address, list[str]]]:
    """The upper layer that workers have, and what associations came to it."""
    came: list[str] = []

    async def serve(association: Association) -> None:
        came.append(f"{association.calling_ae} {association.called_ae}")
        while True:
            message = await association.receive()
            await association.send(
                message.context.context_id,
                CommandSet(
                    CommandField.C_ECHO_RSP,
                    message_id_being_responded_to=message.command.message_id,
                    affected_sop_class_uid=message.command.affected_sop_class_uid,
                    status=status,
                ),
            )

    acceptor = Acceptor(
        AcceptancePolicy("ATRIA", **policy), UpperLayerLimits(), serve, preface=proxy_protocol.parse
    )
    address = Address(*await acceptor.listen("127.0.0.1", 0))
    try:
        yield address, came
    finally:
        await acceptor.drain(0)


def seen(here: World, name: str) -> dict[str, Any]:
    workers: Any = here.door.status()["workers"]
    return next(worker for worker in workers if worker["name"] == name)


async def test_a_worker_that_answers_is_well() -> None:
    async with real_worker() as (address, came):
        await probe(address, ae_title="ATRIA", timeout_s=5)
        assert came == ["ATRIA ATRIA"]


async def test_a_worker_that_rejects_for_now_is_there() -> None:
    async with real_worker(max_associations=0) as (address, came):
        await probe(address, ae_title="ATRIA", timeout_s=5)
        assert came == []


async def test_a_worker_that_is_gone_or_silent_or_out_of_order_is_not_well() -> None:
    silent = FakeWorker(echo, answers_probes=False)
    async with silent.listening():
        with pytest.raises(ProbeFailed, match=r"no answer within 0\.2 s"):
            await probe(silent.address, ae_title="ATRIA", timeout_s=0.2)
    with pytest.raises(ProbeFailed):
        await probe(silent.address, ae_title="ATRIA", timeout_s=5)
    async with real_worker(status=0x0110) as (address, _):
        with pytest.raises(ProbeFailed, match="0x0110"):
            await probe(address, ae_title="ATRIA", timeout_s=5)


async def test_a_worker_that_misses_its_probes_is_passed_over_until_it_answers() -> None:
    a, b = FakeWorker(echo, "a", answers_probes=False), FakeWorker(echo, "b")
    async with a.listening(), b.listening(), world(a, b, probing=OFTEN) as here, AsyncExitStack() as stack:
        await until(lambda: seen(here, "a")["failing"])
        assert "no answer within 1 s" in seen(here, "a")["last_probe"]["error"]
        assert not seen(here, "b")["failing"]
        for _ in range(3):
            caller = await stack.enter_async_context(here.caller())
            assert await caller.associate() == A_ASSOCIATE_AC
        assert (len(a.visits), len(b.visits)) == (0, 3)
        a.answers_probes = True
        await until(lambda: not seen(here, "a")["failing"])
        assert seen(here, "a")["last_probe"]["error"] is None
        caller = await stack.enter_async_context(here.caller())
        assert await caller.associate() == A_ASSOCIATE_AC
        assert (len(a.visits), len(b.visits)) == (1, 3)


async def test_those_who_wait_are_given_to_a_worker_that_answers_again() -> None:
    hangs = True

    async def hang(visit: Visit) -> None:
        await (visit.reader.read() if hangs else echo(visit))

    worker = FakeWorker(hang, answers_probes=False)
    limits: dict[str, Any] = {"upper_layer": {"connect_timeout_s": 0.1}, "limits": {"queue_timeout_s": 30}}
    async with worker.listening(), world(worker, probing=OFTEN, **limits) as here, here.caller() as caller:
        caller.writer.write(associate_rq())
        await until(
            lambda: bool(worker.visits) and here.door.status()["queue"] == {"waiting": 1, "limit": 64}
        )
        hangs, worker.answers_probes = False, True
        assert await caller.read_pdu() == A_ASSOCIATE_AC


async def test_each_worker_is_probed_again_and_again_and_one_that_drains_or_is_gone_is_not() -> None:
    a, b = FakeWorker(echo, "a"), FakeWorker(echo, "b")
    async with a.listening(), b.listening(), world(a, probing=OFTEN) as here:
        announcement = await here.registry.announce(b.member())
        await until(lambda: a.probes > 2 and b.probes > 2)
        await a.describe(draining=True)
        await announcement.withdraw()
        await until(lambda: len(here.door.status()["workers"]) == 1)  # type: ignore[arg-type]
        await asyncio.sleep(0.1)
        before = a.probes, b.probes
        await asyncio.sleep(0.2)
        assert (a.probes, b.probes) == before
        assert a.visits == b.visits == []
