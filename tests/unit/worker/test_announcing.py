from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import pytest
import structlog

from cluster.coordination.registry import Address, Load, Member, RegistryUnavailable
from storage_node import announcing
from storage_node.announcing import Announcing
from tests.waiting import soon

MEMBER = Member("worker", "worker-1", Address("127.0.0.1", 1), 1, "1", datetime(2026, 1, 1, tzinfo=UTC))
INTERVAL_S = 0.1


class Announced:
    """An announcement that notes what it is told, and when."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[Member] = asyncio.Queue()
        self.at: list[float] = []
        self.away = False

    async def update(self, member: Member) -> None:
        if self.away:
            raise RegistryUnavailable("away")
        self.at.append(asyncio.get_running_loop().time())
        self.told.put_nowait(member)

    async def withdraw(self) -> None:
        raise AssertionError

    async def __aenter__(self) -> Self:
        raise AssertionError

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        raise AssertionError


class Working:
    """A worker's load, and who tells of it."""

    def __init__(self) -> None:
        self.announced = Announced()
        self.load = Load()
        self.changed = asyncio.Event()
        self.draining = False
        self.announcing = Announcing(self.announced, MEMBER, self.describe, self.changed)

    def describe(self) -> Member:
        return replace(MEMBER, load=self.load, draining=self.draining)

    def change(self, associations: int) -> None:
        self.load = Load(associations)
        self.changed.set()


@asynccontextmanager
async def working() -> AsyncIterator[Working]:
    one = Working()
    async with soon("what changed is told", seen=lambda: one.announced.at):
        following = asyncio.create_task(one.announcing.follow())
        yield one
        following.cancel()
        await asyncio.wait([following])


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcing, "UPDATE_INTERVAL_S", INTERVAL_S)


async def test_a_load_that_changed_is_told() -> None:
    async with working() as worker:
        worker.change(3)
        assert await worker.announced.told.get() == replace(MEMBER, load=Load(3))


async def test_changes_in_quick_succession_are_told_at_most_once_an_interval_and_the_last_is() -> None:
    async with working() as worker:
        for number in range(1, 31):
            worker.change(number)
            await asyncio.sleep(INTERVAL_S / 10)
        while (await worker.announced.told.get()).load != Load(30):
            pass
        times = worker.announced.at
        assert len(times) > 1
        assert all(later - earlier >= 0.9 * INTERVAL_S for earlier, later in itertools.pairwise(times))


async def test_a_load_that_is_what_it_was_is_not_told() -> None:
    async with working() as worker:
        worker.change(0)
        await asyncio.sleep(2 * INTERVAL_S)
        assert worker.announced.told.empty()


async def test_draining_is_told_at_once_with_the_load() -> None:
    async with working() as worker:
        worker.change(1)
        await worker.announced.told.get()
        worker.load, worker.draining = Load(2), True
        assert await worker.announcing.tell()
        assert worker.announced.told.get_nowait() == replace(MEMBER, load=Load(2), draining=True)
        worker.change(1)
        assert (await worker.announced.told.get()).draining


async def test_while_the_registry_is_away_it_is_said_once_and_tried_again() -> None:
    with structlog.testing.capture_logs() as logs:
        async with working() as worker:
            worker.announced.away = True
            worker.draining = True
            worker.change(2)
            assert not await worker.announcing.tell()
            await asyncio.sleep(3 * INTERVAL_S)
            worker.announced.away = False
            assert await worker.announced.told.get() == replace(MEMBER, load=Load(2), draining=True)
    assert [entry["event"] for entry in logs] == ["worker.not_announced"]
