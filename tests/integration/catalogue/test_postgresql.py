"""A PostgreSQL catalogue, where several processes change it, and where its server fails."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest

from cluster.nouns import Fact, FactKind, Level, SiteIdentity
from storage_node.catalogue.matching import Query, by_uids
from storage_node.catalogue.memory import MemoryCatalogue
from storage_node.catalogue.postgresql import database, migrations
from storage_node.catalogue.postgresql.catalogue import PostgresqlCatalogue
from storage_node.catalogue.postgresql.database import Location
from storage_node.catalogue.protocol import Catalogue, CatalogueUnavailable, Row
from storage_node.catalogue.revisions import NewerSchema
from tests.contract.catalogue.rows import BEGIN, CT, MR, add, debt, fact, row
from tests.postgresql import Databases

IDENTITY = SiteIdentity("a", "7d3f4d1c-6c8e-4a3c-9a55-3a7d5f0f1b11", 1)
NEXT = SiteIdentity("a", IDENTITY.site_id, 2)
PROCESSES = 4


async def everything(catalogue: Catalogue) -> dict[str, Any]:
    """All that can be read from a catalogue."""
    found = {level: [match async for match in catalogue.find(Query(level), 10_000)] for level in Level}
    return {
        "found": found,
        "walk": [entry async for entry in catalogue.walk()],
        "studies": [summary async for summary in catalogue.studies()],
        "counts": await catalogue.counts(),
    }


def some_changes(seed: int) -> list[Row | Fact]:
    """Versions and facts of few instances in few series: most of them meet others."""
    chance = random.Random(seed)
    changes: list[Row | Fact] = []
    for _ in range(150):
        study, series, sop = chance.randint(1, 2), chance.randint(1, 2), chance.randint(1, 4)
        one = row(
            f"1.{study}",
            f"1.{study}.{series}",
            f"1.{study}.{series}.{sop}",
            content=chance.choice("xyz"),
            minute=chance.randint(0, 5),
            sop_class=chance.choice([CT, MR]),
            order=chance.randint(1, 3),
            modality=chance.choice(["CT", "MR"]),
        )
        is_fact = chance.random() < 0.2
        changes.append(fact(one, chance.randint(1, 3), chance.choice(list(FactKind))) if is_fact else one)
    return changes


async def make(catalogue: Catalogue, change: Row | Fact) -> None:
    if isinstance(change, Row):
        await add(catalogue, change)
    else:
        await catalogue.decide(change)


@pytest.mark.parametrize("seed", range(4))
async def test_what_several_processes_change_at_once_is_what_one_would_have_changed(
    databases: Databases, seed: int
) -> None:
    changes = some_changes(seed)
    expected = MemoryCatalogue(IDENTITY.name, IDENTITY)
    for change in changes:
        await make(expected, change)
    async with databases.made(IDENTITY) as location, AsyncExitStack() as stack:
        processes = [PostgresqlCatalogue("a", location, IDENTITY) for _ in range(PROCESSES)]
        for process in processes:
            stack.push_async_callback(process.close)
        await asyncio.gather(
            *(make(processes[number % PROCESSES], change) for number, change in enumerate(changes))
        )
        assert await everything(processes[0]) == await everything(expected)


async def test_versions_that_come_to_several_processes_at_once_get_orders_of_their_own(
    databases: Databases,
) -> None:
    async with databases.made(IDENTITY) as location, AsyncExitStack() as stack:
        processes = [PostgresqlCatalogue("a", location, IDENTITY) for _ in range(PROCESSES)]
        for process in processes:
            stack.push_async_callback(process.close)
        versions = [row(content=str(number)) for number in range(40)]
        orders = await asyncio.gather(
            *(add(processes[number % PROCESSES], version) for number, version in enumerate(versions))
        )
        assert sorted(orders) == list(range(1, 41))


async def test_a_debt_that_is_noted_with_a_newer_row_outlives_the_payment_of_the_older(
    databases: Databases,
) -> None:
    async with databases.made(IDENTITY) as location, AsyncExitStack() as stack:
        one, other = (PostgresqlCatalogue("a", location, IDENTITY) for _ in range(2))
        stack.push_async_callback(one.close)
        stack.push_async_callback(other.close)
        for number in range(100):
            older = row(sop=f"1.2.3.1.{number}", order=1)
            newer = replace(older, order=2)
            await add(one, older, [debt(older)])
            await asyncio.gather(add(one, newer, [debt(newer)]), other.settle("b", older))
            noted = await one.debts(1000)
            assert debt(newer) in noted, f"round {number}"


async def test_what_was_confirmed_outlives_a_server_that_is_killed(own: Databases) -> None:
    async with own.made(IDENTITY) as location:
        catalogue = PostgresqlCatalogue("a", location, IDENTITY)
        confirmed: list[Row] = []

        async def store(worker: int) -> None:
            for number in range(10_000):
                one = row("1.1", f"1.1.{worker}", f"1.1.{worker}.{number}")
                await catalogue.add(one, [debt(one)], verified_at=BEGIN)
                confirmed.append(one)

        for _ in range(3):
            storing = [asyncio.create_task(store(worker)) for worker in range(8)]
            wanted = len(confirmed) + 100
            while len(confirmed) < wanted:
                await asyncio.wait(storing, timeout=0.001)
            await own.server.kill()
            outcomes = await asyncio.gather(*storing, return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} == {CatalogueUnavailable}
            await own.server.start()
            for one in confirmed:
                assert [held.version.digest for held in await catalogue.rows_of(one.version.instance)] == [
                    one.version.digest
                ]
            owed = {noted.digest for noted in await catalogue.debts(100_000)}
            assert owed >= {one.version.digest for one in confirmed}
        await catalogue.close()


async def test_a_server_that_forgets_what_it_confirmed_is_refused(own: Databases) -> None:
    async with own.made(IDENTITY) as location:
        connection = await own.server.connect()
        await connection.execute("ALTER SYSTEM SET fsync = off")
        await connection.execute("SELECT pg_reload_conf()")
        while await connection.fetchval("SELECT current_setting('fsync')") != "off":
            await connection.execute("SELECT 1")
        await connection.close()
        catalogue = PostgresqlCatalogue("a", location, IDENTITY)
        with pytest.raises(CatalogueUnavailable, match="fsync is off"):
            await catalogue.identity()
        await catalogue.close()


async def test_a_newer_schema_is_refused_in_one_line(databases: Databases) -> None:
    async with databases.made(IDENTITY) as location:
        await _execute(location, "UPDATE atria.alembic_version SET version_num = '9999'")
        await _execute(location, "UPDATE atria.site SET usable_from = ''")
        catalogue = PostgresqlCatalogue("a", location, IDENTITY)
        with pytest.raises(CatalogueUnavailable, match="has schema 9999, and this Atria knows up to") as told:
            await add(catalogue, row())
        assert "\n" not in str(told.value)
        await catalogue.close()


async def test_a_newer_schema_that_only_adds_to_ours_is_worked_with(databases: Databases) -> None:
    async with databases.made(IDENTITY) as location:
        await _execute(location, "UPDATE atria.alembic_version SET version_num = '9999'")
        for usable_from, works in ((migrations.REVISION, True), ("9998", False)):
            await _execute(location, f"UPDATE atria.site SET usable_from = '{usable_from}'")
            catalogue = PostgresqlCatalogue("a", location, IDENTITY)
            if works:
                await add(catalogue, row())
            else:
                with pytest.raises(NewerSchema):
                    await add(catalogue, row())
            await catalogue.close()


async def test_the_release_before_works_with_a_catalogue_that_is_made_now(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "REVISION", "0002")
    async with databases.made(IDENTITY) as location:
        catalogue = PostgresqlCatalogue("a", location, IDENTITY)
        assert await catalogue.identity() == IDENTITY
        await catalogue.close()


async def test_another_sites_catalogue_is_neither_read_nor_made(databases: Databases) -> None:
    async with databases.made(IDENTITY) as location:
        catalogue = PostgresqlCatalogue("a", location, NEXT)
        with pytest.raises(CatalogueUnavailable, match="another was expected"):
            await catalogue.identity()
        with pytest.raises(CatalogueUnavailable, match="another was expected"):
            await add(catalogue, row())
        await catalogue.close()
        with pytest.raises(FileExistsError, match=r"of site a, .*, 1"):
            await database.create(location, NEXT)
        await database.create(location, IDENTITY)


async def test_a_database_that_cannot_be_reached_is_unavailable(databases: Databases) -> None:
    location = Location("postgresql://atria@127.0.0.1:1/none", databases.server.passfile)
    catalogue = PostgresqlCatalogue("a", location, IDENTITY)
    with pytest.raises(CatalogueUnavailable, match=r"127\.0\.0\.1:1"):
        await catalogue.identity()
    with pytest.raises(CatalogueUnavailable):
        await add(catalogue, row())
    await catalogue.close()


async def test_a_process_of_a_former_generation_changes_neither_the_new_catalogue_nor_the_old(
    databases: Databases,
) -> None:
    async with databases.made(IDENTITY) as location:
        former = PostgresqlCatalogue("a", location, IDENTITY)
        for number in range(5):  # so often that its statements are prepared
            await add(former, row(sop=f"1.2.3.1.{number}"))
        await database.move_aside("a", location, "before_generation_2")
        with pytest.raises(CatalogueUnavailable):
            await add(former, row(sop="1.2.3.1.100"))
        await database.create(location, NEXT)
        with pytest.raises(CatalogueUnavailable, match="another was expected"):
            await add(former, row(sop="1.2.3.1.101"))
        await former.close()
        present = PostgresqlCatalogue("a", location, NEXT)
        assert (await present.counts()).versions == 0
        await present.close()
        kept = await _fetch(location, "SELECT count(*) FROM atria_before_generation_2.versions")
        assert kept == 5


async def test_a_row_that_postgresql_cannot_hold_harms_no_other(databases: Databases) -> None:
    chance = random.Random(1)
    endless = "".join(chance.choice("0123456789.") for _ in range(4000))
    async with databases.catalogue(IDENTITY) as catalogue:
        rows = [row(sop="1.2.3.1.1"), row(sop=endless), row(sop="1.2.3.1.3")]
        met = await asyncio.gather(*(add(catalogue, one) for one in rows), return_exceptions=True)
        assert met[0::2] == [1, 1]
        assert isinstance(met[1], Exception)
        assert not isinstance(met[1], CatalogueUnavailable)
        assert (await catalogue.counts()).instances == 2


async def test_a_row_that_postgresql_cannot_hold_harms_none_of_many(databases: Databases) -> None:
    chance = random.Random(3)
    endless = "".join(chance.choice("0123456789.") for _ in range(4000))
    async with databases.catalogue(IDENTITY) as catalogue:
        rows = [row(sop=f"1.2.3.1.{number}") for number in range(50)]
        rows[30] = row(sop=endless)
        met = await asyncio.gather(*(add(catalogue, one) for one in rows), return_exceptions=True)
        assert [number for number, one in enumerate(met) if one != 1] == [30]
        counts = await catalogue.counts()
        assert (counts.instances, counts.versions, counts.studies) == (49, 49, 1)


async def test_a_change_that_is_given_up_halfway_leaves_nothing_locked(databases: Databases) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
    async with databases.made(IDENTITY) as location, AsyncExitStack() as stack:
        one, other = (PostgresqlCatalogue("a", location, IDENTITY) for _ in range(2))
        stack.push_async_callback(one.close)
        stack.push_async_callback(other.close)
        first = row()
        await add(one, first)
        await _execute(location, "ALTER TABLE atria.series_counts ADD CHECK (instances < 2) NOT VALID")
        second = row(sop="1.2.3.1.2")
        with pytest.raises(Exception, match="series_counts"):
            await add(one, second)
        await _execute(
            location, "ALTER TABLE atria.series_counts DROP CONSTRAINT series_counts_instances_check"
        )
        assert await add(other, second) == 1
        assert (await other.counts()).versions == 2
    assert not complaints, "the pool had to end a transaction"


async def test_the_longest_values_that_are_kept_of_a_header_are_stored_and_found(
    databases: Databases,
) -> None:
    chance = random.Random(2)
    value = "".join(chance.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") for _ in range(1024))
    async with databases.catalogue(IDENTITY) as catalogue:
        await add(catalogue, row(patient_id=value, name=value, accession_number=value, issuer=value))
        found = [match async for match in catalogue.find(by_uids(patient_id=value), 10)]
        assert [match.uid for match in found] == [("1.2.3", "1.2.3.1", "1.2.3.1.1")]


async def test_what_a_text_of_postgresql_cannot_hold_is_kept_all_the_same(databases: Databases) -> None:
    async with databases.catalogue(IDENTITY) as catalogue:
        one = row("1.2\0.3", name="Doe\0^Jane", description="a\0b")
        other = row("1.2\0.3", content="x")
        assert await add(catalogue, one, [debt(one)]) == 1
        assert await add(catalogue, one) == 1
        assert await add(catalogue, other) == 2
        held = await catalogue.rows_of(one.version.instance)
        assert [found.version.digest for found in held] == [other.version.digest, one.version.digest]
        assert held[1].header == one.header
        await catalogue.settle("b", replace(one, order=1))
        assert not await catalogue.debts(10)


async def test_what_a_text_cannot_hold_is_kept_of_many_rows(databases: Databases) -> None:
    async with databases.catalogue(IDENTITY) as catalogue:
        rows = [row(sop=f"1.2.3.1.{number}\0.1", number=f"{number}") for number in range(50)]
        assert await asyncio.gather(*(add(catalogue, one) for one in rows)) == [1] * 50
        assert (await catalogue.counts()).instances == 50
        held = await catalogue.rows_of(rows[30].version.instance)
        assert [found.header for found in held] == [rows[30].header]


async def _execute(location: Location, statement: str) -> None:
    import asyncpg

    connection = await asyncpg.connect(location.url, passfile=str(location.passfile))
    await connection.execute(statement)
    await connection.close()


async def _fetch(location: Location, statement: str) -> Any:
    import asyncpg

    connection = await asyncpg.connect(location.url, passfile=str(location.passfile))
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()
