"""What every implementation of `Requests` guarantees."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest

from cluster.coordination.folder_requests import FolderRequests
from cluster.coordination.memory import MemoryCoordination
from cluster.coordination.requests import Addressee, Request, Requests, Wish
from cluster.coordination.stored_requests import StoredRequests
from tests.waiting import soon

DRAIN = Request(Wish.DRAIN, datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC))
RESTART = Request(Wish.RESTART, datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC))
START = Request(Wish.START)

Views = tuple[Requests, Requests]
"""Two processes' views of one place."""


def in_folder(folder: Path) -> Views:
    return FolderRequests(folder / "requests"), FolderRequests(folder / "requests")


def in_memory(_: Path) -> Views:
    coordination = MemoryCoordination()
    return StoredRequests(coordination), StoredRequests(coordination)


@pytest.fixture(params=[in_folder, in_memory])
async def views(request: pytest.FixtureRequest, tmp_path: Path) -> Views:
    return cast("Callable[[Path], Views]", request.param)(tmp_path)


def incoming(
    requests: Requests, name: str = "worker-1", addressee: Addressee = "worker"
) -> aclosing[AsyncGenerator[Request]]:
    return aclosing(requests.incoming(addressee, name))


async def comes_to_nobody(requests: Requests, name: str, addressee: Addressee = "worker") -> bool:
    async with incoming(requests, name, addressee) as coming:
        try:
            async with asyncio.timeout(0.3):
                await anext(coming)
        except TimeoutError:
            return True
    return False


@pytest.mark.parametrize("request_", [DRAIN, RESTART, START])
async def test_a_request_comes_as_it_was_asked(views: Views, request_: Request) -> None:
    here, there = views
    await here.ask("worker", "worker-1", request_)
    async with soon("a change is seen"), incoming(there) as coming:
        assert await anext(coming) == request_


async def test_who_waits_already_is_told_each_that_comes(views: Views) -> None:
    here, there = views
    async with soon("a change is seen"), incoming(there) as coming:
        for request in (DRAIN, RESTART):
            waiting = asyncio.ensure_future(anext(coming))
            await asyncio.sleep(0.05)
            await here.ask("worker", "worker-1", request)
            assert await waiting == request


async def test_a_request_is_taken_once(views: Views) -> None:
    here, there = views
    await here.ask("worker", "worker-1", DRAIN)
    assert await here.waits("worker", "worker-1")
    async with soon("a change is seen"), incoming(there) as coming:
        await anext(coming)
    assert not await here.waits("worker", "worker-1")
    assert await comes_to_nobody(here, "worker-1")


async def test_of_many_who_would_take_it_one_does(views: Views) -> None:
    here, there = views
    taken: list[Request] = []

    async def take(requests: Requests) -> None:
        async with incoming(requests) as coming:
            async for request in coming:
                taken.append(request)  # noqa: PERF401  it is looked at while it grows

    tasks = [asyncio.create_task(take(requests)) for requests in (here, there) * 3]
    await asyncio.sleep(0.05)
    await here.ask("worker", "worker-1", DRAIN)
    await asyncio.sleep(0.4)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert taken == [DRAIN]


async def test_the_last_of_those_that_wait_is_the_one_that_comes(views: Views) -> None:
    here, there = views
    await here.ask("worker", "worker-1", DRAIN)
    await here.ask("worker", "worker-1", RESTART)
    async with soon("a change is seen"), incoming(there) as coming:
        assert await anext(coming) == RESTART
    assert await comes_to_nobody(there, "worker-1")


@pytest.mark.parametrize("other", ["worker-2", "worker-10", "worker-", "worker", "../worker-1", "Worker-1"])
async def test_a_request_comes_to_nobody_else(views: Views, other: str) -> None:
    here, there = views
    await here.ask("worker", "worker-1", DRAIN)
    assert await comes_to_nobody(there, other)
    assert await comes_to_nobody(there, "worker-1", "keeper")
    assert not await there.waits("worker", other)
    assert await there.waits("worker", "worker-1")


async def test_a_name_may_hold_anything(views: Views) -> None:
    here, there = views
    await here.ask("worker", "../a b/ü", DRAIN)
    async with soon("a change is seen"), incoming(there, "../a b/ü") as coming:
        assert await anext(coming) == DRAIN


async def test_what_was_withdrawn_comes_to_nobody(views: Views) -> None:
    here, there = views
    assert not await here.withdraw("worker", "worker-1")
    await here.ask("worker", "worker-1", DRAIN)
    assert await here.withdraw("worker", "worker-1")
    assert not await here.withdraw("worker", "worker-1")
    assert await comes_to_nobody(there, "worker-1")
