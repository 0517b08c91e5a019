"""By what PostgreSQL finds what is looked for, and what of it its texts cannot hold."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import asyncpg
import pytest

from cluster.nouns import Level, SiteIdentity
from storage_node.catalogue import pages
from storage_node.catalogue.attributes import ATTRIBUTES, Attribute
from storage_node.catalogue.keys import Alike, Combined, Key, Like, OneOf, Within
from storage_node.catalogue.matching import Query
from storage_node.catalogue.postgresql import read
from storage_node.catalogue.postgresql.find import Find
from tests.contract.catalogue.rows import BEGIN, add, row
from tests.postgresql import Databases

IDENTITY = SiteIdentity("a", "7d3f4d1c-6c8e-4a3c-9a55-3a7d5f0f1b11", 1)

PATIENT_ID, NAME = ATTRIBUTES[0x00100020], ATTRIBUTES[0x00100010]
DATE, TIME = ATTRIBUTES[0x00080020], ATTRIBUTES[0x00080030]
ACCESSION, MODALITIES = ATTRIBUTES[0x00080050], ATTRIBUTES[0x00080061]
STUDY, SERIES = ATTRIBUTES[0x0020000D], ATTRIBUTES[0x0020000E]

_FILL = r"""
INSERT INTO versions (id, study_instance_uid, series_instance_uid, sop_instance_uid, digest, key, size_bytes,
    data_set_offset_bytes, sop_class_uid, transfer_syntax_uid, block_digests, received_at, calling_ae,
    called_ae, source, flags, order_number, is_current, header, several, verified_at, is_hidden)
  OVERRIDING SYSTEM VALUE SELECT n, '1.' || n, '1.' || n || '.1', '1.' || n || '.1.1', md5(n::text), '', 1, 1,
    '1.2', '1.2', '', '2024-01-01T00:00:00.000000+00:00', '', '', '', '', 1, true, '', false,
    '2024-01-01T00:00:00.000000+00:00', false
  FROM generate_series(1, 20000) AS n;
INSERT INTO studies (study_instance_uid, rank, representative, patient_key, patient_name, patient_id,
    study_date, accession_number, several)
  SELECT '1.' || n, '2024' || n, n, 'P' || n || E'\n', 'yamada' || n || '^tarou=山田' || n || '^太郎',
    'P' || n, to_char(date '2014-01-01' + n % 3650, 'YYYYMMDD'), 'A' || n, true
  FROM generate_series(1, 20000) AS n;
INSERT INTO series (study_instance_uid, series_instance_uid, rank, representative, modality, several)
  SELECT '1.' || n, '1.' || n || '.1', '2024' || n, n, 'CT', false FROM generate_series(1, 20000) AS n;
INSERT INTO series_counts SELECT '1.' || n, '1.' || n || '.1', 0, 1, 1, 1, n
  FROM generate_series(1, 20000) AS n;
INSERT INTO summaries SELECT '1.' || n, part, 1, n
  FROM generate_series(1, 20000) AS n, generate_series(0, 1) AS part
"""


@pytest.fixture
async def filled(databases: Databases) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a catalogue of 20,000 studies, each with a name in two representations."""
    async with databases.made(IDENTITY) as location:
        connection = await asyncpg.connect(
            location.url, passfile=str(location.passfile), server_settings={"search_path": "atria, public"}
        )
        try:
            await connection.execute(_FILL)
            await connection.execute("VACUUM ANALYZE")
            yield connection
        finally:
            await connection.close()


async def _plan(connection: asyncpg.Connection, ask: Callable[[asyncpg.Connection], Awaitable[Any]]) -> str:
    """Return the plan of what is read; of a page without what else is read of its entities."""
    asked: asyncio.Future[asyncpg.connection.LoggedQuery] = asyncio.get_running_loop().create_future()

    def note(logged: asyncpg.connection.LoggedQuery) -> None:
        if logged.query.startswith(("SELECT", "WITH page")) and not asked.done():
            asked.set_result(logged)

    with connection.query_logger(note):
        await ask(connection)
        logged = await asked
    plan = await connection.fetch(f"EXPLAIN {logged.query}", *logged.args)
    text = "\n".join(line for (line,) in plan)
    return text.rpartition("CTE page")[2].partition("InitPlan")[0]


