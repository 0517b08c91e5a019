"""Repair: what was lost at a site comes back to it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from prometheus_client import REGISTRY

from cluster.nouns import Debt, SiteIdentity
from storage_node.catalogue.memory import MemoryCatalogue
from storage_node.catalogue.protocol import Row
from storage_node.grid.sites import GridSite, Sites
from storage_node.site.failing import Call, Fault
from storage_node.site.memory import MemoryObjects
from storage_node.upkeep.repair import Repair
from tests.integration.grid.cluster import NAMES, arrival, cluster, utc_now, writing
from tests.integration.grid.upkeep import UPKEEP, lose, store


async def test_debts_of_a_site_that_is_away_stay_and_hide_no_others(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        await lose(c, "c")
        owed_to_c = await store(c, *range(3))
        await c["a"].inner.owe([Debt("b", arrival(0).instance, owed_to_c[0])])
        report = await Repair(c.grid, UPKEEP).run_once()
        assert (report.paid, report.failed, report.open) == (1, 0, 3)
        await c.heal()
        report = await Repair(c.grid, UPKEEP).run_once()
        assert (report.paid, report.failed, report.open) == (3, 0, 0)
        for digest in owed_to_c:
            await c.check_everywhere(digest)


async def test_the_metrics_say_what_is_owed_and_not_nothing_where_nobody_can_tell(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        await lose(c, "c")
        await store(c, 1, 2)
        await Repair(c.grid, UPKEEP).run_once()
        assert REGISTRY.get_sample_value("atria_instances_at_risk") == 2
        for name in NAMES:
            await lose(c, name)
        await Repair(c.grid, UPKEEP).run_once()
        assert REGISTRY.get_sample_value("atria_instances_at_risk") == 2
        assert [REGISTRY.get_sample_value("atria_site_up", {"site": name}) for name in NAMES] == [0, 0, 0]


async def test_a_site_that_was_never_up_is_in_the_metrics() -> None:
    identity = SiteIdentity("never", "id", 1)
    never = GridSite("never", MemoryObjects("never", identity), MemoryCatalogue("never", identity))
    Sites([never], writing())
    assert REGISTRY.get_sample_value("atria_site_up", {"site": "never"}) == 0


async def test_debts_are_paid_the_oldest_first() -> None:
    async with cluster() as c:
        await lose(c, "c")
        await store(c, *range(12))
        c["c"].objects.calls.clear()
        await c.heal()
        await Repair(c.grid, UPKEEP).run_once()
        puts = [call.key.split("/")[2] for call in c["c"].objects.calls if call.method == "put"]
        assert puts == [f"1.2.3.{n}" for n in range(12)]


async def test_any_number_of_repairers_may_run_at_once(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        await lose(c, "b")
        digests = await store(c, *range(10))
        await c.heal()
        await asyncio.gather(*(Repair(c.grid, UPKEEP).run_once() for _ in range(3)))
        for digest in digests:
            await c.check_everywhere(digest)


async def test_a_debt_that_cannot_be_paid_keeps_none_from_being_paid() -> None:
    async with cluster() as c:
        await lose(c, "b")
        await store(c, 99)
        digests = await store(c, 1, 2)
        await c.heal()
        c["b"].script(lambda call: Fault.OBJECT if call.method == "put" and ".99/" in call.key else None)
        report = await Repair(c.grid, UPKEEP).run_once()
        assert (report.paid, report.failed, report.open) == (2, 1, 1)
        for digest in digests:
            await c.check_everywhere(digest)


async def test_a_site_that_goes_away_in_the_middle_ends_its_run() -> None:
    async with cluster() as c:
        await lose(c, "b")
        await store(c, *range(20))
        await c.heal()
        c["b"].script(lambda call: Fault.BEFORE if call.method == "put" and call.number >= 6 else None)
        report = await Repair(c.grid, UPKEEP).run_once()
        assert report.paid + report.open == 20
        assert report.failed <= 3 * UPKEEP.repair_at_once  # no more than were under way


async def test_an_old_version_that_is_repaired_does_not_become_current(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        await lose(c, "c")
        for content in (b"first", b"second"):
            await c.grid.store(arrival(), [content])
        await c.heal()
        last = await c.grid.store(arrival(), [b"third"])
        before = await c["a"].rows()
        await Repair(c.grid, UPKEEP).run_once()
        assert await c["a"].rows() == await c["b"].rows() == await c["c"].rows() == before
        current, *_ = await c.grid.rows_of(arrival().instance)
        assert current.version == last.version


async def test_progress_is_told(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        await lose(c, "b")
        await store(c, *range(6))
        await c.heal()
        told: list[tuple[int, int]] = []
        await Repair(c.grid, UPKEEP).run_once(lambda done, of: told.append((done, of)))
        assert told == [(n, 6) for n in range(1, 7)]


async def test_running_for_ever_pays_what_comes_up_and_ends_when_cancelled() -> None:
    async with cluster() as c:
        repairing = asyncio.create_task(Repair(c.grid, UPKEEP).run_forever())
        c["a"].fail(Fault.BEFORE, "counts")
        await lose(c, "c")
        (digest,) = await store(c, 1)
        settled = asyncio.Event()
        real = c["b"].inner.settle

        async def settle(site: str, held: Row) -> None:
            await real(site, held)
            settled.set()

        c["b"].inner.settle = settle  # type: ignore[method-assign]  # to be told of it
        await c.heal()
        await settled.wait()
        repairing.cancel()
        await asyncio.wait({repairing})
        assert digest in c["c"].object_digests()


async def test_a_fault_of_our_own_keeps_no_other_debt_from_being_paid() -> None:
    def script(call: Call) -> Fault | None:
        if call.method == "put" and "/1.2.3.0/" in call.key:
            raise ZeroDivisionError
        return None

    async with cluster() as c:
        await lose(c, "b")
        _, *digests = await store(c, *range(6))
        await c.heal()
        c["b"].objects.script = script
        report = await Repair(c.grid, UPKEEP).run_once()
        assert (report.paid, report.failed, report.open) == (5, 1, 1)
        for digest in digests:
            await c.check_everywhere(digest)


async def test_what_is_raised_while_it_is_repaired_is_raised_at_the_repaired_site_too(tmp_path: Path) -> None:
    """The debt was noted before, and again with the higher order: who paid the first must not settle both."""
    async with cluster(tmp_path) as c:
        await lose(c, "c")
        (digest,) = await store(c, 1)
        (row,) = await c["a"].inner.rows_of(arrival(1).instance)
        await c.heal()
        c["a"].fail(Fault.HANG, "settle")
        repairing = asyncio.create_task(Repair(c.grid, UPKEEP).run_once())
        while digest not in await c["c"].rows():  # noqa: ASYNC110  # it is added, and tells nobody
            await asyncio.sleep(0.01)
        for name in ("a", "b"):
            await c[name].inner.add(
                replace(row, order=7), [Debt("c", row.version.instance, digest)], verified_at=utc_now()
            )
        c["a"].heal()
        await repairing
        await Repair(c.grid, UPKEEP).run_once()
        assert [await site.rows() for site in c.sites.values()] == [{digest: 7}] * 3
        await c.check_everywhere(digest)


async def test_an_order_that_is_raised_while_a_site_is_away_reaches_it_when_it_is_back(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path) as c:
        (digest,) = await store(c, 1)
        (row,) = await c["a"].inner.rows_of(arrival(1).instance)
        await c["c"].inner.add(replace(row, order=7), verified_at=utc_now())
        await c["a"].inner.owe([Debt("c", row.version.instance, digest)])
        await lose(c, "b")
        await Repair(c.grid, UPKEEP).run_once()
        await c.heal()
        await Repair(c.grid, UPKEEP).run_once()
        assert [await site.rows() for site in c.sites.values()] == [{digest: 7}] * 3
        await c.check_everywhere(digest)


async def test_the_earlier_provenance_reaches_each_site_that_has_the_row(tmp_path: Path) -> None:
    """A row may have been added though its writer was told that it was not: it was owed, and is merged."""
    async with cluster(tmp_path) as c:
        (digest,) = await store(c, 1)
        (row,) = await c["a"].inner.rows_of(arrival(1).instance)
        earlier = replace(row, provenance=replace(row.provenance, calling_ae="AAA"))
        await c["c"].inner.add(earlier, verified_at=utc_now())
        await c["a"].inner.owe([Debt("c", row.version.instance, digest)])
        await Repair(c.grid, UPKEEP).run_once()
        for site in c.sites.values():
            assert list(await site.inner.rows_of(arrival(1).instance)) == [earlier]
        await c.check_everywhere(digest)
