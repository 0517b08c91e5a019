"""Collection: garbage goes, and nothing else ever does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from itertools import count
from typing import Any, cast

import pytest

from cluster.nouns import BLOCK_BYTES, Fact, FactKind, Instance
from storage_node.catalogue.protocol import Catalogue, Entry
from storage_node.grid import keys
from storage_node.grid.arrival import Stored
from storage_node.grid.write import NotEnoughSites
from storage_node.site.failing import Fault
from storage_node.site.memory import MemoryObjects
from storage_node.site.protocol import Objects, StoredObject
from storage_node.upkeep.collection import Collection, Report
from tests.integration.grid.cluster import NAMES, PROVENANCE, Cluster, arrival, cluster
from tests.integration.grid.upkeep import UPKEEP, Clock, lose, memory, store

ORPHAN = b"never acknowledged"


async def collect(c: Cluster) -> Report:
    return await Collection(c.grid, UPKEEP).run_once()


async def move(catalogue: Catalogue, instance: Instance, key: str, at: datetime) -> None:
    """Have a row name another key, as one does whose copy was put there."""
    (row,) = await catalogue.rows_of(instance)
    await catalogue.add(replace(row, version=replace(row.version, key=key)), verified_at=at)


def leave_orphan(c: Cluster, name: str, number: int = 1) -> str:
    """Put an object that has no row at a site: what a worker leaves that dies after its put."""
    key = keys.object_key(arrival(number).instance, sha256(ORPHAN).hexdigest())
    memory(c, name).keep(key, ORPHAN, PROVENANCE.to_metadata())
    return key


async def test_an_object_without_a_row_is_removed_once_it_is_old_and_not_before() -> None:
    clock = Clock()
    async with cluster(now=clock) as c:
        await store(c, 1, 2)
        known = leave_orphan(c, "b")
        unknown = leave_orphan(c, "b", number=77).replace("1.2/", "1.9/", 1)
        memory(c, "b").keep(unknown, ORPHAN, {})
        clock.forward(hours=23)
        assert (await collect(c)).removed == 0
        clock.forward(hours=2)
        assert (await collect(c)).removed == 3
        assert not {known, unknown} & memory(c, "b").objects.keys()
        assert [len(memory(c, name).objects) for name in NAMES] == [2, 2, 2]


async def test_what_was_stored_is_never_removed_however_it_was_stored() -> None:
    clock = Clock()
    async with cluster(now=clock) as c:
        (digest,) = await store(c, 1)
        await c.grid.decide(arrival(1).instance, FactKind.DELETED, by="somebody", reason="test")
        for number, instance in ((2, arrival(2).instance), (3, None)):
            async with await c.grid.stream(instance) as stream:
                await stream.write([bytes(BLOCK_BYTES), b"end"])
                await stream.complete(arrival(number))
        await c.grid.store(arrival(4, sop="x" * 300), [b"4"])
        await c.grid.store(replace(arrival(5), instance=Instance("9" * 200, "s", "i")), [b"5"])
        another = keys.another_key(arrival(1).instance, digest, "ab" * 16)
        memory(c, "b").keep(another, b"1", {})
        await move(c["b"].inner, arrival(1).instance, another, clock())
        before = {name: dict(memory(c, name).objects) for name in NAMES}
        clock.forward(days=400)
        assert (await collect(c)).removed == 0
        assert before == {name: dict(memory(c, name).objects) for name in NAMES}


class Meanwhile:
    """A site's objects; before they are looked at and removed, something else happens."""

    def __init__(self, objects: MemoryObjects, happens: Callable[[], Awaitable[None]]) -> None:
        self._objects = objects
        self._happens = happens

    def __getattr__(self, name: str) -> Any:
        return getattr(self._objects, name)

    async def head(self, key: str) -> StoredObject:
        await self._happens()
        return await self._objects.head(key)

    async def delete(self, key: str, version_id: str) -> None:
        await self._happens()
        await self._objects.delete(key, version_id)


@pytest.mark.parametrize("step", range(8))
async def test_a_resend_of_an_old_orphan_at_any_step_of_the_collector_is_not_lost(step: int) -> None:
    """Before one of the calls of the collector a sender stores it again, and is told of success."""
    clock = Clock()
    async with cluster(now=clock) as c:
        key = leave_orphan(c, "b")
        clock.forward(days=2)
        steps = count()

        async def resend() -> None:
            if next(steps) == step:
                await c.grid.store(arrival(1), [ORPHAN])

        objects = memory(c, "b")
        c["b"].objects.objects = cast("Objects", Meanwhile(objects, resend))
        for name in NAMES:
            waiting(c, name, resend)
        await collect(c)
        assert next(steps) > step, "there are fewer steps than that"
        assert objects.objects[key].content == ORPHAN
        assert (await collect(c)).removed == 0


async def test_what_is_put_again_between_the_listing_and_the_look_is_young_and_stays() -> None:
    clock = Clock()
    async with cluster(now=clock) as c:
        key = leave_orphan(c, "b")
        clock.forward(days=2)
        for name in NAMES:
            c[name].fail(Fault.HANG, "add")
        objects = memory(c, "b")
        storing: list[asyncio.Task[Stored]] = []

        async def resend() -> None:
            if not storing:
                storing.append(asyncio.create_task(c.grid.store(arrival(1), [ORPHAN])))
                await c["b"].catalogue.hanging.wait()

        c["b"].objects.objects = cast("Objects", Meanwhile(objects, resend))
        assert (await collect(c)).removed == 0
        for name in NAMES:
            c[name].heal()
        await storing[0]
        assert objects.objects[key].content == ORPHAN


