"""A new data folder whose settings name sites that are there already: they are used as they are."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.nouns import SiteIdentity
from cluster.settings import Settings, load
from deploy import catalogues, compose, making, record
from deploy.errors import UserError
from deploy.roster import RecordRoster
from storage_node.catalogue.matching import by_uids
from storage_node.upkeep.fill import Fill
from storage_node.upkeep.rebuild import Rebuild
from tests.integration.deploy.atria import atria
from tests.integration.rebuild.world import World, pixel_data, said_by
from tests.postgresql import Databases, running_server


@pytest.fixture(scope="module")
def databases() -> Iterator[Databases]:
    with running_server() as server:
        yield Databases(server)


class Places:
    """Where three sites are, whatever data folder names them."""

    def __init__(self, folder: Path, databases: Databases | None) -> None:
        self.folder = folder
        self._databases = databases
        self._names = [f"adopted_{name}_{abs(hash(folder))}" for name in "abc"]
        if databases is not None:
            for name in self._names:
                asyncio.run(databases.server.new_database(name))

    def settings(self, data: str, **catalogues: str) -> Settings:
        """Return the settings of a data folder; some sites may be given another's catalogue."""
        tables = []
        for name in "abc":
            number = "abc".index(catalogues.get(name, name))
            table: dict[str, object] = {"name": name, "objects": f"file://{self.folder}/{name}/objects"}
            if self._databases is None:
                table["catalogue"] = f"sqlite:///{self.folder}/{'abc'[number]}/catalogue.sqlite"
            else:
                location = self._databases.location(self._names[number])
                table |= {"catalogue": location.url, "catalogue_passfile": location.passfile}
            tables.append(table)
        writing = {"probe_interval_s": 0.05, "free_space_low_bytes": 1}
        return load(None, data_folder=self.folder / data, sites=tables, writing=writing)

    def lose_catalogue(self, name: str) -> None:
        if self._databases is None:
            (self.folder / name / "catalogue.sqlite").unlink(missing_ok=True)
            return
        database = self._names["abc".index(name)]
        asyncio.run(self._databases.server.drop_database(database))
        asyncio.run(self._databases.server.new_database(database))

    def drop(self) -> None:
        if self._databases is not None:
            for name in self._names:
                asyncio.run(self._databases.server.drop_database(name))


@pytest.fixture(params=["sqlite", "postgresql"])
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Places]:
    server = request.getfixturevalue("databases") if request.param == "postgresql" else None
    places = Places(tmp_path, server)
    yield places
    places.drop()


def identities(settings: Settings) -> dict[str, SiteIdentity]:
    return {name: one.identity for name, one in record.of_sites(settings).items()}


def store(settings: Settings, *sops: str) -> None:
    async def stored() -> None:
        async with compose.running_grid(settings) as grid:
            w = World(settings, grid)
            for sop in sops:
                await w.store(sop, more=pixel_data())

    asyncio.run(stored())


def test_sites_that_are_there_are_used_and_have_their_vote_once_they_were_compared(places: Places) -> None:
    before = places.settings("before")
    assert making.prepare(before) == []
    store(before, "1", "2")
    anew = places.settings("anew")
    said = making.prepare(anew)
    assert identities(anew) == identities(before)
    assert len(said) == 3
    for line, site in zip(said, anew.sites, strict=True):
        one = identities(anew)[site.name]
        assert line == (
            f"site {site.name}: the catalogue at {site.catalogue} already holds 1 studies, 2 instances"
            f" (site id {one.site_id}, generation 1): used as it is"
        )
    assert {one.filling for one in record.of_sites(anew).values()} == {True}
    assert making.prepare(anew) == []

    async def found() -> int:
        async with compose.running_grid(anew) as grid:
            report = await Fill(grid, anew.upkeep, RecordRoster(anew)).run_once()
            assert (report.filled, report.given) == (("a", "b", "c"), 0)
            return len([match async for match in grid.find(by_uids(study=["1.2"]), 10)])

    assert asyncio.run(found()) == 2
    assert {one.filling for one in record.of_sites(anew).values()} == {False}


def test_a_catalogue_that_is_not_there_is_made_from_the_objects_that_are(places: Places) -> None:
    before = places.settings("before")
    making.prepare(before)
    store(before, "1", "2")
    places.lose_catalogue("b")
    anew = places.settings("anew")
    said = making.prepare(anew)
    b = anew.sites[1]
    assert said[1].startswith(f"site b: {b.objects} already holds objects of site b (")
    assert said[1].endswith(f", and there is no catalogue: it is made from them, at {b.catalogue}")
    assert record.of_sites(anew)["b"] == record.SiteRecord(
        identities(before)["b"], made=True, filling=True, rebuilding=True
    )

    async def rebuilt() -> None:
        async with compose.running_grid(anew) as grid:
            limit_bytes = anew.limits.header_limit_bytes
            report = await Rebuild(grid, RecordRoster(anew), header_limit_bytes=limit_bytes).run_once()
            assert (report.rebuilt, report.added) == (("b",), 2)
            said_here = [await said_by(grid.sites[name].catalogue) for name in "ab"]
            assert said_here[0] == said_here[1]

    asyncio.run(rebuilt())


def test_objects_and_a_catalogue_of_different_sites_are_refused_in_a_line(places: Places) -> None:
    making.prepare(places.settings("before"))
    anew = places.settings("anew", b="c", c="b")
    with pytest.raises(UserError, match=r"^site b: the objects at .* are of site b \(.*, and the catal"):
        making.prepare(anew)
    assert not record.is_whole(anew)
    other = places.settings("other")
    shutil.rmtree(places.folder / "b" / "objects")
    with pytest.raises(UserError, match=r"^site b: the catalogue at .* holds no objects: name the place"):
        making.prepare(other)


def test_a_catalogue_of_another_generation_than_the_objects_is_refused(places: Places) -> None:
    before = places.settings("before")
    making.prepare(before)
    b = before.sites[1]
    places.lose_catalogue("b")
    catalogues.make(b, replace(identities(before)["b"], generation=7))
    with pytest.raises(UserError, match=r"generation 1\), and the catalogue .* generation 7\): name two"):
        making.prepare(places.settings("anew"))


def test_a_new_site_beside_others_that_were_there_is_to_be_filled(places: Places) -> None:
    making.prepare(places.settings("before"))
    shutil.rmtree(places.folder / "c")
    places.lose_catalogue("c")
    anew = places.settings("anew")
    assert len(making.prepare(anew)) == 2
    assert {name: one.filling for name, one in record.of_sites(anew).items()} == dict.fromkeys("abc", True)


def test_site_init_says_what_it_uses(tmp_path: Path) -> None:
    settings = load(None, data_folder=tmp_path / "data")
    making.prepare(settings)
    (settings.data_folder / record.RECORD).unlink()
    done = atria("site", "init", "--data", settings.data_folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("already holds 0 studies, 0 instances (site id ") == 3
