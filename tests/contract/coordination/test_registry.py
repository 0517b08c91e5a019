from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cluster.coordination.folder import FolderRegistry
from cluster.coordination.leased_registry import LeasedRegistry
from cluster.coordination.registry import Address, Kind, Member, Registry
from cluster.settings import Etcd
from tests.contract.coordination.conftest import stores_in
from tests.etcd import EtcdCluster
from tests.waiting import soon

STARTED_AT = datetime(2024, 1, 1, 12, 30, 1, 250, tzinfo=UTC)

Views = tuple[Registry, Registry]
"""Two processes' views of one membership."""


@pytest.fixture(params=["folder", "leased in memory", "leased in etcd"])
def carrier(request: pytest.FixtureRequest) -> tuple[str, Etcd | None]:
    """What carries the announcements, and settings of the store if it is etcd."""
    if request.param != "leased in etcd":
        return request.param, None
    cluster: EtcdCluster = request.getfixturevalue("etcd_for_all")
    return request.param, cluster.settings()


@pytest.fixture
async def views(carrier: tuple[str, Etcd | None], tmp_path: Path) -> AsyncIterator[Views]:
    name, settings = carrier
    if name == "folder":
        yield FolderRegistry(tmp_path / "members"), FolderRegistry(tmp_path / "members")
    else:
        async with stores_in(settings) as (here, there):
            yield LeasedRegistry(here, 10.0), LeasedRegistry(there, 10.0)


def member(name: str, kind: Kind = "worker", *, dicom: Address | None = None, later_s: float = 0) -> Member:
    return Member(
        kind=kind,
        name=name,
        http=Address("::1", 8112),
        pid=4711,
        version="0.1.0",
        started_at=STARTED_AT + timedelta(seconds=later_s),
        dicom=dicom,
    )


def following(registry: Registry) -> aclosing[AsyncGenerator[list[Member], None]]:
    return aclosing(registry.watch())


async def test_nobody_is_there_at_first(views: Views) -> None:
    assert await views[0].members() == []


async def test_who_announced_itself_is_seen_as_it_described_itself(views: Views) -> None:
    here, there = views
    one = member("worker-1", dicom=Address("127.0.0.1", 11112))
    async with await here.announce(one):
        assert await there.members() == [one]
        assert await here.members() == [one]


async def test_who_withdrew_is_gone(views: Views) -> None:
    here, there = views
    announcement = await here.announce(member("worker-1"))
    assert await there.members() != []
    await announcement.withdraw()
    assert await there.members() == []
    await announcement.withdraw()


async def test_members_are_ordered_and_chosen_by_kind(views: Views) -> None:
    here, there = views
    all_of_them = [member("balancer", "balancer"), member("upkeep", "upkeep"), member("a"), member("b")]
    for one in reversed(all_of_them):
        await here.announce(one)
    assert await there.members() == all_of_them
    assert [one.name for one in await there.members("worker")] == ["a", "b"]


async def test_an_update_replaces_the_description(views: Views) -> None:
    here, there = views
    one = member("worker-1")
    announcement = await here.announce(one)
    other = replace(one, dicom=Address("127.0.0.1", 11113))
    await announcement.update(other)
    assert await there.members() == [other]
    await announcement.withdraw()
    assert await there.members() == []


async def test_an_update_cannot_change_who_it_is(views: Views) -> None:
    announcement = await views[0].announce(member("worker-1"))
    with pytest.raises(ValueError, match="worker-1, cannot become worker worker-2"):
        await announcement.update(member("worker-2"))
    with pytest.raises(ValueError, match="cannot become upkeep"):
        await announcement.update(member("worker-1", "upkeep"))
    assert await views[1].members() == [member("worker-1")]


async def test_of_two_under_one_name_the_newer_is_shown(views: Views) -> None:
    here, there = views
    newer = await here.announce(member("worker-1", later_s=1))
    await here.announce(member("worker-1"))
    assert await there.members() == [member("worker-1", later_s=1)]
    await newer.withdraw()
    assert await there.members() == [member("worker-1")]


async def test_watching_begins_with_what_is_there(views: Views) -> None:
    here, there = views
    async with soon("a change is seen"), following(there) as changes:
        assert await anext(changes) == []
    await here.announce(member("worker-1"))
    async with soon("a change is seen"), following(there) as changes:
        assert await anext(changes) == [member("worker-1")]


async def test_every_kind_of_change_is_seen(views: Views) -> None:
    here, there = views
    one = member("worker-1")
    moved = replace(one, dicom=Address("127.0.0.1", 11113))
    async with soon("a change is seen"), following(there) as changes:
        assert await anext(changes) == []
        announcement = await here.announce(one)
        assert await anext(changes) == [one]
        await announcement.update(moved)
        assert await anext(changes) == [moved]
        await announcement.withdraw()
        assert await anext(changes) == []


async def test_nothing_is_yielded_while_nothing_changes(views: Views) -> None:
    async with following(views[0]) as changes:
        assert await anext(changes) == []
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await anext(changes)


async def test_a_slow_watcher_sees_the_last_state(views: Views) -> None:
    here, there = views
    async with soon("a change is seen"), following(there) as changes:
        assert await anext(changes) == []
        for name in ("a", "b", "c"):
            await here.announce(member(name))
        while [one.name for one in await anext(changes)] != ["a", "b", "c"]:
            pass


async def test_two_watchers_see_the_same(views: Views) -> None:
    here, there = views
    async with soon("a change is seen"), following(here) as one, following(there) as other:
        assert await anext(one) == await anext(other) == []
        await here.announce(member("worker-1"))
        assert await anext(one) == await anext(other) == [member("worker-1")]
