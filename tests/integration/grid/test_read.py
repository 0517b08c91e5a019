"""Reading: from any one site, and never a byte that was not checked."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

from cluster.nouns import Version
from storage_node.catalogue.matching import by_uids
from storage_node.grid.grid import Grid
from storage_node.grid.read import NoCopy
from storage_node.grid.write import NotEnoughSites
from storage_node.site.failing import Fault
from storage_node.upkeep.repair import Repair
from tests.integration.grid.cluster import NAMES, arrival, cluster

CONTENT = b"pixels" * 1000


async def read(grid: Grid, version: Version) -> bytes:
    async with aclosing(grid.read(version)) as pieces:
        return b"".join([piece async for piece in pieces])


@pytest.mark.parametrize("left", NAMES)
async def test_any_one_site_is_enough(tmp_path: Path, left: str) -> None:
    async with cluster(tmp_path) as c:
        stored = await c.grid.store(arrival(), [CONTENT])
        for name in set(NAMES) - {left}:
            (tmp_path / name).rename(tmp_path / f"{name}-away")
        assert await read(c.grid, stored.version) == CONTENT
        rows = await c.grid.rows_of(arrival().instance)
        assert [row.version for row in rows] == [stored.version]
        for name in set(NAMES) - {left}:
            assert not (tmp_path / name).exists()


@pytest.mark.parametrize("rotten", [b"", b"pixels" * 999, b"PIXELS" * 1000, CONTENT + b"x"])
async def test_a_rotten_copy_is_never_served_and_is_repaired(tmp_path: Path, rotten: bytes) -> None:
    async with cluster(tmp_path) as c:
        stored = await c.grid.store(arrival(), [CONTENT])
        digest = stored.version.digest
        file = tmp_path / "a/objects" / stored.version.key
        file.write_bytes(rotten)
        assert await read(c.grid, stored.version) == CONTENT
        await c.grid.tasks.drain()
        for site in c.sites.values():
            assert ("a", digest) in await site.debts()
        await Repair(c.grid).run_once()
        assert file.read_bytes() == CONTENT
        await c.check_everywhere(digest)


async def test_a_missing_object_is_found_elsewhere_and_put_back(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        stored = await c.grid.store(arrival(), [CONTENT])
        (tmp_path / "a/objects" / stored.version.key).unlink()
        assert await read(c.grid, stored.version) == CONTENT
        await c.grid.tasks.drain()
        await Repair(c.grid).run_once()
        await c.check_everywhere(stored.version.digest)


async def test_when_each_copy_is_rotten_nothing_is_served(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        stored = await c.grid.store(arrival(), [CONTENT])
        for name in NAMES:
            (tmp_path / name / "objects" / stored.version.key).write_bytes(b"rot")
        with pytest.raises(NoCopy) as error:
            await read(c.grid, stored.version)
        assert set(error.value.reasons) == set(NAMES)
        await c.grid.tasks.drain()
        report = await Repair(c.grid).run_once()
        assert (report.paid, report.failed) == (0, 3)


async def test_a_slow_site_is_helped_out_by_another() -> None:
    async with cluster(hedge_after_s=0.05, timeout_s=60) as c:
        stored = await c.grid.store(arrival(), [CONTENT])
        c["a"].fail(Fault.HANG, "get")
        assert await asyncio.wait_for(read(c.grid, stored.version), 10) == CONTENT
        assert c.grid.health()["a"].up
        await c.grid.tasks.drain()
        assert not await c["b"].debts()


async def test_a_quick_site_is_the_only_one_asked() -> None:
    async with cluster(hedge_after_s=30) as c:
        stored = await c.grid.store(arrival(), [CONTENT])
        assert await read(c.grid, stored.version) == CONTENT
        asked = [name for name in NAMES if any(call.method == "get" for call in c[name].objects.calls)]
        assert asked == ["a"]


async def test_sites_that_take_no_writes_are_read_from_as_a_last_resort() -> None:
    async with cluster() as c:
        stored = await c.grid.store(arrival(), [CONTENT])
        for site in c.sites.values():
            site.fail(Fault.BEFORE, "put", "identity")
        await c.grid.sites.probe()
        assert not c.grid.sites.up()
        assert await read(c.grid, stored.version) == CONTENT
        assert len(await c.grid.rows_of(arrival().instance)) == 1


async def test_without_any_catalogue_there_is_no_answer() -> None:
    async with cluster() as c:
        await c.grid.store(arrival(), [CONTENT])
        for site in c.sites.values():
            site.fail(Fault.BEFORE)
        with pytest.raises(NotEnoughSites):
            await c.grid.rows_of(arrival().instance)


async def test_a_read_that_is_given_up_leaves_no_task_behind() -> None:
    async with cluster(hedge_after_s=0.01) as c:
        stored = await c.grid.store(arrival(), [CONTENT])
        for site in c.sites.values():
            site.fail(Fault.HANG, "get")
        reading = asyncio.create_task(read(c.grid, stored.version))
        await asyncio.gather(*(site.objects.hanging.wait() for site in c.sites.values()))
        before = asyncio.all_tasks() - {reading}
        reading.cancel()
        await asyncio.wait({reading})
        assert not {task for task in asyncio.all_tasks() & before if "_ask" in repr(task)}


@pytest.mark.parametrize(("away", "complete"), [((), True), (("a",), True), (("a", "b"), False)])
async def test_what_was_stored_is_found_and_it_is_said_whether_more_may_be_missing(
    tmp_path: Path, away: tuple[str, ...], complete: bool
) -> None:
    async with cluster(tmp_path) as c:
        stored = await c.grid.store(arrival(), [CONTENT])
        for name in away:
            (tmp_path / name).rename(tmp_path / f"{name}-away")
        finding = c.grid.find(by_uids(study=("1.2",)), limit=10)
        try:
            found = [match.version async for match in finding]
        finally:
            await finding.aclose()
        assert found == [stored.version]
        assert finding.complete is complete
