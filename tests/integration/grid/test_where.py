"""Where: versions, facts and each site's copy."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.nouns import FactKind
from storage_node.grid.write import NotEnoughSites
from storage_node.upkeep.where import where
from tests.integration.grid.cluster import NAMES, arrival, cluster
from tests.integration.grid.upkeep import lose, store

UID = "1.2.3.1"


async def test_versions_facts_and_copies_are_told(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        first = await c.grid.store(arrival(1), [b"first"])
        second = await c.grid.store(arrival(1), [b"second"])
        await c.grid.decide(arrival(1).instance, FactKind.DELETED, by="somebody", reason="test")
        (tmp_path / "a/objects" / first.version.key).unlink()
        (tmp_path / "b/objects" / first.version.key).write_bytes(b"longer than it was")
        await lose(c, "c")
        (found,) = await where(c.grid, UID)
        assert found.instance == arrival(1).instance
        assert found.hidden
        assert [version.digest for version in found.versions] == [second.version.digest, first.version.digest]
        current, old = found.versions
        assert [copy.state for copy in current.copies] == ["ok", "ok", "identity fails on purpose"]
        assert [copy.state for copy in old.copies] == ["missing", "wrong size", "identity fails on purpose"]
        assert current.copies[0].key == second.version.key
        assert current.copies[0].size_bytes == 6
        assert current.copies[0].verified_at is not None
        ((fact, sites),) = [(at.fact, at.sites) for at in found.facts]
        assert (fact.kind, fact.decided_by, sites) == (FactKind.DELETED, "somebody", ("a", "b"))


async def test_a_site_without_a_row_is_told() -> None:
    async with cluster() as c:
        await lose(c, "b")
        await store(c, 1)
        await c.heal()
        (found,) = await where(c.grid, UID)
        assert [copy.state for copy in found.versions[0].copies] == ["ok", "no row", "ok"]


async def test_what_nobody_knows_is_nowhere_and_nobody_who_answers_is_an_error() -> None:
    async with cluster() as c:
        assert await where(c.grid, "9.9.9") == []
        for name in NAMES:
            await lose(c, name)
        with pytest.raises(NotEnoughSites):
            await where(c.grid, UID)
