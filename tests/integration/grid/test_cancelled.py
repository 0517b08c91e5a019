"""Cancelled at every await: what was acknowledged stays; of what was not, upkeep leaves all or nothing.

Two things can be cancelled: who asked (the sender went away), and all that the grid has under way (the
process ends in the middle). Each is done at the first await of the run, at the second, and so on to the last.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import coroutine
from typing import Any, TypeVar

import pytest

from cluster.nouns import BLOCK_BYTES, FactKind
from cluster.settings import Upkeep
from storage_node.catalogue.views import is_hidden
from storage_node.grid.tasks import Tasks
from storage_node.site.failing import FailingObjects
from storage_node.site.memory import MemoryObjects
from storage_node.upkeep.anti_entropy import AntiEntropy
from storage_node.upkeep.collection import Collection
from storage_node.upkeep.listing import Listing
from tests.integration.grid.cluster import NAMES, Cluster, arrival, cluster

T = TypeVar("T")

PARTS = [b"meta", b"pixels"]
LARGE = bytes(BLOCK_BYTES + 5)
INSTANCE = arrival().instance


async def store(c: Cluster) -> str:
    return (await c.grid.store(arrival(), PARTS)).version.digest


async def stream(c: Cluster) -> str:
    async with await c.grid.stream(INSTANCE) as writing:
        await writing.write([LARGE])
        return (await writing.complete(arrival())).version.digest


async def delete(c: Cluster) -> str:
    return (await c.grid.decide(INSTANCE, FactKind.DELETED, by="ann", reason="")).digest


async def store_again(c: Cluster) -> str:
    return (await c.grid.store(arrival(), [b"another version"])).version.digest


async def nothing(c: Cluster) -> None:
    pass


async def stored(c: Cluster) -> None:
    await store(c)


async def deleted(c: Cluster) -> None:
    await store(c)
    await delete(c)


RUNS = [
    pytest.param(nothing, store, id="store"),
    pytest.param(nothing, stream, id="stream"),
    pytest.param(stored, delete, id="delete"),
    pytest.param(deleted, store_again, id="store again"),
]


@dataclass
class Awaits:
    """Counts awaits, and calls back at the one that was chosen."""

    chosen: int
    then: Callable[[], object]
    count: int = 0

    async def within(self, work: Coroutine[Any, Any, T]) -> T:
        result: T = await self._step_by_step(work)
        return result

    @coroutine
    def _step_by_step(self, work: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        result: Any = None
        error: BaseException | None = None
        while True:
            try:
                awaited = work.send(result) if error is None else work.throw(error)
            except StopIteration as done:
                return done.value
            self.count += 1
            if self.count == self.chosen:
                self.then()
            result, error = None, None
            try:
                result = yield awaited
            except BaseException as thrown:  # it goes on to the work, which may handle it
                error = thrown


@contextmanager
def awaits_before_and_after_each_call(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have sites of memory give way before and after they do what they are asked, as real ones do."""
    within = FailingObjects.within

    async def giving_way(
        self: FailingObjects, method: str, key: str, work: Callable[[], Awaitable[Any]], **options: Any
    ) -> Any:
        await asyncio.sleep(0)
        answer = await within(self, method, key, work, **options)
        await asyncio.sleep(0)
        return answer

    with monkeypatch.context() as patched:
        patched.setattr(FailingObjects, "within", giving_way)
        yield


class Clock:
    def __init__(self) -> None:
        self.time = datetime(2026, 3, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time


Run = Callable[[Cluster], Coroutine[Any, Any, str]]


@pytest.mark.parametrize(("before", "run"), RUNS)
async def test_whoever_asked_is_cancelled_at_each_await(
    before: Callable[[Cluster], Awaitable[None]], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def once(chosen: int) -> bool:
        clock = Clock()
        async with cluster(grace_s=60, now=clock) as c:
            await before(c)
            with awaits_before_and_after_each_call(monkeypatch):
                awaits = Awaits(chosen, lambda: asking.cancel())
                asking = asyncio.create_task(awaits.within(run(c)))
                await asyncio.wait([asking])
                await c.grid.tasks.drain()
            await check_after_upkeep(c, clock, asking)
            return awaits.count >= chosen

    await until_it_is_over(once)


@pytest.mark.parametrize(("before", "run"), RUNS)
async def test_the_process_ends_at_each_await(
    before: Callable[[Cluster], Awaitable[None]], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def once(chosen: int) -> bool:
        clock = Clock()
        async with cluster(grace_s=60, now=clock) as c:
            await before(c)
            begun: list[asyncio.Task[Any]] = []
            awaits = Awaits(chosen, lambda: [task.cancel() for task in begun])
            spawn = Tasks.spawn

            def counted(tasks: Tasks, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
                task = spawn(tasks, awaits.within(work))
                task.add_done_callback(lambda _: work.close())  # it was perhaps never begun
                begun.append(task)
                if awaits.count >= chosen:
                    task.cancel()
                return task

            with awaits_before_and_after_each_call(monkeypatch), monkeypatch.context() as patched:
                patched.setattr(Tasks, "spawn", counted)
                asking = asyncio.create_task(awaits.within(run(c)))
                begun.append(asking)
                await asyncio.wait([asking])
                await c.grid.tasks.drain()
            await check_after_upkeep(c, clock, asking)
            return awaits.count >= chosen

    await until_it_is_over(once, at_least=10)


async def until_it_is_over(once: Callable[[int], Awaitable[bool]], at_least: int = 1) -> None:
    """Cancel at the first await, the second, and so on, until there was nothing left to cancel."""
    chosen = 1
    while await once(chosen):
        chosen += 1
        assert chosen < 1000
    assert chosen > at_least


async def check_after_upkeep(c: Cluster, clock: Clock, asking: asyncio.Task[str]) -> None:
    acknowledged = None if asking.cancelled() else asking.result()
    await c.heal()
    clock.time += timedelta(days=2)
    upkeep = Upkeep()
    await Listing(c.grid, upkeep).run_once()
    await AntiEntropy(c.grid, upkeep).run_once()
    await c.repair()
    await Collection(c.grid, upkeep).run_once()
    contents = []
    for name in NAMES:
        objects, inner = c[name].objects.objects, c[name].inner
        assert isinstance(objects, MemoryObjects)
        assert not objects.uploads
        assert not await inner.debts(10)
        rows, facts = await inner.rows_of(INSTANCE), await inner.facts_of(INSTANCE)
        held = {row.version.digest for row in rows} | {fact.digest for fact in facts}
        named = {row.version.digest for row in rows if row.version.block_digests}
        assert {key for key in objects.objects if key.startswith("_facts/")} == {
            key for key in objects.objects if any(fact.digest in key for fact in facts)
        }
        assert {row.version.key for row in rows} <= objects.objects.keys()
        assert len(objects.objects) == len(rows) + len(named) + len(facts)
        contents.append((held, is_hidden(facts)))
    assert contents[0] == contents[1] == contents[2]
    if acknowledged is not None:
        assert acknowledged in contents[0][0]
