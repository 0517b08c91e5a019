"""How processes find each other through the store: what its outages do, and what they do not."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from cluster.coordination.leased_registry import LeasedRegistry, grace_s
from cluster.coordination.memory import MemoryCoordination
from cluster.coordination.patience import Patience
from cluster.coordination.protocol import Lease
from cluster.coordination.registry import RegistryUnavailable
from cluster.coordination.view import bridged
from tests.unit.coordination.members import names, worker
from tests.unit.coordination.unreliable import UnreliableCoordination
from tests.waiting import soon

LEASE_S = 0.6
PATIENCE_S = 0.2


def registry(store: MemoryCoordination | UnreliableCoordination) -> LeasedRegistry:
    return LeasedRegistry(store, LEASE_S, patience_s=PATIENCE_S)


async def until_shown(there: LeasedRegistry, *wanted: str) -> None:
    async with soon(f"{wanted} are shown"), aclosing(there.watch()) as changes:
        while names(await anext(changes)) != list(wanted):
            pass


def test_without_an_outage_who_is_not_found_is_not_shown() -> None:
    assert bridged([worker("a"), worker("b")], [worker("b")], keep=False) == [worker("b")]


def test_after_an_outage_those_who_are_not_found_are_shown_as_they_were() -> None:
    found = [worker("b", version="1"), worker("c")]
    shown = bridged([worker("a"), worker("b")], found, keep=True)
    assert shown == [worker("a"), worker("b", version="1"), worker("c")]


async def test_an_entry_stays_for_longer_than_its_lease() -> None:
    store = MemoryCoordination()
    async with await registry(store).announce(worker("a")):
        await asyncio.sleep(3 * LEASE_S)
        assert names(await registry(store).members()) == ["a"]
    assert await registry(store).members() == []
    assert (await store.read("")).entries == {}


async def test_who_lost_its_lease_is_entered_anew() -> None:
    store = MemoryCoordination()
    async with await registry(store).announce(worker("a")):
        (entry,) = (await store.read("members/")).entries.values()
        await store.revoke(Lease(entry.lease, LEASE_S, 0))
        assert await registry(store).members() == []
        await until_shown(registry(store), "a")


async def test_a_process_starts_while_the_store_is_away_and_is_entered_when_it_is_back() -> None:
    store = MemoryCoordination()
    for hangs in (False, True):
        way = UnreliableCoordination(store, hangs=hangs)
        way.go_away()
        async with soon("the registry goes on"):
            announcement = await registry(way).announce(worker("a"))
        assert await registry(store).members() == []
        way.come_back()
        await until_shown(registry(store), "a")
        await announcement.withdraw()


async def test_what_is_said_while_the_store_is_away_is_entered_when_it_is_back() -> None:
    store = MemoryCoordination()
    way = UnreliableCoordination(store)
    async with await registry(way).announce(worker("a")) as announcement:
        way.go_away()
        async with soon("the registry goes on"):
            await announcement.update(worker("a", version="1"))
            await announcement.update(worker("a", version="2"))
        way.come_back()
        async with soon("the registry goes on"), aclosing(registry(store).watch()) as changes:
            while [member.version for member in await anext(changes)] != ["2"]:
                pass


async def test_who_knows_that_the_store_is_away_does_not_wait_for_it_each_time() -> None:
    way = UnreliableCoordination(MemoryCoordination())
    way.go_away()
    announcement = await registry(way).announce(worker("a"))
    async with soon("nobody waits each time", within_s=20 * PATIENCE_S):
        for associations in range(50):
            await announcement.update(worker("a", associations=associations))
    await announcement.withdraw()


async def test_who_withdraws_while_the_store_is_away_goes_with_its_lease() -> None:
    store = MemoryCoordination()
    for hangs in (False, True):
        way = UnreliableCoordination(store, hangs=hangs)
        announcement = await registry(way).announce(worker("a"))
        way.go_away()
        async with soon("the registry goes on"):
            await announcement.withdraw()
        assert names(await registry(store).members()) == ["a"]
        await until_shown(registry(store))


async def test_who_asks_while_the_store_is_away_is_told() -> None:
    way = UnreliableCoordination(MemoryCoordination())
    way.go_away()
    with pytest.raises(RegistryUnavailable, match="away"):
        await registry(way).members()


async def test_an_outage_takes_nobody_away_who_enters_itself_anew() -> None:
    """All ways to the store are cut for longer than leases last."""
    store = MemoryCoordination()
    ways = [UnreliableCoordination(store) for _ in range(3)]
    announcements = [
        await registry(way).announce(worker(name)) for way, name in zip(ways, "ab", strict=False)
    ]
    async with Patience(registry(ways[2]).watch()) as changes:
        assert names(await changes.next(5)) == ["a", "b"]
        for way in ways:
            way.go_away()
        with pytest.raises(TimeoutError):
            await changes.next(2 * LEASE_S)
        assert (await store.read("")).entries == {}
        for way in ways:
            way.come_back()
        with pytest.raises(TimeoutError):
            await changes.next(3 * LEASE_S)
    for announcement in announcements:
        await announcement.withdraw()


async def test_who_has_not_come_back_soon_after_an_outage_is_gone() -> None:
    store = MemoryCoordination()
    way = UnreliableCoordination(store)
    gone, stays = await registry(store).announce(worker("a")), await registry(store).announce(worker("b"))
    async with soon("the registry goes on"), aclosing(registry(way).watch()) as changes:
        assert names(await anext(changes)) == ["a", "b"]
        waiting = asyncio.ensure_future(anext(changes))
        way.go_away()
        await gone.withdraw()
        await asyncio.sleep(0.1)
        began = asyncio.get_running_loop().time()
        way.come_back()
        assert names(await waiting) == ["b"]
        assert asyncio.get_running_loop().time() - began > 0.8 * grace_s(LEASE_S)
    await stays.withdraw()


async def test_an_entry_that_cannot_be_read_is_no_member_and_harms_no_other() -> None:
    store = MemoryCoordination()
    for number, value in enumerate((b"", b"{", b"[]", b'{"kind": "worker"}', b"\xff")):
        await store.put(f"members/worker/broken/{number}", value)
    async with await registry(store).announce(worker("well")):
        assert names(await registry(store).members()) == ["well"]
