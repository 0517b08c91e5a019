"""Anti-entropy: what a site lacks without anybody having noted it is noted, and then repaired."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from cluster.nouns import Fact, FactKind
from storage_node.catalogue.protocol import Entry, Row
from storage_node.grid import keys
from storage_node.grid.write import NotEnoughSites
from storage_node.site.failing import Fault
from storage_node.upkeep.anti_entropy import AntiEntropy
from storage_node.upkeep.repair import Repair
from storage_node.upkeep.verify import verify
from tests.integration.grid.cluster import PROVENANCE, Cluster, arrival, cluster, utc_now
from tests.integration.grid.upkeep import UPKEEP, store


async def test_what_a_refused_write_left_at_one_site_comes_to_all(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        for name in ("b", "c"):
            c[name].fail(Fault.BEFORE, "add")
        with pytest.raises(NotEnoughSites):
            await c.grid.store(arrival(), [b"left"])
        await c.heal()
        ((digest, _),) = (await c["a"].rows()).items()
        assert not (await verify(c.grid)).complete
        assert (await AntiEntropy(c.grid, UPKEEP).run_once()).found == 2
        await Repair(c.grid, UPKEEP).run_once()
        await c.check_everywhere(digest)
        assert (await verify(c.grid)).complete
        assert (await AntiEntropy(c.grid, UPKEEP).run_once()).found == 0


async def test_a_catalogue_that_cannot_be_read_is_not_taken_for_one_that_lacks_everything(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path) as c:
        await c.grid.store(arrival(), [b"x"])
        for method in ("walk", "rows_of"):
            c["b"].fail(Fault.BEFORE, method)
            assert (await AntiEntropy(c.grid, UPKEEP).run_once()).found == 0
            await c.heal()
        assert await c.debts() == set()


async def test_what_is_stored_while_the_catalogues_are_compared_is_no_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cluster(tmp_path) as c:
        await store(c, 1)
        await c["b"].inner.add((await row_at(c, "b", 1, order=9)), verified_at=utc_now())
        seen_early = c["a"].inner
        walk = seen_early.walk

        async def early_walk(study: str | None = None) -> AsyncGenerator[Entry]:
            entries = [entry async for entry in walk(study)]
            await store(c, 7)
            for entry in entries:
                yield entry

        monkeypatch.setattr(seen_early, "walk", early_walk)
        comparison = await AntiEntropy(c.grid, UPKEEP).run_once()
        assert (comparison.differing, comparison.found) == (1, 2), "only the order, at two sites"


async def test_a_row_that_differs_is_the_same_everywhere_after_repair() -> None:
    async with cluster() as c:
        await store(c, 1)
        earlier = replace(PROVENANCE, received_at=PROVENANCE.received_at - timedelta(days=1))
        higher = await row_at(c, "b", 1, order=9)
        await c["b"].inner.add(higher, verified_at=utc_now())
        await c["c"].inner.add(replace(higher, order=1, provenance=earlier), verified_at=utc_now())
        assert (await AntiEntropy(c.grid, UPKEEP).run_once()).found == 3
        await c.repair()
        rows = [await site.inner.rows_of(arrival(1).instance) for site in c.sites.values()]
        assert [(row.order, row.provenance) for (row,) in rows] == [(9, earlier)] * 3
        assert (await AntiEntropy(c.grid, UPKEEP).run_once()).differing == 0
        assert await c.debts() == set()


async def test_a_fact_that_a_site_lacks_gets_there() -> None:
    async with cluster() as c:
        await store(c, 1)
        fact = Fact(arrival(1).instance, 1, FactKind.DELETED, utc_now(), "somebody", "test")
        await c["b"].inner.decide(fact)
        assert (await AntiEntropy(c.grid, UPKEEP).run_once()).found == 2
        owed = {("a", fact.digest), ("c", fact.digest)}
        assert await c["b"].debts() == owed
        assert await c["a"].debts() == {("c", fact.digest)}, "what it is owed itself, the others note"
        await c.repair()
        for name in ("a", "c"):
            assert tuple(await c[name].inner.facts_of(fact.instance)) == (fact,)
            assert await c[name].objects.get(keys.fact_key(fact)) == fact.to_json()
        assert await c.debts() == set()


async def test_only_studies_that_differ_are_walked() -> None:
    async with cluster() as c:
        await store(c, *range(5))
        for site in c.sites.values():
            site.fail(Fault.BEFORE, "walk")
        comparison = await AntiEntropy(c.grid, UPKEEP).run_once()
        assert (comparison.studies, comparison.differing) == (1, 0)
        assert not any(call.method == "walk" for site in c.sites.values() for call in site.catalogue.calls)


async def test_what_a_site_lacks_that_is_being_filled_is_not_noted_and_what_it_has_is_owed() -> None:
    async with cluster() as c:
        await store(c, 1)
        await c.replace("b")
        for name in ("a", "c"):
            c[name].fail(Fault.BEFORE, "add")
        with pytest.raises(NotEnoughSites):
            await store(c, 2)
        await c.heal()
        comparison = await AntiEntropy(c.grid, UPKEEP).run_once()
        assert comparison.found == 2
        assert {site for site, _ in await c.debts()} == {"a", "c"}


async def row_at(c: Cluster, name: str, number: int, *, order: int) -> Row:
    (row,) = await c[name].inner.rows_of(arrival(number).instance)
    return replace(row, order=order)
