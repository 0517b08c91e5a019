"""Whoever stores again what is being purged, or takes its deletion back, has it: whenever he comes."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from contextvars import ContextVar
from functools import partial
from itertools import count
from typing import Any, cast

import pytest

from cluster.nouns import FactKind
from storage_node.catalogue.matching import by_uids
from storage_node.catalogue.protocol import Catalogue
from storage_node.grid.facts import Gone
from storage_node.grid.record import FRESH_S
from storage_node.grid.write import NotEnoughSites
from storage_node.site.protocol import Objects
from storage_node.upkeep.anti_entropy import AntiEntropy
from storage_node.upkeep.collection import Collection
from storage_node.upkeep.listing import Listing
from storage_node.upkeep.purging import Purging
from storage_node.upkeep.verify import verify
from tests.integration.grid.cluster import NAMES, Cluster, arrival, cluster
from tests.integration.grid.upkeep import UPKEEP, Clock

INSTANCE = arrival(1).instance
FIRST, SECOND = b"first", b"second"
PROBES = ("identity", "free_bytes")

Asked = Callable[[Cluster], Awaitable[object]]


class Stepped:
    """A site's objects, or its catalogue: before each call something else may happen."""

    def __init__(self, inner: object, before: Callable[[], Awaitable[None]]) -> None:
        self._inner = inner
        self._before = before

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if name in PROBES or not callable(method):
            return method
        return partial(self._pages if inspect.isasyncgenfunction(method) else self._call, method)

    async def _call(self, method: Callable[..., Awaitable[object]], *args: object, **more: object) -> object:
        await self._before()
        return await method(*args, **more)

    async def _pages(
        self, method: Callable[..., AsyncGenerator[object]], *args: object, **more: object
    ) -> AsyncGenerator[object]:
        await self._before()
        async with aclosing(method(*args, **more)) as answers:
            async for answer in answers:
                yield answer


_HAPPENS = ContextVar("_HAPPENS", default=False)


class Steps:
    """Counts the calls at all sites; before one of them all stands still while something else happens."""

    def __init__(self, c: Cluster, step: int, happens: Callable[[], Awaitable[object]]) -> None:
        self._left = step
        self._happens = happens
        self._over = asyncio.Event()
        self.happened = False
        for name in NAMES:
            c[name].objects.objects = cast("Objects", Stepped(c[name].objects.objects, self._take))
            c[name].catalogue._catalogue = cast("Catalogue", Stepped(c[name].inner, self._take))

    async def _take(self) -> None:
        if _HAPPENS.get():
            return
        self._left -= 1
        if self._left < 0 and not self.happened:
            self.happened = True
            _HAPPENS.set(True)
            await self._happens()
            _HAPPENS.set(False)
            self._over.set()
        elif self.happened:
            await self._over.wait()


async def store(c: Cluster) -> None:
    await c.grid.store(arrival(1), [FIRST])


async def take_back(c: Cluster) -> None:
    await c.grid.decide(INSTANCE, FactKind.REVIVED, by="ann", reason="by mistake")


async def outcome(asked: Awaitable[object]) -> bool:
    """Return whether it was acknowledged."""
    try:
        await asked
    except (NotEnoughSites, Gone):
        return False
    return True


@asynccontextmanager
async def deleted_long_ago(clock: Clock) -> AsyncGenerator[Cluster]:
    """An instance of two versions, of which the second is current."""
    async with cluster(now=clock) as c:
        for content in (FIRST, SECOND):
            await c.grid.store(arrival(1), [content])
        await c.grid.decide(INSTANCE, FactKind.DELETED, by="ann", reason="wrong patient")
        clock.forward(days=31)
        yield c


async def check(c: Cluster, clock: Clock, collection: Collection, *, acknowledged: bool) -> None:
    """What was acknowledged is in answers, and can be read at each site, now and later."""
    await c.grid.tasks.drain()
    for _ in range(2):
        await Listing(c.grid, UPKEEP).run_once()
        await AntiEntropy(c.grid, UPKEEP).run_once()
        await c.repair()
        clock.forward(days=2)
        await collection.run_once()
    async with aclosing(c.grid.find(by_uids(sop=[INSTANCE.sop_instance_uid]), 10)) as matches:
        shown = [match.version async for match in matches]
    assert shown or not acknowledged
    for version in shown if acknowledged else ():
        for name in NAMES:
            async with aclosing(c.grid.read_at(c.grid.sites[name], version)) as pieces:
                assert b"".join([piece async for piece in pieces]) in (FIRST, SECOND)
        assert (await verify(c.grid, deep=True)).complete


@pytest.mark.parametrize("asked", [store, take_back])
@pytest.mark.parametrize("phase", ["purging", "seen", "removed"])
async def test_at_any_moment_of_a_purge(asked: Asked, phase: str) -> None:
    for step in count():
        clock = Clock()
        outcomes: list[bool] = []
        async with deleted_long_ago(clock) as c:
            collection = Collection(c.grid, UPKEEP)

            async def happens(c: Cluster = c, outcomes: list[bool] = outcomes) -> None:
                outcomes.append(await outcome(asked(c)))

            work = [Purging(c.grid, UPKEEP).run_once, collection.run_once, collection.run_once]
            for number, name in enumerate(("purging", "seen", "removed")):
                steps = Steps(c, step, happens) if name == phase else None
                await work[number]()
                if steps is not None and not steps.happened:
                    assert step >= 9, "there are more steps than that"
                    return
                clock.forward(seconds=FRESH_S)
            await collection.run_once()
            await check(c, clock, collection, acknowledged=outcomes[0])
            assert outcomes[0] or asked is take_back


@pytest.mark.parametrize("asked", [store, take_back])
@pytest.mark.parametrize("pause_s", [FRESH_S - 1, FRESH_S + 1])
async def test_a_purge_at_any_moment_of_what_is_asked(asked: Asked, pause_s: float) -> None:
    acknowledged = []
    for step in count():
        clock = Clock()
        async with deleted_long_ago(clock) as c:
            collection = Collection(c.grid, UPKEEP)

            async def happens(
                c: Cluster = c, clock: Clock = clock, collection: Collection = collection
            ) -> None:
                await Purging(c.grid, UPKEEP).run_once()
                await collection.run_once()
                clock.forward(seconds=pause_s)
                await collection.run_once()

            steps = Steps(c, step, happens)
            done = await outcome(asked(c))
            if not steps.happened:
                assert step >= 9, "there are more steps than that"
                break
            acknowledged.append(done)
            for _ in range(2):
                clock.forward(seconds=FRESH_S)
                await collection.run_once()
            await check(c, clock, collection, acknowledged=done)
    assert any(acknowledged)
