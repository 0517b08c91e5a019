"""Watches when the history is cut short, or is another one."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from cluster.coordination.etcd import EtcdCoordination
from cluster.coordination.following import follow
from cluster.coordination.protocol import Compacted
from tests.etcd import EtcdCluster, own_cluster
from tests.integration.coordination.conftest import Open


async def test_a_watch_from_before_the_history_began_says_so(
    etcd: EtcdCluster, store: EtcdCoordination
) -> None:
    first = await store.put("a", b"1")
    last = await store.put("a", b"2")
    await etcd.compact(last)
    async with aclosing(store.watch("a", first - 1)) as watch, asyncio.timeout(5):
        with pytest.raises(Compacted, match=rf"before revision {last}"):
            await anext(watch)


async def test_a_watch_that_is_up_to_date_is_not_troubled_by_compaction(
    etcd: EtcdCluster, store: EtcdCoordination
) -> None:
    revision = await store.put("a", b"1")
    async with aclosing(store.watch("a", revision - 1)) as watch, asyncio.timeout(5):
        await anext(watch)
        last = await store.put("b", b"2")
        await etcd.compact(last)
        revision = await store.put("a", b"3")
        assert (await anext(watch))[0].revision == revision


async def test_following_reads_anew_what_was_compacted_while_it_was_away(
    etcd: EtcdCluster, opened: Open
) -> None:
    store, writer = opened(), opened(etcd.members[1])
    await writer.put("f/a", b"1")
    await writer.put("f/gone", b"1")
    async with aclosing(follow(store, "f/")) as states, asyncio.timeout(30):
        assert list((await anext(states)).entries) == ["f/a", "f/gone"]
        await etcd.members[0].kill()  # where the watch is
        await writer.delete("f/gone")
        await etcd.compact(await writer.put("f/b", b"2"))
        while list((await anext(states)).entries) != ["f/a", "f/b"]:
            pass


async def test_following_goes_on_with_a_store_that_was_made_anew() -> None:
    """As when it is restored from a backup: its revisions are lower than those that were seen."""
    async with own_cluster() as etcd:
        settings = etcd.settings()
        store = EtcdCoordination(settings)
        for number in range(20):
            await store.put("f/a", b"%d" % number)
        async with aclosing(follow(store, "f/")) as states, asyncio.timeout(30):
            assert list((await anext(states)).entries) == ["f/a"]
            following = asyncio.ensure_future(anext(states))
            await asyncio.sleep(0.2)
            await etcd.start_over()
            await store.put("f/b", b"1")
            snapshot = await following
            while list(snapshot.entries) != ["f/b"]:
                snapshot = await anext(states)
        await store.close()
