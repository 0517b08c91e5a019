"""Who was there last, for a start while the registry is away."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from pathlib import Path

import pytest

from cluster.coordination.leased_registry import LeasedRegistry
from cluster.coordination.memory import MemoryCoordination
from cluster.coordination.registry import RegistryUnavailable
from cluster.coordination.remembered import RememberedRegistry
from tests.unit.coordination.members import names, worker
from tests.unit.coordination.unreliable import UnreliableCoordination
from tests.waiting import soon

COLD_START_S = 0.3
WRITTEN_EACH_S = 1.0
"""The file is written no more often, while something changes."""
GRACE_S = 1.0


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "remembered" / "balancer" / "members.json"


def remembered(store: UnreliableCoordination | MemoryCoordination, file: Path) -> RememberedRegistry:
    leased = LeasedRegistry(store, 10, patience_s=0.2)
    return RememberedRegistry(leased, file, cold_start_s=COLD_START_S, grace_s=GRACE_S)


async def remember(file: Path, *workers: str) -> None:
    """See some workers, and end."""
    registry = remembered(MemoryCoordination(), file)
    for name in workers:
        await registry.announce(worker(name))
    async with soon("all changes are told"), aclosing(registry.watch()) as changes:
        assert names(await anext(changes)) == list(workers)


async def test_a_start_without_the_registry_goes_by_who_was_there_last(file: Path) -> None:
    await remember(file, "a", "b")
    for hangs in (False, True):
        way = UnreliableCoordination(MemoryCoordination(), hangs=hangs)
        way.go_away()
        registry = remembered(way, file)
        async with soon("all changes are told"), aclosing(registry.watch()) as changes:
            assert names(await anext(changes)) == ["a", "b"]
            assert names(await registry.members("worker")) == ["a", "b"]
            assert await registry.members("balancer") == []


async def test_a_start_without_the_registry_and_without_a_memory_waits(file: Path) -> None:
    store = MemoryCoordination()
    way = UnreliableCoordination(store)
    way.go_away()
    registry = remembered(way, file)
    with pytest.raises(RegistryUnavailable, match=r"nobody is remembered in .*members\.json"):
        await registry.members()
    async with soon("all changes are told"), aclosing(registry.watch()) as changes:
        waiting = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(2 * COLD_START_S)
        assert not waiting.done()
        await remembered(store, file).announce(worker("a"))
        way.come_back()
        assert names(await waiting) == ["a"]


async def test_what_the_registry_shows_is_the_truth_also_when_it_is_nobody(file: Path) -> None:
    await remember(file, "a")
    registry = remembered(MemoryCoordination(), file)
    assert await registry.members() == []
    async with soon("all changes are told"), aclosing(registry.watch()) as changes:
        assert await anext(changes) == []


async def test_those_who_are_remembered_have_time_to_enter_themselves_anew(file: Path) -> None:
    await remember(file, "a", "b")
    store = MemoryCoordination()
    way = UnreliableCoordination(store)
    way.go_away()
    async with soon("all changes are told"), aclosing(remembered(way, file).watch()) as changes:
        assert names(await anext(changes)) == ["a", "b"]
        way.come_back()
        await remembered(store, file).announce(worker("c"))
        assert names(await anext(changes)) == ["a", "b", "c"]
        await remembered(store, file).announce(worker("a", version="1"))
        assert [member.version for member in await anext(changes)] == ["1", "0", "0"]
        assert names(await anext(changes)) == ["a", "c"]


async def test_the_file_is_written_when_somebody_comes_or_goes_and_not_for_their_load(file: Path) -> None:
    registry = remembered(MemoryCoordination(), file)
    async with soon("all changes are told"), aclosing(registry.watch()) as changes:
        await anext(changes)
        announcement = await registry.announce(worker("a"))
        await anext(changes)
        while not (file.exists() and "worker" in file.read_text()):  # noqa: ASYNC110  a file
            await asyncio.sleep(0.01)
        written = file.stat()
        for associations in range(1, 5):
            await announcement.update(worker("a", associations=associations))
            await anext(changes)
        await asyncio.sleep(1.2)
        assert file.stat().st_ino == written.st_ino
        await announcement.update(worker("a", version="1"))
        await anext(changes)
        while file.stat().st_ino == written.st_ino:  # noqa: ASYNC110  a file
            await asyncio.sleep(0.01)


async def test_changes_in_quick_succession_are_written_once_and_the_last_is_kept(file: Path) -> None:
    registry = remembered(MemoryCoordination(), file)
    async with soon("all changes are told"), aclosing(registry.watch()) as changes:
        await anext(changes)
        announcement = await registry.announce(worker("a"))
        await anext(changes)
        inodes, began = set(), time.monotonic()
        for number in range(20):
            await announcement.update(worker("a", version=str(number + 1)))
            await anext(changes)
            await asyncio.sleep(0.01)
            if file.exists():
                inodes.add(file.stat().st_ino)
        assert len(inodes) <= 1 + (time.monotonic() - began) / WRITTEN_EACH_S
    way = UnreliableCoordination(MemoryCoordination())
    way.go_away()
    assert [member.version for member in await remembered(way, file).members()] == ["20"]


@pytest.mark.parametrize("content", [b"", b"{", b"[{}]", b"\xff"])
async def test_a_file_that_cannot_be_read_is_no_memory(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    way = UnreliableCoordination(MemoryCoordination())
    way.go_away()
    with pytest.raises(RegistryUnavailable):
        await remembered(way, file).members()


async def test_a_file_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "remembered").touch()
    registry = remembered(MemoryCoordination(), tmp_path / "remembered" / "members.json")
    async with soon("all changes are told"), aclosing(registry.watch()) as changes:
        assert await anext(changes) == []
        await registry.announce(worker("a"))
        assert names(await anext(changes)) == ["a"]


async def test_each_who_watches_is_told_who_is_there(file: Path) -> None:
    registry = remembered(MemoryCoordination(), file)
    await registry.announce(worker("a"))
    async with (
        soon("all changes are told"),
        aclosing(registry.watch()) as changes,
        aclosing(registry.watch()) as others,
    ):
        assert names(await anext(changes)) == ["a"]
        assert names(await anext(others)) == ["a"]
