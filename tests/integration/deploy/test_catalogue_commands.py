"""`atria catalogue check`, `upgrade` and `rebuild`, beside a cluster that runs, and without one."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from cluster.nouns import Membership
from cluster.settings import Settings, load
from deploy import catalogue_checks, catalogues, making, record
from storage_node.catalogue import schema
from tests.contract.catalogue.rows import add, row
from tests.integration.deploy.atria import Up, atria, up
from tests.postgresql import reachable_folder
from tests.unit.catalogue import schema_0001


def catalogue(data: Path, *arguments: object) -> tuple[int, str]:
    """Run `atria catalogue`, and return its exit code and what it said."""
    done = atria("catalogue", *arguments, "--data", data)
    return done.returncode, done.stdout + done.stderr


def found(cluster: Up, images: list[Path]) -> list[dict[str, Any]]:
    study = str(dcmread(images[0]).StudyInstanceUID)
    done = atria("find", "--to", cluster.address, "--json", f"StudyInstanceUID={study}")
    assert done.returncode == 0, done.stderr
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers


@pytest.fixture(params=["sqlite", "postgresql"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Up]:
    """A cluster of its own, with catalogues of each kind."""
    with reachable_folder() as folder, up(folder / "data", f"--catalogue={request.param}") as running:
        yield running


def test_a_catalogue_is_rebuilt_beside_a_cluster_that_runs(cluster: Up, images: list[Path]) -> None:
    assert atria("send", "--to", cluster.address, *images).returncode == 0
    before = found(cluster, images)
    assert len(before) == 1
    code, said = catalogue(cluster.data, "rebuild", "b")
    assert code == 1, "nobody was there to say yes"
    assert "is moved aside, and made anew" in said
    code, said = catalogue(cluster.data, "rebuild", "b", "--yes")
    assert code == 0, said
    assert "The catalogue of before is kept: " in said
    assert "6 copies were found" in said
    assert "Site b has everything, and is a full member again." in said
    assert found(cluster, images) == before
    code, said = catalogue(cluster.data, "check", "--all", "--json")
    assert code == 0, said
    checked = json.loads(said)
    assert [one["generation"] for one in checked] == [1, 2, 1]
    assert [one["counts"]["instances"] for one in checked] == [6, 6, 6]
    assert [one["studies_compared"] for one in checked] == [1, 1, 1]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A cluster that was made, and does not run."""
    settings = load(None, data_folder=tmp_path / "data")
    making.prepare(settings)
    return settings


def execute(settings: Settings, statement: str) -> None:
    """Change site b's catalogue behind everybody's back."""
    with closing(sqlite3.connect(settings.sites[1].catalogue_file, isolation_level=None)) as connection:
        connection.execute(statement)


def fill(settings: Settings, *studies: str) -> None:
    """Add rows to site b's catalogue."""

    async def filled() -> None:
        b = catalogues.open_catalogue(settings.sites[1], record.of_sites(settings)["b"].identity)
        for study in studies:
            await add(b, row(study))
        await b.close()

    asyncio.run(filled())


def test_a_damaged_catalogue_is_told_and_rebuilt(settings: Settings) -> None:
    settings.sites[1].catalogue_file.write_bytes(b"no database at all" * 1000)
    code, said = catalogue(settings.data_folder, "check")
    assert code == 1
    assert "site b: " in said
    assert said.count("well") == 2
    code, said = catalogue(settings.data_folder, "rebuild", "b", "--yes")
    assert code == 0, said
    assert "catalogue.sqlite.before-generation-2" in said
    assert catalogue(settings.data_folder, "check")[0] == 0


def test_a_lost_catalogue_is_told_and_rebuilt(settings: Settings) -> None:
    settings.sites[1].catalogue_file.unlink()
    code, said = catalogue(settings.data_folder, "check", "b")
    assert (code, "unable to open database file" in said) == (1, True)
    code, said = catalogue(settings.data_folder, "rebuild", "b", "--yes")
    assert code == 0, said
    assert "is kept" not in said


def test_a_catalogue_is_not_moved_aside_where_there_are_no_objects_to_make_it_from(
    settings: Settings,
) -> None:
    settings.sites[1].objects_folder.rename(settings.data_folder / "away")
    code, said = catalogue(settings.data_folder, "rebuild", "b", "--yes")
    assert code == 2
    assert "a catalogue is made from its site's objects, so these must be there" in said
    assert record.of_sites(settings)["b"].identity.generation == 1
    assert not settings.sites[1].objects_folder.exists()


def test_a_rebuild_that_was_not_finished_is_gone_on_with_and_moves_nothing_aside(settings: Settings) -> None:
    making.begin_rebuild(settings, settings.sites[1])
    code, said = catalogue(settings.data_folder, "check", "b")
    assert code == 1
    assert "it was not rebuilt to the end yet: `atria catalogue rebuild b` goes on" in said
    code, said = catalogue(settings.data_folder, "rebuild", "b")
    assert code == 0, said
    assert record.of_sites(settings)["b"].identity.generation == 2
    assert record.of_sites(settings)["b"].membership.filling is False


