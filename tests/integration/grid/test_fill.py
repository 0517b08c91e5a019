"""Fill: a site that lost its state has its vote again when it has everything, and not a moment before."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from cluster.nouns import BLOCK_BYTES, FactKind, Membership
from storage_node.catalogue.views import is_hidden
from storage_node.grid import health
from storage_node.site.failing import Call, Fault
from storage_node.upkeep import fill as filling
from storage_node.upkeep.fill import Fill, Report
from storage_node.upkeep.repair import Repair
from storage_node.upkeep.verify import verify
from tests.integration.grid.cluster import Cluster, arrival, cluster
from tests.integration.grid.upkeep import UPKEEP, lose, store


async def fill(c: Cluster) -> Report:
    return await Fill(c.grid, UPKEEP, c.roster).run_once()


async def test_a_site_that_came_back_empty_gets_everything_and_then_its_vote() -> None:
    async with cluster() as c:
        await store(c, *range(20))
        async with await c.grid.stream(arrival(50).instance) as stream:
            await stream.write([bytes(BLOCK_BYTES), b"the end"])
            await stream.complete(arrival(50))
        await c.grid.decide(arrival(1).instance, FactKind.DELETED, by="somebody", reason="test")
        await c.replace("b")
        assert not (await verify(c.grid)).complete
        report = await fill(c)
        assert report == Report(filled=("b",), given=22)
        await c.voting("b")
        assert (await verify(c.grid, deep=True)).complete
        assert is_hidden(await c["b"].inner.facts_of(arrival(1).instance))


async def test_a_fill_that_was_stopped_goes_on_where_it_was() -> None:
    async with cluster() as c:
        await store(c, *range(10))
        await c.replace("b")
        c["b"].objects.script = lambda call: Fault.HANG if call.method == "put" and call.number == 5 else None
        filling = asyncio.create_task(fill(c))
        await c["b"].objects.hanging.wait()
        filling.cancel()
        await asyncio.wait({filling})
        had = len(await c["b"].rows())
        assert not c.grid.sites.health()["b"].votes
        c["b"].heal()
        report = await fill(c)
        assert report.filled == ("b",)
        assert report.given == 10 - had
        await c.voting("b")
        assert (await verify(c.grid)).complete


async def test_a_site_is_not_filled_while_another_cannot_be_walked_to_its_end() -> None:
    async with cluster() as c:
        await store(c, *range(3))
        await c.replace("b")
        await lose(c, "c")
        report = await fill(c)
        assert (report.filled, report.left, report.not_read) == ((), ("b",), ("c",))
        await c.heal()
        c["c"].fail(Fault.BEFORE, "studies")
        assert (await fill(c)).not_read == ("c",)
        await c.heal()
        assert (await fill(c)).filled == ("b",)


async def test_a_site_is_not_filled_while_something_cannot_be_copied_to_it() -> None:
    async with cluster() as c:
        await store(c, *range(3))
        await c.replace("b")
        c["b"].objects.script = lambda call: (
            Fault.OBJECT if call.method == "put" and "/1.2.3.1/" in call.key else None
        )
        report = await fill(c)
        assert (report.filled, report.given, report.failed) == ((), 2, 1)
        await c.heal()
        report = await fill(c)
        assert (report.filled, report.given) == (("b",), 1)


async def test_what_only_another_site_has_that_is_being_filled_is_copied_too() -> None:
    """It was acknowledged with copies at one that is lost since, and at one that is not full yet."""
    async with cluster() as c:
        await c.replace("a")
        c["c"].fail(Fault.BEFORE, "put")
        (digest,) = await store(c, 1)
        await c.heal()
        await c.replace("b")
        assert not await c["c"].rows()
        report = await fill(c)
        assert set(report.filled) == {"a", "b"}
        assert digest in await c["b"].rows()


async def test_what_is_stored_while_it_is_filled_is_there_when_it_votes() -> None:
    async with cluster() as c:
        await store(c, *range(10))
        await c.replace("b")
        stored: list[asyncio.Task[list[str]]] = []

        def script(call: Call) -> Fault | None:
            if call.method == "put" and call.number == 3:
                stored.append(asyncio.create_task(store(c, 100, 101)))
            return None

        c["b"].objects.script = script
        await fill(c)
        await stored[0]
        await c.voting("b")
        assert (await verify(c.grid)).complete


async def test_what_the_site_was_owed_is_paid_by_filling_it() -> None:
    async with cluster() as c:
        await lose(c, "b")
        await store(c, *range(3))
        assert len(await c.debts()) == 3
        await c.replace("b")
        await fill(c)
        assert await c.debts() == set()


async def test_a_site_that_was_replaced_again_meanwhile_is_not_called_filled() -> None:
    async with cluster() as c:
        await store(c, *range(3))
        await c.replace("b")
        c["b"].objects.script = lambda call: Fault.HANG if call.method == "put" else None
        filling = asyncio.create_task(fill(c))
        old = c["b"]
        await old.objects.hanging.wait()
        await c.replace("b")
        old.heal()
        await filling
        assert c.roster.places["b"].filling


async def test_it_runs_by_itself_as_soon_as_a_site_needs_it_and_tells_how_far_it_is() -> None:
    async with cluster() as c:
        await store(c, *range(3))
        filling = asyncio.create_task(Fill(c.grid, UPKEEP, c.roster).run_forever())
        await c.replace("b")
        await c.voting("b")
        filling.cancel()
        await asyncio.wait({filling})
        assert (await verify(c.grid)).complete
        await c.replace("b")
        told: list[tuple[int, int]] = []
        await Fill(c.grid, UPKEEP, c.roster).run_once(lambda done, of: told.append((done, of)))
        assert told[-1] == (3, 3)


async def test_what_the_site_has_already_is_not_looked_into() -> None:
    async with cluster() as c:
        await store(c, *range(3))
        c.roster.places["b"] = replace(c.roster.places["b"], filling=True)
        async with asyncio.timeout(10):
            await c.grid.sites.wait_until(lambda health: health["b"].filling)
        assert await fill(c) == Report(filled=("b",))
        assert not any(call.method == "walk" for call in c["b"].catalogue.calls)


async def test_where_no_site_is_filling_nothing_is_done() -> None:
    async with cluster() as c:
        await store(c, 1)
        assert await fill(c) == Report()
        assert all(not place.filling for place in c.roster.places.values())
        assert c.roster.places["b"] == Membership(c.roster.places["b"].identity)


@pytest.mark.parametrize("fault", [Fault.FULL, Fault.OBJECT])
async def test_a_fill_goes_on_when_the_site_can_be_written_to_again(
    fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else writes to the site, and it is owed nothing: filling itself has to try."""
    monkeypatch.setattr(health, "WRITE_TRIAL_INTERVAL_S", 0.02)
    monkeypatch.setattr(filling, "RETRY_INTERVAL_S", 0.02)
    async with cluster() as c:
        await store(c, *range(10))
        await c.replace("b")
        c["b"].fail(fault, "put")
        assert (await fill(c)).filled == ()
        assert not c.grid.health()["b"].takes_writes
        await c.heal()
        daemons = [
            asyncio.create_task(daemon.run_forever())
            for daemon in (Repair(c.grid, UPKEEP), Fill(c.grid, UPKEEP, c.roster))
        ]
        await c.voting("b")
        for task in daemons:
            task.cancel()
        await asyncio.wait(daemons)
        assert (await verify(c.grid)).complete


async def test_a_site_that_cannot_be_written_to_is_tried_with_one_thing_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with cluster() as c:
        await store(c, *range(20))
        await c.replace("b")
        c["b"].fail(Fault.FULL, "put")
        await fill(c)
        before = sum(call.method == "put" for call in c["b"].objects.calls)
        with monkeypatch.context() as patched:
            patched.setattr(health, "WRITE_TRIAL_INTERVAL_S", 0.0)
            c.grid.sites.will_write([c.grid.sites["b"]])
        report = await fill(c)
        assert (report.failed, report.left) == (1, ("b",))
        assert sum(call.method == "put" for call in c["b"].objects.calls) == before + 1


async def test_two_that_fill_the_same_site_copy_little_twice() -> None:
    async with cluster() as c:
        await store(c, *range(60))
        await c.replace("b")
        reports = await asyncio.gather(fill(c), fill(c))
        assert sum(report.given for report in reports) < 60 + 30
        assert (await verify(c.grid)).complete
