"""Verify: one can ask whether everything is everywhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cluster.nouns import Debt, FactKind
from storage_node.grid import keys
from storage_node.site.failing import Fault
from storage_node.upkeep.repair import Repair
from storage_node.upkeep.verify import SiteCheck, verify
from tests.integration.grid.cluster import NAMES, arrival, cluster
from tests.integration.grid.upkeep import UPKEEP, damage, lose, memory, store


async def test_verify_says_yes_when_every_instance_is_everywhere(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        await store(c, *range(5))
        told: list[tuple[int, int]] = []
        found = await verify(c.grid, lambda done, of: told.append((done, of)))
        assert found.complete
        assert found.versions == 5
        assert found.sites == tuple(SiteCheck(name, True, "", 5, 5, 0, 0, 0) for name in NAMES)
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


async def test_verify_is_not_complete_when_no_catalogue_can_be_walked() -> None:
    async with cluster() as c:
        await store(c, 1)
        for site in c.sites.values():
            site.fail(Fault.BEFORE, "walk")
        found = await verify(c.grid)
        assert not found.complete
        assert not any(site.up for site in found.sites)


async def test_a_catalogue_that_hangs_does_not_hold_verify_up_for_ever() -> None:
    async with cluster(timeout_s=0.1) as c:
        await store(c, 1)
        c["b"].fail(Fault.HANG, "walk")
        found = await verify(c.grid)
        assert [site.up for site in found.sites] == [True, False, True]
        assert found.versions == 1


async def test_verify_is_not_complete_while_a_copy_is_known_to_be_bad(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        (digest,) = await store(c, 1)
        await c["a"].inner.owe([Debt("b", arrival(1).instance, digest)])
        assert not (await verify(c.grid)).complete
        await Repair(c.grid, UPKEEP).run_once()
        assert (await verify(c.grid)).complete


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


async def test_only_a_deep_verify_reads_what_the_copies_hold() -> None:
    async with cluster() as c:
        (digest,) = await store(c, 1)
        damage(c, "b", keys.object_key(arrival(1).instance, digest))
        assert (await verify(c.grid)).complete
        found = await verify(c.grid, deep=True)
        assert [site.missing for site in found.sites] == [0, 1, 0]
        assert await c.debts() == set(), "it notes nothing"


async def test_a_fact_that_lacks_its_row_or_its_object_is_counted() -> None:
    async with cluster() as c:
        await store(c, 1)
        fact = await c.grid.decide(arrival(1).instance, FactKind.DELETED, by="somebody", reason="test")
        found = await verify(c.grid)
        assert (found.facts, found.complete) == (1, True)
        del memory(c, "b").objects[keys.fact_key(fact)]
        only_at_c = replace(fact, epoch=2)
        await c["c"].inner.decide(only_at_c)
        memory(c, "c").keep(keys.fact_key(only_at_c), only_at_c.to_json(), {})
        found = await verify(c.grid)
        assert not found.complete
        assert [site.facts_missing for site in found.sites] == [1, 2, 0]


async def test_a_site_that_is_being_filled_is_not_complete() -> None:
    async with cluster() as c:
        await c.replace("b")
        found = await verify(c.grid)
        assert not found.complete
        assert [site.up for site in found.sites] == [True, False, True]
