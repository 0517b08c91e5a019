"""Reading ahead: what is sent next is read meanwhile, once, and within the memory there is for it."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from cluster.nouns import Version
from storage_node.grid.read import NoCopy
from storage_node.services.read_ahead import READ_AHEAD, ReadAhead, Room
from storage_node.site.failing import Fault
from tests.integration.grid.cluster import Cluster, arrival, cluster

SIZE = 6000


async def stored(c: Cluster, number: int) -> Version:
    return (await c.grid.store(arrival(number), [bytes([number]) * SIZE])).version


async def read(ahead: ReadAhead, version: Version) -> bytes:
    async with aclosing(ahead.read(version)) as pieces:
        return b"".join([piece async for piece in pieces])


def gets(c: Cluster) -> int:
    return sum(call.method == "get" for site in c.sites.values() for call in site.objects.calls)


async def test_what_was_begun_is_read_once_and_given_when_it_is_asked_for() -> None:
    async with cluster() as c:
        one, two = await stored(c, 1), await stored(c, 2)
        room = Room(SIZE)
        ahead = ReadAhead(c.grid, room)
        assert await read(ahead, one) == b"\1" * SIZE
        c["a"].fail(Fault.HANG, "get")
        await ahead.begin([two])
        await c["a"].objects.hanging.wait()
        assert not room.take(1)
        c["a"].objects.release()
        assert await read(ahead, two) == b"\2" * SIZE
        assert gets(c) == 2
        assert room.take(SIZE)


async def test_what_was_begun_and_is_not_asked_for_is_let_go() -> None:
    async with cluster() as c:
        one, two = await stored(c, 1), await stored(c, 2)
        room = Room(SIZE)
        ahead = ReadAhead(c.grid, room)
        c["a"].fail(Fault.HANG, "get")
        await ahead.begin([one])
        await ahead.begin([two])
        await ahead.close()
        await ahead.close()
        assert room.take(SIZE)
        assert not [task for task in asyncio.all_tasks() if "_read_whole" in repr(task)]


async def test_without_room_nothing_is_read_ahead_and_all_the_same_given() -> None:
    async with cluster() as c:
        one = await stored(c, 1)
        ahead = ReadAhead(c.grid, Room(SIZE - 1))
        await ahead.begin([one])
        for _ in range(5):
            await asyncio.sleep(0)
        assert not gets(c)
        assert await read(ahead, one) == b"\1" * SIZE


async def test_a_version_without_a_copy_is_told_when_it_is_asked_for_and_not_before() -> None:
    async with cluster() as c:
        one = await stored(c, 1)
        room = Room(SIZE)
        ahead = ReadAhead(c.grid, room)
        for site in c.sites.values():
            site.fail(Fault.CORRUPT, "get")
        await ahead.begin([one])
        with pytest.raises(NoCopy):
            await read(ahead, one)
        assert room.take(SIZE)


async def test_several_are_read_at_once_and_no_more_than_there_may_be() -> None:
    async with cluster() as c:
        versions = [await stored(c, number) for number in range(READ_AHEAD + 2)]
        ahead = ReadAhead(c.grid, Room())
        c["a"].fail(Fault.HANG, "get")
        await ahead.begin(versions)
        for _ in range(5):
            await asyncio.sleep(0)
        assert gets(c) == READ_AHEAD
        c["a"].objects.release()
        assert await read(ahead, versions[0]) == b"\0" * SIZE
        await ahead.begin(versions[1:])
        assert [await read(ahead, version) for version in versions[1:]] == [
            bytes([number]) * SIZE for number in range(1, len(versions))
        ]
        assert gets(c) == len(versions)