@pytest.mark.parametrize(
    ("level", "keys", "index"),
    [
        (Level.STUDY, [OneOf(PATIENT_ID, ("P7",))], "studies_by_patient_id"),
        (Level.PATIENT, [OneOf(PATIENT_ID, ("P7",))], "studies_by_patient_id"),
        (Level.STUDY, [OneOf(ACCESSION, ("A7",))], "studies_by_accession_number"),
        (Level.STUDY, [OneOf(NAME, ("yamada77^tarou",))], "studies_by_part_of_name"),
        (Level.STUDY, [Like(NAME, ("yamada777*",))], "studies_by_patient_name"),
        (Level.STUDY, [Like(NAME, ("*777^tar*",))], "studies_by_part_of_name"),
        (
            Level.STUDY,
            [Within(DATE, "20190101", "20190102"), OneOf(MODALITIES, ("CT",))],
            "studies_by_study_date",
        ),
        (Level.STUDY, [OneOf(NAME, ("=山田777^太郎",))], "studies_by_part_of_name"),
        (
            Level.STUDY,
            [Combined(DATE, TIME, "20190101100000.000000", "20190102080059.999999")],
            "studies_by_study_date",
        ),
        (Level.SERIES, [OneOf(STUDY, ("1.77",))], "series_pkey"),
        (Level.IMAGE, [OneOf(STUDY, ("1.77",)), OneOf(SERIES, ("1.77.1",))], "versions_study_instance_uid"),
    ],
)
async def test_what_is_rare_is_found_by_an_index_though_every_name_has_two_representations(
    filled: asyncpg.Connection, level: Level, keys: list[Key], index: str
) -> None:
    find = Find(Query(level, tuple(keys)))
    assert 0 < len((await find.page(filled, None, 200)).matches) < 200
    plan = await _plan(filled, partial(find.page, after=None, size=200))
    assert index in plan
    assert "Seq Scan on studies" not in plan
    assert "Seq Scan on versions" not in plan
    assert "Scan using studies_pkey" not in plan or level is not Level.STUDY


async def test_a_fuzzy_name_is_looked_for_by_parts_of_its_words(filled: asyncpg.Connection) -> None:
    find = Find(Query(Level.STUDY, (Alike(NAME, ("yamata777", "tarou")),)))
    assert [match.uid async for match in pages.matches(partial(find.page, filled), 10)] == [("1.777",)]
    rare = Find(Query(Level.STUDY, (Alike(NAME, ("nobody", "tarou")),)))
    assert "studies_by_part_of_name" in await _plan(filled, partial(rare.page, after=None, size=200))


async def test_what_is_in_no_column_is_looked_for_in_what_the_other_keys_leave_over(
    filled: asyncpg.Connection,
) -> None:
    other_id = OneOf(Attribute(0x00101002, "", "LO", Level.PATIENT), ("X",))
    find = Find(Query(Level.STUDY, (OneOf(PATIENT_ID, ("P7",)),), (other_id,)))
    assert (await find.page(filled, None, 200)).matches == ()
    assert "studies_by_patient_id" in await _plan(filled, partial(find.page, after=None, size=200))


@pytest.mark.parametrize("keys", [[], [Like(NAME, ("y*",))]])
async def test_what_most_studies_have_is_read_in_the_order_of_the_answers(
    filled: asyncpg.Connection, keys: list[Key]
) -> None:
    plan = await _plan(filled, partial(Find(Query(Level.STUDY, tuple(keys))).page, after=None, size=200))
    assert "Index Scan using studies_pkey" in plan
    assert "Sort" not in plan


@pytest.mark.parametrize(
    ("ask", "index"),
    [
        (partial(read.least_verified, before=BEGIN, limit=10), "versions_by_verification"),
        (partial(read.walk, study="1.77", after=None, size=10), "versions_study_instance_uid"),
        (partial(read.walk, study=None, after=None, size=10), "versions_study_instance_uid"),
        (partial(read.studies, after="", size=10), "summaries_pkey"),
    ],
)
async def test_what_upkeep_asks_is_read_in_the_order_of_an_index(
    filled: asyncpg.Connection, ask: Callable[[asyncpg.Connection], Awaitable[Any]], index: str
) -> None:
    plan = await _plan(filled, ask)
    assert index in plan
    assert "Sort" not in plan


async def test_a_key_may_hold_what_the_database_cannot_and_what_means_something_to_it(
    databases: Databases,
) -> None:
    long = "x" * 100_000
    async with databases.catalogue(IDENTITY) as catalogue:
        for n, name in enumerate(("100%_", "100\\%_", "1000a", "a=b%c")):
            await add(catalogue, row(f"1.{n}", name=name))

        async def find(*keys: Key) -> list[str]:
            return [match.uid[0] async for match in catalogue.find(Query(Level.STUDY, keys), 10)]

        assert await find(Like(NAME, ("100%*",))) == ["1.0"]
        assert await find(OneOf(NAME, ("b%c",))) == ["1.3"]
        assert await find(Like(NAME, ("b%?",))) == ["1.3"]
        assert await find(OneOf(NAME, ("b_c",))) == []
        assert await find(OneOf(PATIENT_ID, ("P1\0",))) == []
        assert await find(OneOf(PATIENT_ID, ("\0", "P1"))) == ["1.0", "1.1", "1.2", "1.3"]
        assert await find(Like(PATIENT_ID, (f"{long}*",)), OneOf(NAME, (long,))) == []
