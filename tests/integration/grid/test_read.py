"""Reading: from any one site, and never a byte that was not checked."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

from cluster.nouns import Version
from cluster.settings import Upkeep
from storage_node.catalogue.matching import by_uids
from storage_node.grid.grid import Grid
from storage_node.grid.read import BadCopy, NoCopy
from storage_node.grid.sites import SiteFailed, SiteState
from storage_node.grid.write import NotEnoughSites
from storage_node.site.failing import Fault
from storage_node.site.memory import MemoryObjects
from storage_node.site.protocol import ObjectFault
from storage_node.upkeep.repair import Repair
from tests.integration.grid.cluster import NAMES, Cluster, arrival, cluster

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
        await Repair(c.grid, Upkeep()).run_once()
        assert file.read_bytes() == CONTENT
        await c.check_everywhere(digest)


async def test_a_missing_object_is_found_elsewhere_and_put_back(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        stored = await c.grid.store(arrival(), [CONTENT])
        (tmp_path / "a/objects" / stored.version.key).unlink()
        assert await read(c.grid, stored.version) == CONTENT
        await c.grid.tasks.drain()
        await Repair(c.grid, Upkeep()).run_once()
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
        report = await Repair(c.grid, Upkeep()).run_once()
        assert (report.paid, report.failed) == (0, 3)


async def test_a_slow_site_is_helped_out_by_another() -> None:
    async with cluster(hedge_after_s=0.05, timeout_s=60) as c:
        stored = await c.grid.store(arrival(), [CONTENT])
        c["a"].fail(Fault.HANG, "get")
        assert await asyncio.wait_for(read(c.grid, stored.version), 10) == CONTENT
        assert c.grid.health()["a"].up
        await c.grid.tasks.drain()
        assert not await c["b"].debts()


async def test_where_reads_are_quick_a_site_that_hangs_is_found_out_long_before_the_limit() -> None:
    async with cluster(hedge_after_s=60, timeout_s=60) as c:
        stored = await c.grid.store(arrival(), [CONTENT])
        await read(c.grid, stored.version)
        c["a"].fail(Fault.HANG, "get")
        async with asyncio.timeout(10):
            assert await read(c.grid, stored.version) == CONTENT


def gets(c: Cluster) -> dict[str, int]:
    """How often each site was asked for an object."""
    return {name: sum(call.method == "get" for call in c[name].objects.calls) for name in NAMES}


async def test_a_slow_site_costs_one_reader_his_patience_and_not_each() -> None:
    async with cluster(hedge_after_s=0.05, timeout_s=60) as c:
        stored = await c.grid.store(arrival(), [CONTENT])
        c["a"].fail(Fault.HANG, "get", "identity")
        for _ in range(20):
            assert await read(c.grid, stored.version) == CONTENT
        assert gets(c) == {"a": 1, "b": 20, "c": 0}


async def test_a_slow_site_that_probes_find_quick_is_asked_first_again() -> None:
    async with cluster(hedge_after_s=0.05, timeout_s=60) as c:
        stored = await c.grid.store(arrival(), [CONTENT])
        c["a"].fail(Fault.HANG, "get")
        await read(c.grid, stored.version)
        await c.heal()
        await c.grid.sites.probe()
        await read(c.grid, stored.version)
        assert gets(c) == {"a": 2, "b": 1, "c": 0}


async def test_readers_at_a_site_that_hangs_go_on_elsewhere_once_it_is_found_down() -> None:
    async with cluster(hedge_after_s=60, timeout_s=60) as c:
        stored = await c.grid.store(arrival(), [CONTENT])
        c["a"].fail(Fault.HANG)
        async with asyncio.timeout(10):
            found = await asyncio.gather(*(read(c.grid, stored.version) for _ in range(30)))
        assert found == [CONTENT] * 30
        assert not c.grid.health()["a"].up
        await c.grid.tasks.drain()
        assert not await c["b"].debts()


async def test_a_site_whose_catalogue_is_gone_is_read_from_when_the_others_have_no_copy() -> None:
    async with cluster() as c:
        stored = await c.grid.store(arrival(), [CONTENT])
        c["c"].catalogue.script = lambda call: Fault.BEFORE
        await c.grid.sites.probe()
        for name in ("a", "b"):
            memory = c[name].objects.objects
            assert isinstance(memory, MemoryObjects)
            del memory.objects[stored.version.key]
        assert not c.grid.health()["c"].up
        assert await read(c.grid, stored.version) == CONTENT


async def test_a_fault_of_one_object_is_a_debt_and_takes_no_site_down() -> None:
    async with cluster() as c:
        stored = await c.grid.store(arrival(), [CONTENT])
        c["a"].fail(Fault.OBJECT, "get")
        assert await read(c.grid, stored.version) == CONTENT
        assert c.grid.health()["a"].state is SiteState.UP
        assert gets(c) == {"a": 1, "b": 1, "c": 0}
        await c.grid.tasks.drain()
        assert ("a", stored.version.digest) in await c["b"].debts()


async def test_a_site_whose_own_key_cannot_be_looked_up_is_not_said_to_have_a_bad_copy() -> None:
    async with cluster() as c:
        stored = await c.grid.store(arrival(), [CONTENT])
        c["a"].objects.script = lambda call: Fault.OBJECT if call.method == "get" else None
        c["a"].catalogue.script = lambda call: Fault.BEFORE if call.method == "rows_of" else None
        assert await read(c.grid, stored.version) == CONTENT
        await c.grid.tasks.drain()
        assert not await c["b"].debts()


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault.CORRUPT, BadCopy),
        (Fault.OBJECT, ObjectFault),
        (Fault.BEFORE, SiteFailed),
        (None, None),
    ],
)
async def test_one_sites_own_copy_is_read_and_checked_and_nobody_is_told(
    fault: Fault | None, expected: type[Exception] | None
) -> None:
    async with cluster() as c:
        stored = await c.grid.store(arrival(), [CONTENT])
        c["b"].script(lambda call: fault if call.method == "get" else None)
        async with aclosing(c.grid.read_at(c.grid.sites["b"], stored.version)) as pieces:
            if expected is None:
                assert [piece async for piece in pieces] == [CONTENT]
            else:
                with pytest.raises(expected):
                    await anext(pieces)
        assert gets(c)["a"] == gets(c)["c"] == 0
        await c.grid.tasks.drain()
        assert not await c["a"].debts()


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