def test_a_rebuild_may_be_begun_anew_or_given_up_for_a_replacement(settings: Settings) -> None:
    making.begin_rebuild(settings, settings.sites[1])
    code, said = catalogue(settings.data_folder, "rebuild", "b", "--anew", "--yes")
    assert code == 0, said
    assert record.of_sites(settings)["b"].identity.generation == 3
    making.begin_rebuild(settings, settings.sites[1])
    done = atria("site", "replace", "b", "--data", settings.data_folder)
    assert done.returncode == 0, done.stderr
    assert record.of_sites(settings)["b"].membership == Membership(
        replace(record.of_sites(settings)["b"].identity, generation=4)
    )


def test_a_rebuild_that_died_at_its_very_beginning_is_begun_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("deploy.sites.renew", dies)
        with pytest.raises(KeyboardInterrupt):
            making.begin_rebuild(settings, settings.sites[1])
    code, said = catalogue(settings.data_folder, "rebuild", "b", "--yes")
    assert code == 0, said
    assert record.of_sites(settings)["b"].identity.generation == 2


def test_a_site_without_a_vote_is_told_why_while_another_is_away(settings: Settings) -> None:
    settings.sites[2].catalogue_file.rename(settings.data_folder / "away")
    code, said = catalogue(settings.data_folder, "rebuild", "b", "--yes")
    assert code == 1
    assert "Site b has no vote yet: site c is down" in said
    assert record.of_sites(settings)["b"].filling
    assert not record.of_sites(settings)["b"].rebuilding


def test_an_older_schema_is_told_and_upgraded(settings: Settings) -> None:
    file = settings.sites[1].catalogue_file
    file.unlink()
    schema_0001.make(file, record.of_sites(settings)["b"].identity, [row(order=1)])
    code, said = catalogue(settings.data_folder, "check", "b")
    assert code == 1
    needs = f"it has schema 0001, and this release needs {schema.REVISION}: `atria catalogue upgrade b`"
    assert f"site b: {needs}" in said
    code, said = catalogue(settings.data_folder, "upgrade")
    assert code == 0, said
    assert said.splitlines() == [
        f"site a: had schema {schema.REVISION} already",
        f"site b: upgraded from schema 0001 to {schema.REVISION}",
        f"site c: had schema {schema.REVISION} already",
    ]
    assert catalogue(settings.data_folder, "check", "b")[0] == 0


def test_a_newer_schema_is_refused_in_a_line_by_all_and_the_cluster_does_not_start(
    settings: Settings,
) -> None:
    execute(settings, "UPDATE alembic_version SET version_num = '9999'")
    for command in ("check", "upgrade"):
        code, said = catalogue(settings.data_folder, command, "b")
        assert code == 1
        assert "9999" in said
        assert f"knows up to {schema.REVISION}" in said
    done = atria("up", "--data", settings.data_folder, "--dicom-port=0", "--http-port=0")
    assert done.returncode == 2
    told = done.stderr.strip().splitlines()[-1]
    assert told.startswith("atria: catalogue of site b: ")
    assert told.endswith(
        f"has schema 9999, and this Atria knows up to {schema.REVISION}: start a release that is as new"
    )


def test_a_cluster_upgrades_its_catalogues_when_it_starts(tmp_path: Path) -> None:
    settings = load(None, data_folder=tmp_path / "data")
    making.prepare(settings)
    for site in settings.sites:
        site.catalogue_file.unlink()
        schema_0001.make(site.catalogue_file, record.of_sites(settings)[site.name].identity, [row(order=1)])
    with up(settings.data_folder) as cluster:
        done = atria("find", "--to", cluster.address, "--json", "StudyInstanceUID=1.2.3")
        assert len(json.loads(done.stdout)) == 1, done.stderr


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE summaries SET entries = entries + 1 WHERE study_instance_uid = '1.2'",
        "UPDATE series SET instances = instances + 1 WHERE study_instance_uid = '1.2'",
        "UPDATE studies SET patient_name = 'ROE^JOHN' WHERE study_instance_uid = '1.2'",
        "UPDATE versions SET header = x'0102' WHERE study_instance_uid = '1.2'",
        "DELETE FROM series WHERE study_instance_uid = '1.2'",
    ],
)
def test_what_does_not_follow_from_the_rows_is_found(settings: Settings, damage: str) -> None:
    fill(settings, "1.1", "1.2", "1.3")
    b = [settings.sites[1]]
    (check,) = asyncio.run(catalogue_checks.check(settings, b, everything=True))
    assert (check.problems, check.studies_compared) == ((), 3)
    execute(settings, damage)
    (check,) = asyncio.run(catalogue_checks.check(settings, b, everything=True))
    assert check.differing == ("1.2",)
    assert check.problems == (
        "site b: 1 of 3 studies are not what follows from their rows (1.2): `atria catalogue rebuild b`",
    )


def test_another_sites_catalogue_is_told(settings: Settings) -> None:
    a, b = settings.sites[0].catalogue_file, settings.sites[1].catalogue_file
    b.write_bytes(a.read_bytes())
    code, said = catalogue(settings.data_folder, "check", "b")
    assert code == 1
    assert "is of site a, " in said
