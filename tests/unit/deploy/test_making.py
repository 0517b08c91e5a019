from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path

import pytest

from cluster.nouns import SiteIdentity
from cluster.settings import Settings, load
from deploy import checks, compose, making, record
from deploy.errors import UserError
from storage_node.catalogue.protocol import Catalogue
from storage_node.catalogue.sqlite.catalogue import SqliteCatalogue
from storage_node.site.file_system import FileSystemObjects
from storage_node.site.protocol import Objects


def identities(settings: Settings) -> list[SiteIdentity]:
    return [one.identity for one in record.of_sites(settings).values()]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load(None, data_folder=tmp_path)


def test_every_folder_on_the_way_to_a_site_outlives_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new folder is durable once the one above it was synced after it was made."""
    synced: dict[Path, set[str]] = {}
    fsync = os.fsync

    def recorded(handle: int) -> None:
        fsync(handle)
        path = Path(f"/proc/self/fd/{handle}").readlink()
        if path.is_dir():
            synced[path] = {entry.name for entry in path.iterdir()}

    monkeypatch.setattr(os, "fsync", recorded)
    sites = [
        {
            "name": name,
            "objects": f"file://{tmp_path}/disk-{name}/new/objects",
            "catalogue": f"sqlite:///{tmp_path}/disk-{name}/other/catalogue.sqlite",
        }
        for name in "abc"
    ]
    settings = load(None, data_folder=tmp_path / "deep" / "data", sites=sites)
    making.prepare(settings)
    for site in settings.sites:
        for path in (site.objects_folder, site.catalogue_file, settings.data_folder / record.RECORD):
            while path != tmp_path:
                assert path.name in synced[path.parent], path
                path = path.parent


async def test_a_new_cluster_has_three_sites_of_the_recorded_identities(settings: Settings) -> None:
    making.prepare(settings)
    recorded = identities(settings)
    assert [identity.name for identity in recorded] == ["a", "b", "c"]
    assert len({identity.site_id for identity in recorded}) == 3
    for site, identity in zip(compose.open_sites(settings), recorded, strict=True):
        for half in (site.objects, site.catalogue):
            assert await half.identity() == identity
            await half.close()


def test_preparing_again_changes_nothing(settings: Settings) -> None:
    making.prepare(settings)
    before = identities(settings)
    making.prepare(settings)
    assert identities(settings) == before


@pytest.mark.parametrize("what", ["logs", "members", "site-b"])
def test_a_file_where_a_folder_should_be_is_said(settings: Settings, what: str) -> None:
    (settings.data_folder / what).touch()
    with pytest.raises(UserError, match=f"cannot write {settings.data_folder / what}: "):
        making.prepare(settings)


async def test_who_runs_is_not_told_where_nobody_can_tell(settings: Settings) -> None:
    settings.members_folder.touch()
    with pytest.raises(UserError, match="cannot tell what runs in"):
        await compose.members(settings)


@pytest.mark.parametrize("what", ["site-b", "site-b/objects", "site-b/catalogue.sqlite"])
def test_a_recorded_site_is_never_made_again(settings: Settings, what: str) -> None:
    making.prepare(settings)
    gone = settings.data_folder / what
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    making.prepare(settings)
    assert not gone.exists()


@pytest.mark.parametrize("half", [FileSystemObjects, SqliteCatalogue])
@pytest.mark.parametrize("made_before", [0, 1, 2])
def test_a_first_start_that_died_is_taken_up_where_it_was(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    half: type[FileSystemObjects | SqliteCatalogue],
    made_before: int,
) -> None:
    create: Callable[..., None] = half.create
    made: list[object] = []

    def dies(*arguments: object) -> None:
        if len(made) == made_before:
            raise KeyboardInterrupt
        made.append(arguments)
        create(*arguments)

    monkeypatch.setattr(half, "create", staticmethod(dies))
    with pytest.raises(KeyboardInterrupt):
        making.prepare(settings)
    with pytest.raises(UserError, match="no cluster"):
        identities(settings)
    recorded = json.loads((settings.data_folder / "cluster.json").read_text())["sites"]
    monkeypatch.undo()
    making.prepare(settings)
    assert [identity.site_id for identity in identities(settings)] == [site["site_id"] for site in recorded]


@pytest.mark.parametrize("what", ["site-b/objects/some.dcm", "site-c/catalogue.sqlite"])
def test_a_new_site_is_not_made_over_something_foreign(settings: Settings, what: str) -> None:
    foreign = settings.data_folder / what
    foreign.parent.mkdir(parents=True)
    foreign.write_text("mine")
    with pytest.raises(UserError, match=r"site [bc]: .* is there already"):
        making.prepare(settings)
    assert foreign.read_text() == "mine"
    assert not (settings.data_folder / "cluster.json").exists()
    assert not (settings.data_folder / "site-a").exists()


def test_other_sites_than_the_cluster_has_are_refused(settings: Settings) -> None:
    making.prepare(settings)
    others = tuple(
        {"name": name, "objects": f"file:///tmp/{name}", "catalogue": f"sqlite:////tmp/{name}.sqlite"}
        for name in ("a", "b", "d")
    )
    with pytest.raises(UserError, match="has the sites a, b, c, the settings name a, b, d"):
        making.prepare(load(None, data_folder=settings.data_folder, sites=others))


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"sites": [{"name": "a"}]}', '{"sites": 3}', "\x00"])
def test_a_damaged_record_is_said_and_nothing_is_made(settings: Settings, text: str) -> None:
    (settings.data_folder / "cluster.json").write_text(text)
    with pytest.raises(UserError, match=r"cluster\.json is damaged"):
        making.prepare(settings)
    assert not (settings.data_folder / "site-a").exists()


def test_without_a_cluster_there_are_no_identities(settings: Settings) -> None:
    with pytest.raises(UserError, match="there is no cluster in"):
        identities(settings)


def test_a_replaced_site_is_the_next_generation_and_filling_and_its_catalogue_is_moved_aside(
    settings: Settings,
) -> None:
    making.prepare(settings)
    site = settings.sites[1]
    former = site.catalogue_file.read_bytes()
    (site.objects_folder / "1.2").mkdir()
    (site.objects_folder / "1.2" / "x.dcm").write_text("an object")
    before = record.of_sites(settings)["b"].identity
    identity = making.replace_site(settings, site)
    assert (identity.site_id, identity.generation) == (before.site_id, before.generation + 1)
    assert record.of_sites(settings)["b"] == record.SiteRecord(identity, made=True, filling=True)
    aside = site.catalogue_file.with_name("catalogue.sqlite.before-generation-2")
    assert (aside / "catalogue.sqlite").read_bytes() == former
    assert (site.objects_folder / "1.2" / "x.dcm").read_text() == "an object"


@pytest.mark.parametrize("lost", ["site-b", "site-b/objects", "site-b/catalogue.sqlite"])
def test_a_site_of_which_something_is_lost_can_be_replaced(settings: Settings, lost: str) -> None:
    making.prepare(settings)
    gone = settings.data_folder / lost
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    identity = making.replace_site(settings, settings.sites[1])
    for half in halves(settings, "b"):
        assert asyncio.run(half) == identity


def test_a_log_without_its_catalogue_is_not_taken_for_the_new_ones(settings: Settings) -> None:
    making.prepare(settings)
    file = settings.sites[1].catalogue_file
    file.unlink()
    file.with_name("catalogue.sqlite-wal").write_text("a log")
    making.replace_site(settings, settings.sites[1])
    aside = file.with_name("catalogue.sqlite.before-generation-2")
    assert (aside / "catalogue.sqlite-wal").read_text() == "a log"


def halves(settings: Settings, name: str) -> Iterator[Coroutine[None, None, SiteIdentity]]:
    async def identity_of(half: Objects | Catalogue) -> SiteIdentity:
        try:
            return await half.identity()
        finally:
            await half.close()

    for site in compose.open_sites(settings):
        if site.name == name:
            yield identity_of(site.objects)
            yield identity_of(site.catalogue)


@pytest.mark.parametrize("half", [FileSystemObjects, SqliteCatalogue])
def test_a_replacement_that_died_is_taken_up_where_it_was(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, half: type[FileSystemObjects | SqliteCatalogue]
) -> None:
    making.prepare(settings)

    def dies(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(half, "renew" if half is FileSystemObjects else "create", staticmethod(dies))
    with pytest.raises(KeyboardInterrupt):
        making.replace_site(settings, settings.sites[1])
    begun = record.of_sites(settings)["b"]
    assert (begun.made, begun.filling) == (False, True)
    monkeypatch.undo()
    assert making.replace_site(settings, settings.sites[1]) == begun.identity
    assert record.of_sites(settings)["b"].made


def test_a_site_is_not_replaced_over_something_foreign(settings: Settings) -> None:
    making.prepare(settings)
    site = settings.sites[1]
    shutil.rmtree(site.objects_folder)
    site.objects_folder.mkdir()
    (site.objects_folder / "holiday.jpg").write_text("mine")
    with pytest.raises(UserError, match="the folder is not empty"):
        making.replace_site(settings, site)
    assert (site.objects_folder / "holiday.jpg").read_text() == "mine"


def test_a_second_replacement_keeps_the_catalogues_of_both_former_generations(settings: Settings) -> None:
    making.prepare(settings)
    site = settings.sites[1]
    for _ in range(2):
        making.replace_site(settings, site)
    kept = sorted(path.name for path in site.catalogue_file.parent.glob("*before-generation*"))
    assert kept == ["catalogue.sqlite.before-generation-2", "catalogue.sqlite.before-generation-3"]


async def test_two_sites_in_one_folder_are_told(tmp_path: Path) -> None:
    settings = load(None, data_folder=tmp_path)
    making.prepare(settings)
    b, c = settings.sites[1].objects_folder, settings.sites[2].objects_folder
    shutil.rmtree(c)
    c.symlink_to(b)
    found = {one.name: one for one in await checks.check(settings, {"b", "c"})}
    assert found["b"].problems == ()
    assert found["c"].shared_with == "b"
    with pytest.raises(UserError, match="site c: its objects are those of site b, so that two copies would"):
        checks.refuse_shared(found.values())
