from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.settings import Settings, load
from deploy import compose
from deploy.errors import UserError
from storage_node.catalogue.sqlite import SqliteCatalogue
from storage_node.site.file_system import FileSystemObjects


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
    compose.prepare(settings)
    for site in settings.sites:
        for path in (site.objects_folder, site.catalogue_file, settings.data_folder / compose.RECORD):
            while path != tmp_path:
                assert path.name in synced[path.parent], path
                path = path.parent


async def test_a_new_cluster_has_three_sites_of_the_recorded_identities(settings: Settings) -> None:
    compose.prepare(settings)
    recorded = compose.identities(settings)
    assert [identity.name for identity in recorded] == ["a", "b", "c"]
    assert len({identity.site_id for identity in recorded}) == 3
    for halves in (compose.objects(settings), compose.catalogues(settings)):
        assert tuple([await half.identity() for half in halves]) == recorded
        for half in halves:
            await half.close()


def test_preparing_again_changes_nothing(settings: Settings) -> None:
    compose.prepare(settings)
    before = compose.identities(settings)
    compose.prepare(settings)
    assert compose.identities(settings) == before


@pytest.mark.parametrize("what", ["logs", "members", "site-b"])
def test_a_file_where_a_folder_should_be_is_said(settings: Settings, what: str) -> None:
    (settings.data_folder / what).touch()
    with pytest.raises(UserError, match=f"cannot write {settings.data_folder / what}: "):
        compose.prepare(settings)


async def test_who_runs_is_not_told_where_nobody_can_tell(settings: Settings) -> None:
    settings.members_folder.touch()
    with pytest.raises(UserError, match="cannot tell what runs in"):
        await compose.members(settings)


@pytest.mark.parametrize("what", ["site-b", "site-b/objects", "site-b/catalogue.sqlite"])
def test_a_recorded_site_is_never_made_again(settings: Settings, what: str) -> None:
    compose.prepare(settings)
    gone = settings.data_folder / what
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    compose.prepare(settings)
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
        compose.prepare(settings)
    with pytest.raises(UserError, match="no cluster"):
        compose.identities(settings)
    recorded = json.loads((settings.data_folder / "cluster.json").read_text())["sites"]
    monkeypatch.undo()
    compose.prepare(settings)
    assert [identity.site_id for identity in compose.identities(settings)] == [
        site["site_id"] for site in recorded
    ]


@pytest.mark.parametrize("what", ["site-b/objects/some.dcm", "site-c/catalogue.sqlite"])
def test_a_new_site_is_not_made_over_something_foreign(settings: Settings, what: str) -> None:
    foreign = settings.data_folder / what
    foreign.parent.mkdir(parents=True)
    foreign.write_text("mine")
    with pytest.raises(UserError, match=r"site [bc]: .* is there already"):
        compose.prepare(settings)
    assert foreign.read_text() == "mine"
    assert not (settings.data_folder / "cluster.json").exists()
    assert not (settings.data_folder / "site-a").exists()


def test_other_sites_than_the_cluster_has_are_refused(settings: Settings) -> None:
    compose.prepare(settings)
    others = tuple(
        {"name": name, "objects": f"file:///tmp/{name}", "catalogue": f"sqlite:////tmp/{name}.sqlite"}
        for name in ("a", "b", "d")
    )
    with pytest.raises(UserError, match="has the sites a, b, c, the settings name a, b, d"):
        compose.prepare(load(None, data_folder=settings.data_folder, sites=others))


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"sites": [{"name": "a"}]}', '{"sites": 3}', "\x00"])
def test_a_damaged_record_is_said_and_nothing_is_made(settings: Settings, text: str) -> None:
    (settings.data_folder / "cluster.json").write_text(text)
    with pytest.raises(UserError, match=r"cluster\.json is damaged"):
        compose.prepare(settings)
    assert not (settings.data_folder / "site-a").exists()


def test_without_a_cluster_there_are_no_identities(settings: Settings) -> None:
    with pytest.raises(UserError, match="there is no cluster in"):
        compose.identities(settings)
