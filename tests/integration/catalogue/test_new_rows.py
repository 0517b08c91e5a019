"""Rows of which nothing is known are added by one call: as by many steps, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import asyncpg
import pytest

from cluster.nouns import SiteIdentity, time_text
from storage_node.catalogue.postgresql import new_rows
from storage_node.catalogue.postgresql.catalogue import PostgresqlCatalogue
from storage_node.catalogue.postgresql.changes import AddFact, AddRow, Change
from storage_node.catalogue.postgresql.database import Location
from storage_node.catalogue.postgresql.standings import Standings
from storage_node.catalogue.postgresql.write import make
from storage_node.catalogue.protocol import Met
from tests.contract.catalogue.rows import BEGIN, MR, debt, fact, row
from tests.integration.catalogue.under_way import adding, connected, under_way
from tests.postgresql import Databases

IDENTITY = SiteIdentity("a", "7d3f4d1c-6c8e-4a3c-9a55-3a7d5f0f1b11", 1)
FIRST = row(sop="1.2.3.1.1")
LATER = row(sop="1.2.3.1.2", minute=1, number="2")

_HELD = {
    "versions": "study_instance_uid, series_instance_uid, sop_instance_uid, digest, key, size_bytes,"
    " data_set_offset_bytes, sop_class_uid, transfer_syntax_uid, block_digests, received_at, calling_ae,"
    " called_ae, source, flags, order_number, is_current, header, content_date, content_time,"
    " instance_number, several, verified_at, is_hidden",
    "series_counts": "*",
    "series_classes": "*",
    "summaries": "*",
    "series": "study_instance_uid, series_instance_uid, rank, modality",
    "studies": "study_instance_uid, rank, patient_key",
}


class Writer:
    """Changes a catalogue in the two ways there are, on a connection of its own."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection
        self.standings = Standings()

    async def make(self, *changes: Change) -> Sequence[Met | None]:
        """Make changes step by step."""
        return await make(self.connection, changes, part=3, check=lambda _: None, standings=self.standings)

    async def add(self, *changes: Change, expected: SiteIdentity = IDENTITY) -> Sequence[Met] | None:
        """Add rows by one call, if that can be."""
        return await new_rows.add(
            self.connection, changes, part=3, expected=expected, standings=self.standings
        )

    async def held(self) -> dict[str, list[tuple[object, ...]]]:
        """Return all that is held, but numbers of rows and of transactions."""
        return {
            table: [
                tuple(one)
                for one in await self.connection.fetch(f"SELECT {columns} FROM {table} ORDER BY 1, 2, 3")
            ]
            for table, columns in _HELD.items()
        }


@pytest.fixture
async def location(databases: Databases) -> AsyncIterator[Location]:
    async with databases.made(IDENTITY) as made:
        yield made


@pytest.fixture
async def filled(location: Location) -> AsyncIterator[Writer]:
    """A writer to a catalogue with one row, which stands for its series and study."""
    async with connected(location) as connection:
        made = Writer(connection)
        await made.make(adding(FIRST))
        await made.make(adding(row(sop="1.2.3.1.9", minute=9)))  # by which it learns what stands
        yield made


async def test_one_call_holds_what_many_steps_hold(databases: Databases, filled: Writer) -> None:
    rows = [
        LATER,
        row(sop="1.2.3.1.3", minute=2, sop_class=MR, number="3\\4", name="Müller^Jürgen"),
        row(sop='1.2.3.1."\\{}', minute=3, content="x"),
        replace(row(sop="1.2.3.1.5", minute=4), order=7, flags=()),
    ]
    changes = [adding(one) for one in rows]
    async with databases.made(IDENTITY) as other, connected(other) as connection:
        stepwise = Writer(connection)
        await stepwise.make(adding(FIRST))
        await stepwise.make(adding(row(sop="1.2.3.1.9", minute=9)))
        expected = await stepwise.make(*changes)
        assert await filled.add(*changes) == expected
        assert await filled.held() == await stepwise.held()


@pytest.mark.parametrize(
    "change",
    [
        adding(FIRST),
        adding(row(sop="1.2.3.1.1", content="another", minute=1)),
        adding(row(sop="1.2.3.1.2", minute=-1)),
        adding(row(series="1.2.3.2", sop="1.2.3.2.1", minute=1)),
        adding(row(study="1.3", series="1.3.1", sop="1.3.1.1", minute=1)),
        adding(row(sop="1.2.3.1.\0", minute=1)),
        AddRow(LATER, (debt(LATER),), time_text(BEGIN)),
        AddFact(fact(LATER), ()),
    ],
    ids=["known", "version", "stands", "new series", "new study", "NUL", "owed", "fact"],
)
async def test_what_is_more_than_a_new_row_is_left_alone(filled: Writer, change: Change) -> None:
    before = await filled.held()
    assert await filled.add(adding(LATER), change) is None
    assert await filled.held() == before


async def test_the_database_looks_again_whatever_the_process_believes(filled: Writer) -> None:
    series = ("", "1.2.3.1", "1.2.3.2", "1.3.1")
    filled.standings.learn({(study, one): "" for study in ("1.2.3", "1.3") for one in series})
    before = await filled.held()
    for stands in (
        row(sop="1.2.3.1.2", minute=-1),
        row(series="1.2.3.2", sop="1.2.3.2.1", minute=1),
        row(study="1.3", series="1.3.1", sop="1.3.1.1", minute=1),
    ):
        assert await filled.add(adding(LATER), adding(stands)) is None
    assert await filled.held() == before


async def test_nothing_is_added_to_the_catalogue_of_another(filled: Writer) -> None:
    before = await filled.held()
    for other in (
        replace(IDENTITY, name="b"),
        replace(IDENTITY, site_id=""),
        replace(IDENTITY, generation=2),
    ):
        assert await filled.add(adding(LATER), expected=other) is None
    assert await filled.held() == before


async def test_what_is_decided_meanwhile_is_seen(location: Location, filled: Writer) -> None:
    async with under_way(location, AddFact(fact(LATER), ())):
        adding_it = asyncio.create_task(filled.add(adding(LATER)))
        await asyncio.wait([adding_it], timeout=0.2)
        assert not adding_it.done()  # the deletion has the study alone until it is committed
    assert await adding_it is None
    (met,) = await filled.make(adding(LATER))
    assert met is not None
    assert met.facts == (fact(LATER),)


async def test_rows_beside_others_of_their_series_cost_one_statement_each(location: Location) -> None:
    catalogue = PostgresqlCatalogue("a", location, IDENTITY)
    try:
        for minute in range(2):  # the first stands, by the second it is learnt that it does
            await catalogue.add(row(sop=f"1.2.3.1.{minute}", minute=minute), verified_at=BEGIN)
        async with catalogue._changing.lent() as connection:  # the only one there is
            statements: list[str] = []

            def note(record: asyncpg.connection.LoggedQuery) -> None:
                statements.append(record.query)

            connection.add_query_logger(note)
        await catalogue.add(row(sop="1.2.3.1.9", minute=9), verified_at=BEGIN)
        assert [statement.partition("(")[0] for statement in statements] == ["SELECT add_new"]
    finally:
        await catalogue.close()
