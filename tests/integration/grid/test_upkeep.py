"""Repair and verify: what was lost at a site comes back to it, and one can ask whether it is so."""

from __future__ import annotations

import asyncio
from pathlib import Path

from cluster.nouns import Debt
from storage_node.site.failing import Fault
from storage_node.upkeep.repair import Repair
from storage_node.upkeep.verify import SiteCheck, verify
from tests.integration.grid.cluster import NAMES, Cluster, arrival, cluster


async def store(c: Cluster, *numbers: int) -> list[str]:
    return [(await c.grid.store(arrival(n), [b"%d" % n])).version.digest for n in numbers]


async def lose(c: Cluster, name: str) -> None:
    c[name].fail(Fault.BEFORE)
    await c.grid.sites.probe()


async def test_debts_of_a_site_that_is_away_stay_and_hide_no_others(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        await lose(c, "c")
        owed_to_c = await store(c, *range(3))
        await c["a"].inner.owe([Debt("b", arrival(0).instance, owed_to_c[0])])
        report = await Repair(c.grid).run_once()
        assert (report.paid, report.failed, report.open) == (1, 0, 3)
        await c.heal()
        report = await Repair(c.grid).run_once()
        assert (report.paid, report.failed, report.open) == (3, 0, 0)
        for digest in owed_to_c:
            await c.check_everywhere(digest)


async def test_debts_are_paid_the_oldest_first() -> None:
    async with cluster() as c:
        await lose(c, "c")
        await store(c, *range(12))
        c["c"].objects.calls.clear()
        await c.heal()
        await Repair(c.grid).run_once()
        keys = [call.key.split("/")[2] for call in c["c"].objects.calls if call.method == "put"]
        batches = [sorted(keys[at : at + 4]) for at in (0, 4, 8)]
        assert batches == [sorted(f"1.2.3.{n}" for n in range(at, at + 4)) for at in (0, 4, 8)]


async def test_any_number_of_repairers_may_run_at_once(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        await lose(c, "b")
        digests = await store(c, *range(10))
        await c.heal()
        await asyncio.gather(*(Repair(c.grid).run_once() for _ in range(3)))
        for digest in digests:
            await c.check_everywhere(digest)


async def test_a_debt_that_cannot_be_paid_keeps_none_from_being_paid() -> None:
    async with cluster() as c:
        await c["a"].inner.owe([Debt("b", arrival(99).instance, "ab" * 32)])
        await lose(c, "b")
        digests = await store(c, 1, 2)
        await c.heal()
        report = await Repair(c.grid).run_once()
        assert (report.paid, report.failed, report.open) == (2, 1, 1)
        for digest in digests:
            await c.check_everywhere(digest)


async def test_a_site_that_goes_away_in_the_middle_ends_its_run() -> None:
    async with cluster() as c:
        await lose(c, "b")
        await store(c, *range(20))
        await c.heal()
        c["b"].script(lambda call: Fault.BEFORE if call.method == "put" and call.number >= 6 else None)
        report = await Repair(c.grid).run_once()
        assert report.paid + report.open == 20
        assert report.failed <= 4


async def test_an_old_version_that_is_repaired_does_not_become_current(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        await lose(c, "c")
        for content in (b"first", b"second"):
            await c.grid.store(arrival(), [content])
        await c.heal()
        last = await c.grid.store(arrival(), [b"third"])
        before = await c["a"].rows()
        await Repair(c.grid).run_once()
        assert await c["a"].rows() == await c["b"].rows() == await c["c"].rows() == before
        current, *_ = await c.grid.rows_of(arrival().instance)
        assert current.version == last.version


async def test_progress_is_told(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        await lose(c, "b")
        await store(c, *range(6))
        await c.heal()
        told: list[tuple[int, int]] = []
        await Repair(c.grid).run_once(lambda done, of: told.append((done, of)))
        assert told == [(4, 6), (6, 6)]


async def test_running_for_ever_pays_what_comes_up_and_ends_when_cancelled() -> None:
    async with cluster() as c:
        repairing = asyncio.create_task(Repair(c.grid).run_forever(interval_s=0.01))
        c["a"].fail(Fault.BEFORE, "counts")
        await lose(c, "c")
        (digest,) = await store(c, 1)
        settled = asyncio.Event()
        real = c["b"].inner.settle

        async def settle(debts: object) -> None:
            await real(debts)  # type: ignore[arg-type]  # as it came
            settled.set()

        c["b"].inner.settle = settle  # type: ignore[method-assign]  # to be told of it
        await c.heal()
        await asyncio.wait_for(settled.wait(), 10)
        repairing.cancel()
        await asyncio.wait({repairing})
        assert digest in c["c"].object_digests()


async def test_verify_says_yes_when_every_instance_is_everywhere(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        await store(c, *range(5))
        told: list[tuple[int, int]] = []
        found = await verify(c.grid, lambda done, of: told.append((done, of)))
        assert found.complete
        assert found.versions == 5
        assert found.sites == tuple(SiteCheck(name, True, "", 5, 5, 0, 0) for name in NAMES)
        assert told[-1] == (5, 5)


async def test_verify_of_nothing_is_complete() -> None:
    async with cluster() as c:
        found = await verify(c.grid)
        assert (found.versions, found.complete) == (0, True)


async def test_verify_counts_what_each_site_lacks(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        await store(c, *range(70))
        await lose(c, "c")
        await store(c, 100, 101)
        await c.heal()
        some = sorted((tmp_path / "a/objects/1.2").rglob("*.dcm"))
        some[0].unlink()
        some[1].write_bytes(b"longer than it was")
        found = await verify(c.grid)
        assert not found.complete
        assert found.versions == 72
        assert [(site.rows, site.objects, site.missing) for site in found.sites] == [
            (72, 70, 2),
            (72, 72, 0),
            (70, 70, 2),
        ]
        assert [site.debts for site in found.sites] == [2, 2, 0]


async def test_verify_is_not_complete_while_a_site_is_down(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        await store(c, 1)
        (tmp_path / "b").rename(tmp_path / "b-away")
        await c.grid.sites.probe()
        found = await verify(c.grid)
        assert not found.complete
        (down,) = [site for site in found.sites if not site.up]
        assert (down.site, down.missing) == ("b", 1)
        assert "No such file" in down.why
