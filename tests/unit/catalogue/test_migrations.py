"""Catalogues of older schemas are brought up to date, and not worked with before."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy

from cluster.nouns import Level
from storage_node.catalogue import migrations, schema
from storage_node.catalogue.attributes import ATTRIBUTES
from storage_node.catalogue.keys import OneOf
from storage_node.catalogue.matching import Query
from storage_node.catalogue.memory import MemoryCatalogue
from storage_node.catalogue.protocol import CatalogueUnavailable
from storage_node.catalogue.revisions import NewerSchema, OlderSchema, Upgraded
from storage_node.catalogue.sqlite import upgrading
from storage_node.catalogue.sqlite.catalogue import SqliteCatalogue
from tests.contract.catalogue.conftest import IDENTITY
from tests.contract.catalogue.rows import CT, MR, add, fact, row
from tests.unit.catalogue import schema_0001


@pytest.fixture
def file(tmp_path: Path) -> Path:
    SqliteCatalogue.create(tmp_path / "catalogue.sqlite", IDENTITY)
    return tmp_path / "catalogue.sqlite"


async def _everything(catalogue: MemoryCatalogue | SqliteCatalogue) -> list[object]:
    told: list[object] = [await catalogue.counts()]
    told += [match for level in Level async for match in catalogue.find(Query(level), 100)]
    told += [entry async for entry in catalogue.walk()]
    told += [summary async for summary in catalogue.studies()]
    return told


async def test_a_catalogue_of_the_first_schema_goes_on_as_if_it_had_been_written_by_this_code(
    tmp_path: Path,
) -> None:
    rows = [row(f"1.{n}", f"1.{n}.1", f"1.{n}.1.1", minute=n, order=1) for n in range(3)]
    rows.append(row("1.1", "1.1.1", "1.1.1.1", content="again", sop_class=MR, minute=9, order=2))
    file = tmp_path / "catalogue.sqlite"
    schema_0001.make(file, IDENTITY, rows)
    upgrading.upgrade("a", file)
    upgraded, reference = SqliteCatalogue("a", file, IDENTITY), MemoryCatalogue("a", IDENTITY)
    for added in rows:
        await reference.add(added, verified_at=added.provenance.received_at)
    assert await _everything(upgraded) == await _everything(reference)
    for catalogue in (upgraded, reference):
        await catalogue.decide(fact(rows[0]))
        await add(catalogue, row("1.1", "1.1.1", "1.1.1.2", sop_class=CT))
        await add(catalogue, replace(rows[2], order=4))
    assert await _everything(upgraded) == await _everything(reference)
    await upgraded.close()


async def test_names_are_found_by_the_form_that_they_are_compared_in_now(tmp_path: Path) -> None:
    rows = [
        replace(row("1.1", name="Doe^Jane"), order=1),
        replace(row("1.2", name="Hong^ = 洪^吉洞", character_set="ISO_IR 192"), order=1),
    ]
    file = tmp_path / "catalogue.sqlite"
    schema_0001.make(file, IDENTITY, rows)
    with closing(sqlite3.connect(file, isolation_level=None)) as older:
        older.execute(
            "UPDATE studies SET several = 1, patient_name = 'hong^ = 洪^吉洞'"
            " WHERE patient_name <> 'doe^jane'"
        )
    upgrading.upgrade("a", file)
    upgraded = SqliteCatalogue("a", file, IDENTITY)
    keys = (OneOf(ATTRIBUTES[0x00100010], ("洪^吉洞",)),)
    assert [match.uid async for match in upgraded.find(Query(Level.STUDY, keys), 10)] == [("1.2",)]
    await upgraded.close()


async def test_what_the_code_of_before_still_writes_fails_after_the_upgrade(tmp_path: Path) -> None:
    """It would be in no summary, and no comparison of sites would find it."""
    file = tmp_path / "catalogue.sqlite"
    schema_0001.make(file, IDENTITY, [replace(row(), order=1)])
    upgrading.upgrade("a", file)
    upgraded = SqliteCatalogue("a", file, IDENTITY)
    await upgraded.counts()
    with closing(sqlite3.connect(file)) as older, pytest.raises(sqlite3.OperationalError):
        older.execute("SELECT precedence, fingerprint, sop_classes FROM series")
    await upgraded.close()


async def test_an_upgrade_that_is_cut_short_leaves_the_catalogue_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "catalogue.sqlite"
    schema_0001.make(file, IDENTITY, [replace(row(), order=1)])
    monkeypatch.setattr("storage_node.catalogue.views._hash", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        upgrading.upgrade("a", file)
    monkeypatch.undo()
    assert upgrading.upgrade("a", file) == Upgraded("0001", schema.REVISION)
    again = SqliteCatalogue("a", file, IDENTITY)
    assert [summary.entries async for summary in again.studies()] == [1]
    await again.close()


@pytest.mark.parametrize(
    "statement", ["DELETE FROM alembic_version", "UPDATE alembic_version SET version_num = '0000a'"]
)
async def test_a_schema_that_cannot_be_upgraded_is_told_in_one_line(file: Path, statement: str) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute(statement)
    with pytest.raises(CatalogueUnavailable, match="cannot be brought to schema") as caught:
        upgrading.upgrade("a", file)
    assert "\n" not in str(caught.value)


async def test_an_older_schema_is_not_worked_with_and_the_line_names_the_command(tmp_path: Path) -> None:
    file = tmp_path / "catalogue.sqlite"
    schema_0001.make(file, IDENTITY, [replace(row(), order=1)])
    catalogue = SqliteCatalogue("a", file, IDENTITY)
    for _ in range(2):
        with pytest.raises(OlderSchema, match=r"has schema 0001, .* `atria catalogue upgrade a`$"):
            await catalogue.counts()
    assert upgrading.upgrade("a", file) == Upgraded("0001", schema.REVISION)
    assert (await catalogue.counts()).versions == 1
    assert upgrading.upgrade("a", file) == Upgraded(schema.REVISION, schema.REVISION)
    await catalogue.close()


async def test_many_that_upgrade_at_once_upgrade_once(tmp_path: Path) -> None:
    file = tmp_path / "catalogue.sqlite"
    schema_0001.make(file, IDENTITY, [replace(row(), order=1)])
    done = await asyncio.gather(*(asyncio.to_thread(upgrading.upgrade, "a", file) for _ in range(4)))
    assert sorted(one.before for one in done) == ["0001", *[schema.REVISION] * 3]


def test_what_is_not_there_is_not_upgraded_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(CatalogueUnavailable, match="unable to open database file"):
        upgrading.upgrade("a", tmp_path / "catalogue.sqlite")
    assert not list(tmp_path.iterdir())


async def test_a_newer_schema_is_refused_in_one_line(file: Path) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("UPDATE alembic_version SET version_num = '9999'")
    catalogue = SqliteCatalogue("a", file, IDENTITY)
    with pytest.raises(NewerSchema, match="schema 9999, and this Atria knows up to") as caught:
        await catalogue.counts()
    assert "\n" not in str(caught.value)
    await catalogue.close()
    with pytest.raises(NewerSchema, match="schema 9999, and this Atria knows up to"):
        upgrading.upgrade("a", file)


async def test_a_newer_schema_that_only_adds_to_ours_is_worked_with(file: Path) -> None:
    for usable_from, works in ((schema.REVISION, True), ("9998", False)):
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("UPDATE alembic_version SET version_num = '9999'")
            other.execute("UPDATE site SET usable_from = ?", (usable_from,))
        catalogue = SqliteCatalogue("a", file, IDENTITY)
        if works:
            assert (await catalogue.counts()).versions == 0
        else:
            with pytest.raises(NewerSchema):
                await catalogue.counts()
        await catalogue.close()


def test_the_migrations_lead_to_the_schema_of_the_code(file: Path) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    engine = sqlalchemy.create_engine(f"sqlite:///{file}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert context.get_current_revision() == schema.REVISION
        assert compare_metadata(context, schema.metadata) == []
        made = {
            sql for (sql,) in connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE type = 'table'")
        }
    engine.dispose()
    assert sum("WITHOUT ROWID" in sql for sql in made) == 5


def test_the_code_is_written_for_the_last_migration() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    assert ScriptDirectory.from_config(config).get_heads() == [schema.REVISION]
