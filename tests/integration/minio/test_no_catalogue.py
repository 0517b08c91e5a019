"""Buckets without their catalogues: one is made anew from its bucket, and studies are sent without any."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from cluster.nouns import FactKind
from deploy import making
from deploy.roster import RecordRoster
from storage_node.catalogue.matching import by_uids
from storage_node.upkeep.fill import Fill
from storage_node.upkeep.rebuild import Rebuild
from tests.bench import instances
from tests.integration.minio.world import World, instance_of
from tests.integration.rebuild.world import said_by
from tests.waiting import soon

STUDY = instances.uids(1, 1, 0).study.decode()


async def test_a_catalogue_is_made_anew_from_its_bucket(running: World) -> None:
    files = [*await running.store(5), *await running.store(frames=40)]
    await running.grid.decide(instance_of(files[0]), FactKind.DELETED, by="somebody", reason="test")
    await running.repair()
    before = await said_by(running.grid.sites["b"].catalogue)
    b = running.settings.sites[1]
    await asyncio.to_thread(making.begin_rebuild, running.settings, b)
    async with soon("b is there without what it knew", seen=running.grid.health):
        await running.grid.sites.wait_until(lambda health: health["b"].up and health["b"].filling)
    roster = RecordRoster(running.settings)
    limit_bytes = running.settings.limits.header_limit_bytes
    report = await Rebuild(running.grid, roster, header_limit_bytes=limit_bytes).run_once()
    assert (report.rebuilt, report.added, report.facts, report.unreadable) == (("b",), 6, 1, 0)
    assert await said_by(running.grid.sites["b"].catalogue) == before
    async with soon("b is rebuilt", seen=lambda: running.grid.sites["b"].membership):
        await running.grid.sites.wait_until(lambda _: not running.grid.sites["b"].membership.rebuilding)
    filled = await Fill(running.grid, running.settings.upkeep, roster).run_once()
    assert (filled.filled, filled.given) == (("b",), 0)


async def test_a_study_is_found_and_sent_without_any_catalogue(running: World) -> None:
    files = [*await running.store(3), *await running.store(frames=40)]
    await running.grid.decide(instance_of(files[0]), FactKind.DELETED, by="somebody", reason="test")
    known = [match.version async for match in running.grid.find(by_uids(study=[STUDY]), 10)]
    for site in running.settings.sites:
        site.catalogue_file.unlink()
    limit_bytes = running.settings.limits.header_limit_bytes
    found = await running.grid.find_in_objects(by_uids(study=[STUDY]), 10, header_limit_bytes=limit_bytes)
    assert found.complete
    assert [replace(version, key="") for version in found.versions] == [
        replace(version, key="") for version in known
    ]
    for version in found.versions:
        size_bytes = sum([len(piece) async for piece in running.grid.read(version)])
        assert size_bytes == version.size_bytes
