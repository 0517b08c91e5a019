"""Being the one that does something."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cluster.coordination.leading import Leading
from cluster.coordination.memory import MemoryCoordination
from cluster.coordination.protocol import Coordination
from tests.unit.coordination.unreliable import UnreliableCoordination
from tests.waiting import soon

LEASE_S = 0.6


@asynccontextmanager
async def running(store: Coordination, name: str = "a") -> AsyncIterator[Leading]:
    leading = Leading(store, "fill", name, LEASE_S)
    task = asyncio.create_task(leading.run())
    try:
        yield leading
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until_holds(leading: Leading, holds: bool = True) -> None:
    async with soon(f"it leads: {holds}", seen=lambda: leading.term):
        while leading.holds() != holds:  # noqa: ASYNC110  a lease ends without an event
            await asyncio.sleep(0.01)


async def test_one_leads_and_the_other_stands_back_for_as_long_as_both_live() -> None:
    store = MemoryCoordination()
    async with running(store, "a") as a:
        await until_holds(a)
        async with running(store, "b") as b:
            await asyncio.sleep(3 * LEASE_S)
            assert a.holds()
            assert not a.stands_back
            assert not b.holds()
            assert b.stands_back
            assert b.term is None
            assert (await store.read("fill")).entries["fill"].value == b"a"


async def test_who_ends_leaves_the_lead_to_another_before_its_lease_is_over() -> None:
    store = MemoryCoordination()
    async with running(store, "b") as b:
        async with running(store, "a") as a:
            await until_holds(b)
        assert not a.holds()
        assert b.term is not None
    assert (await store.read("")).entries == {}


async def test_nobody_leads_longer_than_its_lease_when_the_store_is_away() -> None:
    store = MemoryCoordination()
    for hangs in (False, True):
        way = UnreliableCoordination(store, hangs=hangs)
        async with running(way) as leading:
            await until_holds(leading)
            term = leading.term
            way.go_away()
            await asyncio.sleep(LEASE_S)
            assert not leading.holds()
            way.come_back()
            await until_holds(leading)
            assert leading.term != term


async def test_who_does_not_reach_the_store_does_not_stand_back() -> None:
    store = MemoryCoordination()
    way = UnreliableCoordination(store)
    async with running(store, "a") as a:
        await until_holds(a)
        async with running(way, "b") as b, asyncio.timeout(5):
            assert b.stands_back
            way.go_away()
            await b.until(stands_back=False)
            assert not b.holds()
            way.come_back()
            await b.until(stands_back=True)
            assert a.holds()


async def test_who_was_stopped_for_longer_than_its_lease_does_not_lead_when_it_wakes() -> None:
    clock = [0.0]
    store = MemoryCoordination()
    leading = Leading(store, "fill", "a", LEASE_S, now=lambda: asyncio.get_running_loop().time() + clock[0])
    task = asyncio.create_task(leading.run())
    await until_holds(leading)
    clock[0] = LEASE_S
    assert not leading.holds()
    assert leading.term is None
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_lead_that_was_taken_away_is_noticed() -> None:
    store = MemoryCoordination()
    async with running(store) as leading:
        await until_holds(leading)
        await store.put("fill", b"other")
        await until_holds(leading, False)
        assert leading.stands_back
