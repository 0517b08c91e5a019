"""What happens to requests, leases and watches when members of etcd die, hang, or lose their majority."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable
from contextlib import aclosing
from typing import TypeVar

import pytest

from cluster.coordination.etcd import EtcdCoordination
from cluster.coordination.following import follow
from cluster.coordination.protocol import CoordinationUnavailable, LeaseLost
from tests.etcd import EtcdCluster
from tests.integration.coordination.conftest import Open

TIMEOUT_S = 1.0
"""Of one member, by default; all of them together have twice as long."""
SLACK_S = 1.0
"""What a busy machine may take besides."""

T = TypeVar("T")


async def timed(step: Awaitable[T]) -> tuple[T, float]:
    began = time.monotonic()
    return await step, time.monotonic() - began


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
async def test_requests_go_on_at_another_member(
    etcd: EtcdCluster, opened: Open, fault: signal.Signals
) -> None:
    """A member that hangs costs one time limit, once; one that died costs nothing to speak of."""
    leader = await etcd.leader()
    first = next(member for member in etcd.members if member is not leader)
    store = opened(first)
    await store.put("a", b"1")
    first.signal(fault)
    revision, took_s = await timed(store.put("a", b"2"))
    assert took_s < (TIMEOUT_S if fault == signal.SIGSTOP else 0) + SLACK_S
    snapshot, took_s = await timed(store.read("a"))
    assert snapshot.entries["a"].changed == revision
    assert took_s < SLACK_S / 2


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
async def test_requests_go_on_when_the_leader_of_etcd_is_lost(
    etcd: EtcdCluster, opened: Open, fault: signal.Signals
) -> None:
    leader = await etcd.leader()
    store = opened(leader)
    await store.put("a", b"1")
    leader.signal(fault)
    _, took_s = await timed(store.put("a", b"2"))
    assert took_s < 2 * TIMEOUT_S + SLACK_S
    assert (await store.read("a")).entries["a"].value == b"2"


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_lease_is_kept_through_the_loss_of_a_member(
    etcd: EtcdCluster, opened: Open, fault: signal.Signals
) -> None:
    leader = await etcd.leader()
    store = opened(leader)
    lease = await store.grant(3)
    await store.put("a", b"1", lease=lease)
    leader.signal(fault)
    until = time.monotonic() + 5
    while time.monotonic() < until:
        lease = await store.keep_alive(lease)
        assert time.monotonic() < lease.valid_until
        await asyncio.sleep(0.5)
    assert (await store.read("a")).entries["a"].lease == lease.id


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_watch_goes_on_at_another_member_and_misses_nothing(
    etcd: EtcdCluster, opened: Open, fault: signal.Signals
) -> None:
    store, writer = opened(etcd.members[0]), opened(etcd.members[1])
    start = (await store.read("w/")).revision
    revisions = [await writer.put("w/a", b"0")]
    async with aclosing(store.watch("w/", start)) as watch, asyncio.timeout(20):
        seen = list(await anext(watch))
        etcd.members[0].signal(fault)
        revisions += [await writer.put("w/a", b"%d" % number) for number in range(5)]
        last = time.monotonic()
        while len(seen) < len(revisions):
            seen += await anext(watch)
        assert time.monotonic() - last < 2 * TIMEOUT_S + SLACK_S
        etcd.members[0].signal(signal.SIGCONT)
        revisions.append(await writer.put("w/a", b"last"))
        seen += await anext(watch)
    assert [change.revision for change in seen] == revisions


async def test_a_member_that_is_cut_off_from_the_others_holds_no_watch(
    etcd: EtcdCluster, opened: Open
) -> None:
    """The others of its cluster are stopped: it lives and answers, and knows nothing new."""
    store = opened(etcd.members[0])
    start = (await store.read("w/")).revision
    for member in etcd.members[1:]:
        member.signal(signal.SIGSTOP)
    async with aclosing(store.watch("w/", start)) as watch, asyncio.timeout(15):
        with pytest.raises(CoordinationUnavailable):
            await anext(watch)


async def test_a_minority_answers_nothing_and_all_is_well_when_the_majority_is_back(
    etcd: EtcdCluster, store: EtcdCoordination
) -> None:
    lease = await store.grant(30)
    revision = await store.put("a", b"1", lease=lease)
    for member in etcd.members[1:]:
        await member.kill()
    for request in (store.read("a"), store.put("a", b"2"), store.grant(5), store.keep_alive(lease)):
        began = time.monotonic()
        with pytest.raises(CoordinationUnavailable, match="etcd did not answer within 2 s: http"):
            await request
        assert time.monotonic() - began < 2 * TIMEOUT_S + SLACK_S
    await etcd.mend()
    assert (await store.read("a")).entries["a"].changed == revision
    assert (await store.keep_alive(lease)).id == lease.id
    await store.put("a", b"3", expected=revision)


async def test_all_members_may_be_away_at_first(etcd: EtcdCluster, store: EtcdCoordination) -> None:
    for member in etcd.members:
        await member.kill()
    with pytest.raises(CoordinationUnavailable):
        await store.read("a")
    await etcd.mend()
    async with asyncio.timeout(5):
        while True:
            try:
                await store.put("a", b"1")
            except CoordinationUnavailable:
                continue
            break


async def test_following_goes_on_after_an_outage_and_ends_with_the_truth(
    etcd: EtcdCluster, store: EtcdCoordination
) -> None:
    await store.put("f/a", b"1")
    async with aclosing(follow(store, "f/")) as states, asyncio.timeout(40):
        assert list((await anext(states)).entries) == ["f/a"]
        for member in etcd.members:
            await member.kill()
        following = asyncio.ensure_future(anext(states))
        await asyncio.sleep(3)
        assert not following.done()
        await etcd.mend()
        await following
        await store.put("f/b", b"2")
        while list((await anext(states)).entries) != ["f/a", "f/b"]:
            pass


async def test_a_lease_that_was_not_renewed_in_an_outage_is_lost_not_unavailable(
    etcd: EtcdCluster, store: EtcdCoordination
) -> None:
    lease = await store.grant(2)
    await store.put("a", b"1", lease=lease)
    for member in etcd.members[1:]:
        await member.kill()
    await etcd.mend()
    async with asyncio.timeout(15):
        while (await store.read("a")).entries:  # noqa: ASYNC110  the end of a lease raises no event
            await asyncio.sleep(0.1)
    assert time.monotonic() >= lease.valid_until
    with pytest.raises(LeaseLost):
        await store.keep_alive(lease)


async def test_a_leader_of_etcd_that_slept_renews_no_lease_that_is_over(
    etcd: EtcdCluster, opened: Open
) -> None:
    """It finds the request when it wakes, and does not know yet that it was deposed."""
    leader = await etcd.leader()
    others = opened(*(member for member in etcd.members if member is not leader))
    lease = await others.grant(30)
    store = opened(leader, timeout_s=20.0)
    await store.read("a")
    leader.signal(signal.SIGSTOP)
    renewing = asyncio.ensure_future(store.keep_alive(lease))
    await others.revoke(lease)
    leader.signal(signal.SIGCONT)
    with pytest.raises(LeaseLost):
        await renewing
