"""A PostgreSQL catalogue is brought to the schema of a next release, made up here, while it is used."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from cluster.nouns import Level, SiteIdentity
from storage_node.catalogue.attributes import ATTRIBUTES
from storage_node.catalogue.keys import OneOf
from storage_node.catalogue.matching import Query
from storage_node.catalogue.postgresql import database, migrations, upgrading
from storage_node.catalogue.postgresql.catalogue import PostgresqlCatalogue
from storage_node.catalogue.protocol import CatalogueUnavailable
from storage_node.catalogue.revisions import NewerSchema, OlderSchema, Upgraded
from tests.contract.catalogue.rows import add, row
from tests.postgresql import Databases

IDENTITY = SiteIdentity("a", "7d3f4d1c-6c8e-4a3c-9a55-3a7d5f0f1b11", 1)
NOW, NEXT = migrations.REVISION, "9000"
EXPAND = f"ALTER TABLE versions ADD COLUMN more text; UPDATE alembic_version SET version_num = '{NEXT}'"


@pytest.fixture
def next_release(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Code that needs a schema with one column more."""
    first = migrations.script
    with monkeypatch.context() as patched:
        patched.setattr(database, "REVISION", NEXT)
        patched.setattr(upgrading, "REVISION", NEXT)
        patched.setattr(migrations, "script", lambda since: EXPAND if since else first(since))
        yield patched


async def test_an_older_schema_is_not_worked_with_until_it_is_upgraded(
    databases: Databases, next_release: pytest.MonkeyPatch
) -> None:
    async with databases.made(IDENTITY) as location:
        catalogue = PostgresqlCatalogue("a", location, IDENTITY)
        for _ in range(2):
            with pytest.raises(
                OlderSchema, match=rf"has schema {NOW}, and .* {NEXT}: `atria catalogue upgrade a`$"
            ):
                await catalogue.counts()
        assert await upgrading.upgrade("a", location) == Upgraded(NOW, NEXT)
        assert (await catalogue.counts()).versions == 0
        assert await upgrading.upgrade("a", location) == Upgraded(NEXT, NEXT)
        await catalogue.close()


async def test_who_is_at_work_goes_on_while_it_is_upgraded_and_many_upgrade_once(
    databases: Databases, next_release: pytest.MonkeyPatch
) -> None:
    async with databases.made(IDENTITY) as location:
        next_release.setattr(database, "REVISION", NOW)
        catalogue = PostgresqlCatalogue("a", location, IDENTITY)
        at_work, upgraded = asyncio.Event(), asyncio.Event()
        stored = 0

        async def store() -> None:
            nonlocal stored
            while not upgraded.is_set():
                await add(catalogue, row(sop=f"1.{stored}"))
                stored += 1
                at_work.set()

        storing = asyncio.create_task(store())
        await at_work.wait()
        done = await asyncio.gather(*(upgrading.upgrade("a", location) for _ in range(3)))
        upgraded.set()
        await storing
        assert sorted(one.before for one in done) == [NOW, NEXT, NEXT]
        await catalogue.close()
        next_release.setattr(database, "REVISION", NEXT)
        catalogue = PostgresqlCatalogue("a", location, IDENTITY)
        assert (await catalogue.counts()).versions == stored
        await catalogue.close()


async def test_an_upgrade_gives_way_to_a_long_transaction_and_keeps_nobody_waiting(
    databases: Databases, next_release: pytest.MonkeyPatch
) -> None:
    async with databases.made(IDENTITY) as location:
        next_release.setattr(upgrading, "_LOCK_TIMEOUT_MS", 50)
        next_release.setattr(upgrading, "_UPGRADE_ATTEMPTS", 3)
        reader = await databases.server.connect(location.url.partition("?")[0].rpartition("/")[2])
        transaction = reader.transaction()
        await transaction.start()
        await reader.execute("SELECT count(*) FROM atria.versions")
        with pytest.raises(CatalogueUnavailable, match="others are at work on it all the time"):
            await upgrading.upgrade("a", location)
        await transaction.rollback()
        assert (await upgrading.upgrade("a", location)).now == NEXT
        await reader.close()


async def test_what_cannot_be_upgraded_is_told_in_a_line(databases: Databases) -> None:
    async with databases.empty() as location:
        with pytest.raises(CatalogueUnavailable, match="holds no catalogue"):
            await upgrading.upgrade("a", location)
    for revision, error in (("9999", NewerSchema), ("0000a", CatalogueUnavailable)):
        async with databases.made(IDENTITY) as location:
            async with database.connected("a", location) as connection:
                await connection.execute("UPDATE alembic_version SET version_num = $1", revision)
            with pytest.raises(error) as told:
                await upgrading.upgrade("a", location)
            assert "\n" not in str(told.value)


async def test_names_are_brought_to_the_form_that_they_are_compared_in_now(databases: Databases) -> None:
    async with databases.made(IDENTITY) as location:
        catalogue = PostgresqlCatalogue("a", location, IDENTITY)
        for n, name in enumerate(("Doe^Jane", "Hong^ = 洪^吉洞")):
            await add(catalogue, row(f"1.{n}", name=name, character_set="ISO_IR 192"))
        async with database.connected("a", location) as connection:
            await connection.execute(
                "UPDATE studies SET patient_name = 'hong^ = 洪^吉洞' WHERE patient_name <> 'doe^jane'"
            )
            await upgrading.fold_names(connection)
        keys = (OneOf(ATTRIBUTES[0x00100010], ("洪^吉洞",)),)
        assert [match.uid async for match in catalogue.find(Query(Level.STUDY, keys), 10)] == [("1.1",)]
        await catalogue.close()
