"""With no catalogue at all, instances are found by the keys of their objects."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import TypeAlias

import pytest

from cluster.nouns import FactKind, Instance
from storage_node.catalogue.matching import Query, by_uids
from storage_node.grid import keys
from storage_node.grid.find import NoCatalogue
from storage_node.grid.listing_find import Listed, NotListed, TooMany
from storage_node.site.protocol import StoredObject
from tests.integration.rebuild.test_rebuild import CUT, description, folder_of, store_all_kinds
from tests.integration.rebuild.world import World, pixel_data
from tests.integration.services.instances import element

LIMIT = 1000
Head: TypeAlias = Callable[[str], Awaitable[StoredObject]]


async def lose_catalogues(w: World) -> None:
    """Have all catalogues away, and see that they are."""
    for site in w.settings.sites:
        site.catalogue_file.rename(f"{site.catalogue_file}.away")
    await w.grid.sites.probe()
    with pytest.raises(NoCatalogue):
        await anext(w.grid.find(by_uids(study=["1.2"]), LIMIT))


async def listed(w: World, query: Query, limit: int = LIMIT) -> Listed:
    limit_bytes = w.settings.limits.header_limit_bytes
    return await w.grid.find_in_objects(query, limit, header_limit_bytes=limit_bytes)


async def sops(w: World, query: Query) -> list[str]:
    return [version.instance.sop_instance_uid for version in (await listed(w, query)).versions]


@pytest.mark.parametrize("study", ["1.2", "1.2 odd", CUT, "1.6", "1.7", "9.9"])
async def test_a_study_is_found_as_its_catalogues_would(w: World, study: str) -> None:
    await store_all_kinds(w)
    query = by_uids(study=[study])
    known = [match.version async for match in w.grid.find(query, LIMIT)]
    await lose_catalogues(w)
    found = await listed(w, query)
    assert list(found.versions) == known
    assert found.complete
    for version in found.versions:
        async with aclosing(w.grid.read(version)) as pieces:
            assert sum([len(piece) async for piece in pieces]) == version.size_bytes


async def test_series_and_instances_are_found(w: World) -> None:
    for series, sop in (("1.2.3", "1"), ("1.2.3", "2"), ("1.2.4", "3")):
        await w.store(sop, series=series, more=pixel_data())
    await lose_catalogues(w)
    assert await sops(w, by_uids(study=["1.2"], series=["1.2.3"])) == ["1", "2"]
    assert await sops(w, by_uids(study=["1.2"], series=["1.2.3", "1.2.4"], sop=["2", "3"])) == ["2", "3"]
    assert await sops(w, by_uids(study=["1.2"], sop=["3"])) == ["3"]
    assert await sops(w, by_uids(study=["1.2"], series=["1.2.9"])) == []


async def test_another_patients_study_is_not_found(w: World) -> None:
    await w.store("1", more=element(0x00100020, "LO", b"P1") + pixel_data())
    await lose_catalogues(w)
    assert await sops(w, by_uids(patient_id="P1", study=["1.2"])) == ["1"]
    assert await sops(w, by_uids(patient_id="P2", study=["1.2"])) == []


async def test_what_is_deleted_is_not_found_and_what_is_revived_is(w: World) -> None:
    for sop in ("1", "2", "3"):
        await w.store(sop, more=pixel_data())
    for sop in ("1", "2"):
        await w.grid.decide(Instance("1.2", "1.2.3", sop), FactKind.DELETED, by="somebody", reason="test")
    await w.grid.decide(Instance("1.2", "1.2.3", "2"), FactKind.REVIVED, by="somebody", reason="test")
    await lose_catalogues(w)
    assert await sops(w, by_uids(study=["1.2"])) == ["2", "3"]


async def test_a_fact_that_no_site_gives_withholds_what_it_is_about(w: World) -> None:
    for sop in ("1", "2"):
        await w.store(sop, more=pixel_data())
    fact = await w.grid.decide(Instance("1.2", "1.2.3", "1"), FactKind.DELETED, by="somebody", reason="test")
    await lose_catalogues(w)
    files = [folder_of(w, name) / keys.fact_key(fact) for name in "abc"]
    for file in files[:2]:
        file.write_text("{")
    assert await sops(w, by_uids(study=["1.2"])) == ["2"]
    files[2].write_text("{")
    assert await sops(w, by_uids(study=["1.2"])) == ["2"]


async def test_the_version_that_was_received_last_is_taken_for_the_current_one(w: World) -> None:
    await w.store("1", more=description("later"), minute=9)
    sooner = await w.store("1", more=description("sooner"), minute=3)
    await lose_catalogues(w)
    (version,) = (await listed(w, by_uids(study=["1.2"]))).versions
    assert version.digest != sooner.version.digest


async def test_what_one_site_lacks_another_has_and_without_r_sites_it_is_said(w: World) -> None:
    for sop in ("1", "2"):
        stored = await w.store(sop, more=pixel_data())
        (folder_of(w, "ab"[int(sop) - 1]) / stored.version.key).unlink()
    await lose_catalogues(w)
    assert await sops(w, by_uids(study=["1.2"])) == ["1", "2"]
    away(folder_of(w, "c"))
    found = await listed(w, by_uids(study=["1.2"]))
    assert ([v.instance.sop_instance_uid for v in found.versions], found.complete) == (["1", "2"], True)
    away(folder_of(w, "b"))
    found = await listed(w, by_uids(study=["1.2"]))
    assert ([v.instance.sop_instance_uid for v in found.versions], found.complete) == (["2"], False)
    away(folder_of(w, "a"))
    with pytest.raises(NotListed):
        await listed(w, by_uids(study=["1.2"]))


def away(folder: Path) -> None:
    folder.rename(f"{folder}.away")


async def test_a_copy_that_one_site_cannot_read_comes_from_another(w: World) -> None:
    stored = await w.store("1", more=pixel_data())
    for name in "ab":
        (folder_of(w, name) / stored.version.key).write_bytes(b"rotten")
    await lose_catalogues(w)
    assert await sops(w, by_uids(study=["1.2"])) == ["1"]


async def test_sites_that_are_found_down_while_they_are_read_give_all_the_same_what_they_have(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for sop in ("1", "2"):
        await w.store(sop, more=pixel_data())
    losing: dict[str, asyncio.Task[None]] = {}

    async def lose_catalogue(name: str) -> None:
        (file,) = (site.catalogue_file for site in w.settings.sites if site.name == name)
        file.rename(f"{file}.away")
        await w.grid.sites.probe()

    for site in w.grid.sites.up():

        async def meanwhile_down(
            key: str, name: str = site.name, head: Head = site.objects.head
        ) -> StoredObject:
            if name not in losing:
                losing[name] = asyncio.create_task(lose_catalogue(name))
            await asyncio.shield(losing[name])
            return await head(key)

        monkeypatch.setattr(site.objects, "head", meanwhile_down)
    found = await listed(w, by_uids(study=["1.2"]))
    assert [version.instance.sop_instance_uid for version in found.versions] == ["1", "2"]
    assert found.complete


async def test_what_is_listed_and_no_site_gives_is_said(w: World) -> None:
    stored = [await w.store(sop, more=pixel_data()) for sop in ("1", "2")]
    for name in "abc":
        (folder_of(w, name) / stored[0].version.key).write_bytes(b"rotten")
    await lose_catalogues(w)
    found = await listed(w, by_uids(study=["1.2"]))
    assert [version.instance.sop_instance_uid for version in found.versions] == ["2"]
    assert not found.complete


async def test_more_than_the_limit_and_a_query_without_a_study_are_refused(w: World) -> None:
    for number in range(5):
        await w.store(f"{number}", more=pixel_data())
    await lose_catalogues(w)
    assert len((await listed(w, by_uids(study=["1.2"]), limit=5)).versions) == 5
    with pytest.raises(TooMany):
        await listed(w, by_uids(study=["1.2"]), limit=4)
    with pytest.raises(NotListed):
        await listed(w, by_uids(patient_id="P1"))
