"""Listing: what is gone behind Atria's back is found, and facts that lost their rows are known again."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.nouns import BLOCK_BYTES, Fact, FactKind
from storage_node.catalogue.views import is_hidden
from storage_node.grid import keys
from storage_node.site.failing import Fault
from storage_node.upkeep.listing import Listing, Report
from storage_node.upkeep.verify import verify
from tests.integration.grid.cluster import Cluster, arrival, cluster, utc_now
from tests.integration.grid.upkeep import UPKEEP, damage, lose, memory, store


async def listed(c: Cluster) -> Report:
    return await Listing(c.grid, UPKEEP).run_once()


async def test_nothing_is_missing_where_everything_is(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        await store(c, *range(3))
        await c.grid.decide(arrival(1).instance, FactKind.DELETED, by="somebody", reason="test")
        told: list[tuple[int, int]] = []
        report = await Listing(c.grid, UPKEEP).run_once(lambda done, of: told.append((done, of)))
        assert report == Report(rows=12, missing=0, facts_found=0, not_listed=())
        assert told[-1] == (12, 12)
        assert await c.debts() == set()


@pytest.mark.parametrize("harm", ["gone", "longer"])
async def test_an_object_that_is_gone_or_of_another_size_is_noted_and_comes_back(
    tmp_path: Path, harm: str
) -> None:
    async with cluster(tmp_path) as c:
        digest, _ = await store(c, 1, 2)
        file = tmp_path / "b/objects" / keys.object_key(arrival(1).instance, digest)
        file.unlink() if harm == "gone" else file.write_bytes(b"longer than it was")
        assert (await listed(c)).missing == 1
        assert await c.debts() == {("b", digest)}
        await c.repair()
        await c.check_everywhere(digest)
        assert (await listed(c)).missing == 0


async def test_a_streamed_version_that_lacks_its_object_or_its_manifest_is_noted_and_comes_back() -> None:
    async with cluster() as c:
        content = bytes(BLOCK_BYTES) + b"the end"
        async with await c.grid.stream(arrival(1).instance) as stream:
            await stream.write([content])
            version = (await stream.complete(arrival(1))).version
        for key in (version.key, keys.manifest_key(version.instance, version.digest)):
            del memory(c, "b").objects[key]
            assert (await listed(c)).missing == 1
            await c.repair()
            assert (await listed(c)).missing == 0
            await c.check_everywhere(version.digest)


@pytest.mark.parametrize("harm", ["gone", "flipped"])
async def test_a_fact_whose_object_is_gone_or_wrong_is_noted_and_comes_back(harm: str) -> None:
    async with cluster() as c:
        await store(c, 1)
        fact = await c.grid.decide(arrival(1).instance, FactKind.DELETED, by="somebody", reason="test")
        if harm == "gone":
            del memory(c, "c").objects[keys.fact_key(fact)]
        else:
            damage(c, "c", keys.fact_key(fact))
        assert (await listed(c)).missing == 1
        assert await c.debts() == {("c", fact.digest)}
        await c.repair()
        assert memory(c, "c").objects[keys.fact_key(fact)].content == fact.to_json()
        assert await c.debts() == set()


async def test_a_manifest_that_is_damaged_is_noted_and_comes_back() -> None:
    async with cluster() as c:
        async with await c.grid.stream(arrival(1).instance) as stream:
            await stream.write([bytes(BLOCK_BYTES), b"the end"])
            version = (await stream.complete(arrival(1))).version
        damage(c, "b", keys.manifest_key(version.instance, version.digest))
        assert (await listed(c)).missing == 1
        await c.repair()
        assert (await listed(c)).missing == 0


async def test_a_fact_or_a_manifest_beside_a_key_that_cannot_be_written_will_do() -> None:
    async with cluster() as c:
        async with await c.grid.stream(arrival(1).instance) as stream:
            await stream.write([bytes(BLOCK_BYTES), b"the end"])
            version = (await stream.complete(arrival(1))).version
        fact = await c.grid.decide(arrival(1).instance, FactKind.DELETED, by="somebody", reason="test")
        wedged = {keys.fact_key(fact), keys.manifest_key(version.instance, version.digest)}
        c["b"].objects.script = lambda call: (
            Fault.OBJECT if call.key in wedged and call.method != "list" else None
        )
        assert (await listed(c)).missing == 2
        await c.repair()
        assert (await listed(c)).missing == 0
        assert (await verify(c.grid)).complete


async def test_a_fact_that_has_an_object_and_no_row_has_one_again() -> None:
    async with cluster() as c:
        await store(c, 1)
        fact = Fact(arrival(1).instance, 1, FactKind.DELETED, utc_now(), "somebody", "test")
        memory(c, "b").keep(keys.fact_key(fact), fact.to_json(), {})
        assert (await listed(c)).facts_found == 1
        assert is_hidden(await c["b"].inner.facts_of(fact.instance))
        assert (await listed(c)).facts_found == 0


async def test_what_is_no_fact_or_another_than_its_key_says_is_not_taken_for_one() -> None:
    async with cluster() as c:
        fact = Fact(arrival(1).instance, 1, FactKind.DELETED, utc_now(), "somebody", "test")
        other = Fact(arrival(2).instance, 1, FactKind.DELETED, utc_now(), "somebody", "test")
        memory(c, "b").keep(keys.fact_key(fact), other.to_json(), {})
        memory(c, "b").keep(f"{keys.FACTS}/x/y/z/{'0' * 64}.json", b"nonsense", {})
        assert (await listed(c)).facts_found == 0


async def test_a_site_that_goes_away_meanwhile_is_not_one_whose_objects_are_gone() -> None:
    async with cluster() as c:
        await store(c, 1)
        for method in ("list", "walk", "head"):
            c["b"].fail(Fault.BEFORE, method)
            del memory(c, "b").objects[next(iter(memory(c, "b").objects))]
            report = await listed(c)
            assert report.not_listed == ("b",)
            assert await c.debts() == set()
            await c.heal()
            memory(c, "b").objects.update(memory(c, "a").objects)


async def test_a_site_that_is_down_is_said_not_to_have_been_listed() -> None:
    async with cluster() as c:
        await lose(c, "c")
        assert (await listed(c)).not_listed == ("c",)
