"""What is below a prefix, followed while the store comes and goes."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from cluster.coordination.following import follow, sightings
from cluster.coordination.memory import MemoryCoordination
from tests.unit.coordination.unreliable import UnreliableCoordination
from tests.waiting import soon


async def test_an_outage_is_told_once_and_what_was_changed_meanwhile_after_it() -> None:
    store = MemoryCoordination()
    way = UnreliableCoordination(store)
    await store.put("a/1", b"before")
    async with (
        soon("it is told"),
        aclosing(sightings(way, "a/", longest_pause_s=0.05)) as seen,
    ):
        first = await anext(seen)
        assert first is not None
        assert [entry.value for entry in first.entries.values()] == [b"before"]
        way.go_away()
        assert await anext(seen) is None
        waiting = asyncio.ensure_future(anext(seen))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        await store.put("a/1", b"meanwhile")
        way.come_back()
        after = await waiting
        assert after is not None
        assert [entry.value for entry in after.entries.values()] == [b"meanwhile"]


async def test_after_a_long_outage_it_is_back_within_the_longest_pause() -> None:
    store = MemoryCoordination()
    way = UnreliableCoordination(store)
    way.go_away()
    async with soon("it is back"), aclosing(follow(way, "a/", longest_pause_s=0.1)) as states:
        waiting = asyncio.ensure_future(anext(states))
        await asyncio.sleep(1.6)  # by itself it would pause for 1.6 s, from 1.5 s on
        assert not waiting.done()
        way.come_back()
        async with asyncio.timeout(1.2):
            assert (await waiting).entries == {}
