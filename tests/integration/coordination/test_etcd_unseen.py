"""What becomes of a write whose first try had no answer: it happened unseen, will happen late, or never."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from cluster.coordination.etcd import EtcdCoordination
from cluster.coordination.protocol import ABSENT, Conflict, CoordinationUnavailable, Entry
from tests.etcd import EtcdCluster
from tests.integration.coordination.conftest import Open
from tests.integration.coordination.relay import Relay


@pytest.fixture
async def way(etcd: EtcdCluster) -> AsyncIterator[Relay]:
    """To the first member."""
    async with Relay(etcd.members[0].address) as relay:
        yield relay


@pytest.fixture
async def store(etcd: EtcdCluster, opened: Open, way: Relay) -> EtcdCoordination:
    """Asks the first member by that way, then the others."""
    store = opened(way.endpoint, etcd.members[1])
    await store.put("warm", b"")
    return store


@pytest.fixture
def other(etcd: EtcdCluster, opened: Open) -> EtcdCoordination:
    return opened(etcd.members[2])


async def test_a_write_that_happened_unseen_is_no_conflict(
    store: EtcdCoordination, other: EtcdCoordination, way: Relay
) -> None:
    way.answers_pass.clear()
    revision = await store.put("a", b"1", expected=ABSENT)
    assert (await other.read("a")).entries["a"] == Entry(b"1", revision, 0)


async def test_a_removal_that_happened_unseen_is_no_conflict(
    store: EtcdCoordination, other: EtcdCoordination, way: Relay
) -> None:
    revision = await store.put("a", b"1")
    way.answers_pass.clear()
    assert await store.delete("a", expected=revision) > revision
    assert (await other.read("a")).entries == {}


async def test_a_campaign_that_was_won_unseen_is_won(
    store: EtcdCoordination, other: EtcdCoordination, way: Relay
) -> None:
    lease = await store.grant(30)
    way.answers_pass.clear()
    term = await store.campaign("leader", b"a", lease)
    assert term is not None
    assert (await other.read("leader")).entries["leader"] == Entry(b"a", term.token, lease.id)


async def test_a_campaign_whose_win_was_never_told_is_told_by_the_next(
    etcd: EtcdCluster, store: EtcdCoordination, other: EtcdCoordination, way: Relay
) -> None:
    lease = await store.grant(30)
    way.answers_pass.clear()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await store.campaign("leader", b"a", lease)
    assert (await other.read("leader")).entries["leader"].lease == lease.id
    term = await store.campaign("leader", b"a", lease)
    assert term is not None
    await store.resign(term)
    assert (await other.read("leader")).entries == {}


async def test_where_another_wrote_after_a_try_without_an_answer_nobody_says_that_it_did_not_happen(
    store: EtcdCoordination, other: EtcdCoordination, way: Relay
) -> None:
    way.answers_pass.clear()
    writing = asyncio.ensure_future(store.put("a", b"1", expected=ABSENT))
    while (entry := (await other.read("a")).entries.get("a")) is None:
        pass
    await other.put("a", b"2", expected=entry.changed)
    with pytest.raises(CoordinationUnavailable, match="a: an etcd member failed while it was written"):
        await writing
    assert (await other.read("a")).entries["a"].value == b"2"


async def test_a_removal_and_a_write_after_it_are_no_conflict_either(
    store: EtcdCoordination, other: EtcdCoordination, way: Relay
) -> None:
    revision = await store.put("a", b"1")
    way.answers_pass.clear()
    writing = asyncio.ensure_future(store.delete("a", expected=revision))
    while (await other.read("a")).entries:
        pass
    await other.put("a", b"2")
    with pytest.raises(CoordinationUnavailable):
        await writing


async def test_a_try_that_cannot_have_happened_is_a_conflict(
    store: EtcdCoordination, other: EtcdCoordination, way: Relay
) -> None:
    """The key is as it was: what was to be written with it is refused by the term alone."""
    term = await other.campaign("leader", b"a", await other.grant(30))
    assert term is not None
    revision = await store.put("a", b"1")
    await other.resign(term)
    way.answers_pass.clear()
    with pytest.raises(Conflict, match="term"):
        await store.put("a", b"2", expected=revision, during=term)


async def test_a_try_that_arrives_late_does_not_undo_what_was_written_since(
    store: EtcdCoordination, other: EtcdCoordination, way: Relay
) -> None:
    """As where a member is stopped with a request in its socket, and wakes when others have served us."""
    lease = await store.grant(30)
    await store.put("late/a", b"0", lease=lease)
    way.hold_after = b"late/a"
    await store.put("late/a", b"1", lease=lease)
    assert not way.requests_pass.is_set()
    last = await store.put("late/a", b"2", lease=lease)
    way.requests_pass.set()
    await asyncio.sleep(0.5)
    assert (await other.read("late/a")).entries["late/a"] == Entry(b"2", last, lease.id)


async def test_a_removal_that_arrives_late_does_not_take_what_was_written_since(
    store: EtcdCoordination, other: EtcdCoordination, way: Relay
) -> None:
    await store.put("late/a", b"0")
    way.hold_after = b"late/a"
    await store.delete("late/a")
    assert not way.requests_pass.is_set()
    last = await store.put("late/a", b"1")
    way.requests_pass.set()
    await asyncio.sleep(0.5)
    assert (await other.read("late/a")).entries["late/a"].changed == last
