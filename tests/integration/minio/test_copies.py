"""One copy at one site is damaged or gone on the server's disk; the site itself is well."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from chaos.faults import Fault, FileDamaged, FileRemoved, Hung, ObjectDeleted, content_file, metadata_file
from chaos.history import Outcome
from deploy.client.files import DicomFile
from tests.integration.minio.world import Servers, World, inflicted, world

Damage = Callable[[World, str, str], Fault]
"""Makes a fault of a site's object of this key."""


def _content(fault: Callable[[Path], Fault]) -> Damage:
    return lambda world, site, key: fault(content_file(world.servers[site], world.bucket, key))


def _metadata(fault: Callable[[Path], Fault]) -> Damage:
    return lambda world, site, key: fault(metadata_file(world.servers[site], world.bucket, key))


def _deleted(world: World, site: str, key: str) -> Fault:
    return ObjectDeleted(world.servers[site], world.bucket, key)


_PATIENCE_S = 60.0

_DAMAGES = [
    pytest.param(_content(FileDamaged), id="part.1 flipped"),
    pytest.param(_content(FileRemoved), id="part.1 gone"),
    pytest.param(_metadata(FileDamaged), id="xl.meta flipped"),
    pytest.param(_metadata(FileRemoved), id="xl.meta gone"),
    pytest.param(_deleted, id="deleted"),
]


async def _damage(world: World, site: str, file: DicomFile, damage: Damage) -> None:
    row = await world.row_at(site, file)
    await damage(world, site, row.version.key).inflict()


@pytest.fixture
async def running(
    servers: Servers, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    """A cluster over the servers whose readers ask one site after the other, however slow they are.

    Of two that are asked at once the quicker would hide what the other has.
    """
    monkeypatch.setattr("storage_node.grid.patience.LEAST_S", _PATIENCE_S)
    async with world(tmp_path, servers, bucket, hedge_after_s=_PATIENCE_S) as one:
        yield one


@pytest.mark.parametrize("damage", _DAMAGES)
async def test_a_reader_gets_another_copy_and_what_it_met_is_repaired(running: World, damage: Damage) -> None:
    file, _ = await running.store(2)
    await running.repair()
    await _damage(running, "a", file, damage)
    await running.check_readable()
    assert all(health.takes_writes for health in running.grid.health().values()), "a copy is no site"
    await running.repair()
    await running.check_repaired()


@pytest.mark.parametrize("damage", _DAMAGES)
async def test_scrub_finds_what_nobody_reads(running: World, damage: Damage) -> None:
    file, _ = await running.store(2)
    await running.repair()
    await _damage(running, "c", file, damage)
    await running.scrub()
    await running.repair()
    await running.check_repaired()


@pytest.mark.parametrize("damage", [_metadata(FileRemoved), _deleted], ids=["xl.meta gone", "deleted"])
async def test_listing_finds_what_is_gone_without_reading_it(running: World, damage: Damage) -> None:
    file, _ = await running.store(2)
    await running.repair()
    await _damage(running, "c", file, damage)
    await running.compare()
    await running.repair()
    await running.check_repaired()


@pytest.mark.parametrize("damage", _DAMAGES)
async def test_a_resend_over_a_bad_copy_is_acknowledged_and_counts_no_rot_as_a_copy(
    running: World, damage: Damage
) -> None:
    (file,) = await running.store()
    await running.repair()
    await _damage(running, "a", file, damage)
    assert (await running.send(file)).outcome is Outcome.ACKNOWLEDGED
    # With the nearest of the others away, the copy that was bad and that of `c` are what is left.
    async with inflicted(Hung(running.servers["b"])):
        await running.check_readable()
    await running.until_up()
    await running.scrub()
    await running.repair()
    await running.check_repaired()


@pytest.mark.parametrize("damage", _DAMAGES)
async def test_the_last_good_copy_is_found_and_the_others_are_made_from_it(
    running: World, damage: Damage
) -> None:
    (file,) = await running.store()
    await running.repair()
    for site in ("a", "b"):
        await _damage(running, site, file, damage)
    await running.check_readable()
    await running.repair()
    await running.check_repaired()


async def test_a_resend_over_two_wedged_keys_goes_to_others(running: World) -> None:
    (file,) = await running.store()
    await running.repair()
    for site in ("a", "b"):
        await _damage(running, site, file, _metadata(FileDamaged))
    assert (await running.send(file)).outcome is Outcome.ACKNOWLEDGED
    for site in ("a", "b"):
        assert "~" in (await running.row_at(site, file)).version.key
    await running.check_readable()
    await running.repair()
    assert (await running.send(file)).outcome is Outcome.ACKNOWLEDGED
    await running.check_repaired()


async def test_a_block_of_a_streamed_instance_is_damaged(running: World) -> None:
    (file,) = await running.store(frames=40)
    await running.repair()
    row = await running.row_at("a", file)
    assert row.version.block_digests
    folder = running.servers["a"].data / running.bucket / row.version.key
    async with inflicted(*(FileDamaged(part) for part in sorted(folder.glob("*/part.*")))):
        await running.check_readable()
    await running.repair()
    await running.check_repaired()