def waiting(c: Cluster, name: str, happens: Callable[[], Awaitable[None]]) -> None:
    """Have something else happen before a catalogue is walked."""
    inner = c[name].inner
    walk = inner.walk

    async def late(study: str | None = None) -> AsyncGenerator[Entry]:
        await happens()
        async for entry in walk(study):
            yield entry

    inner.walk = late  # type: ignore[method-assign,assignment]


@pytest.mark.parametrize("state", ["down", "filling"])
async def test_nothing_is_removed_unless_all_sites_are_there_and_have_their_state(state: str) -> None:
    clock = Clock()
    async with cluster(now=clock) as c:
        key = leave_orphan(c, "b")
        clock.forward(days=2)
        await (lose(c, "c") if state == "down" else c.replace("c"))
        report = await collect(c)
        assert report.removed == 0
        assert "site c" in report.why_not
        assert key in memory(c, "b").objects


@pytest.mark.parametrize("method", ["walk", "folders", "list", "head", "delete"])
async def test_a_site_that_goes_away_in_the_middle_ends_it(method: str) -> None:
    clock = Clock()
    async with cluster(now=clock) as c:
        await store(c, 1)
        for name in NAMES:
            leave_orphan(c, name)
        clock.forward(days=2)
        c["a"].fail(Fault.BEFORE, method)
        report = await collect(c)
        assert report.removed == 0
        assert "site a" in report.why_not


async def test_an_object_whose_row_another_site_has_is_no_garbage() -> None:
    clock = Clock()
    async with cluster(now=clock) as c:
        c["b"].fail(Fault.BEFORE, "add")
        (digest,) = await store(c, 1)
        await c.heal()
        clock.forward(days=2)
        assert (await collect(c)).removed == 0
        assert digest in c["b"].object_digests()


async def test_a_fact_is_never_removed() -> None:
    clock = Clock()
    async with cluster(now=clock) as c:
        fact = Fact(arrival(1).instance, 1, FactKind.DELETED, clock(), "somebody", "test")
        memory(c, "b").keep(keys.fact_key(fact), fact.to_json(), {})
        clock.forward(days=400)
        assert (await collect(c)).removed == 0


async def test_what_atria_did_not_put_there_is_left_alone() -> None:
    clock = Clock()
    async with cluster(now=clock) as c:
        for key in ("backup/of/something.dcm", "1.2/1.2.3/1.2.3.4/notes.txt", "lonely.dcm", "a/b/c/d/e.dcm"):
            memory(c, "b").keep(key, b"somebody else's", {})
        clock.forward(days=400)
        assert (await collect(c)).removed == 0
        assert len(memory(c, "b").objects) == 4


async def test_a_stream_that_nobody_acknowledged_goes_with_its_manifest() -> None:
    clock = Clock()
    async with cluster(now=clock) as c:
        for name in ("b", "c"):
            c[name].fail(Fault.BEFORE, "add")
        c["a"].fail(Fault.BEFORE, "add")
        for number, instance in ((1, arrival(1).instance), (2, None)):
            async with await c.grid.stream(instance) as stream:
                await stream.write([bytes(BLOCK_BYTES), b"end"])
                with pytest.raises(NotEnoughSites):
                    await stream.complete(arrival(number))
            await c.heal()
            for name in NAMES:
                c[name].fail(Fault.BEFORE, "add")
        await c.heal()
        assert [len(memory(c, name).objects) for name in NAMES] == [4, 4, 4]
        clock.forward(days=2)
        assert (await collect(c)).removed == 12


async def test_an_object_that_was_replaced_by_streaming_again_goes_unless_a_row_or_a_manifest_names_it() -> (
    None
):
    clock = Clock()
    async with cluster(now=clock) as c:
        streamed: list[str] = []
        for _ in range(2):
            async with await c.grid.stream(arrival(1).instance) as stream:
                await stream.write([bytes(BLOCK_BYTES), b"end"])
                version = (await stream.complete(arrival(1))).version
                streamed.append(version.key)
        manifest = keys.manifest_key(version.instance, version.digest)
        for key, left in ((streamed[0], {*streamed, manifest}), (streamed[1], {streamed[1], manifest})):
            for site in c.sites.values():
                await move(site.inner, version.instance, key, clock())
            clock.forward(days=2)
            await collect(c)
            assert [set(memory(c, name).objects) for name in NAMES] == [left, left, left]


async def test_uploads_that_were_never_finished_are_removed_even_with_a_site_away() -> None:
    clock = Clock()
    async with cluster(now=clock) as c:
        await memory(c, "b").upload("1/2/3/4.dcm", metadata={})
        await lose(c, "c")
        assert (await collect(c)).uploads == 0
        clock.forward(hours=25)
        assert (await collect(c)).uploads == 1
        assert memory(c, "b").uploads == {}


async def test_an_object_that_cannot_be_removed_keeps_no_other_from_being_removed() -> None:
    clock = Clock()
    async with cluster(now=clock) as c:
        wedged, _ = leave_orphan(c, "b", 1), leave_orphan(c, "b", 2)
        clock.forward(days=2)
        c["b"].objects.script = lambda call: (
            Fault.OBJECT if (call.method, call.key) == ("delete", wedged) else None
        )
        report = await collect(c)
        assert (report.removed, report.kept) == (1, 1)
