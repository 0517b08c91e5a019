"""The change feed of a PostgreSQL catalogue: in which order, how far, and by what it is read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack

import asyncpg
import pytest
import structlog
from prometheus_client import REGISTRY

from cluster.nouns import SiteIdentity
from storage_node.catalogue.feed import Change
from storage_node.catalogue.postgresql.catalogue import PostgresqlCatalogue
from storage_node.catalogue.postgresql.changes import AddFact
from storage_node.catalogue.postgresql.database import Location
from storage_node.catalogue.postgresql.feed import WARN_AFTER_S, Feed
from storage_node.catalogue.protocol import Row
from tests.contract.catalogue.rows import add, fact, row
from tests.integration.catalogue.under_way import adding, connected, under_way
from tests.postgresql import Databases

IDENTITY = SiteIdentity("a", "7d3f4d1c-6c8e-4a3c-9a55-3a7d5f0f1b11", 1)
ROWS = 100_000

_FILL = f"""
INSERT INTO versions (study_instance_uid, series_instance_uid, sop_instance_uid, digest, key, size_bytes,
    data_set_offset_bytes, sop_class_uid, transfer_syntax_uid, block_digests, received_at, calling_ae,
    called_ae, source, flags, order_number, is_current, header, several, verified_at, is_hidden)
  SELECT '1.' || n / 100, '1.' || n, '1.' || n, md5(n::text), '', 1, 1, '1.2', '1.2', '',
    '2024-01-01T00:00:00.000000+00:00', '', '', '', '', 1, true, '', false,
    '2024-01-01T00:00:00.000000+00:00', false
  FROM generate_series(1, {ROWS}) AS n;
INSERT INTO facts (study_instance_uid, series_instance_uid, sop_instance_uid, digest, epoch, kind, decided_at,
    decided_by, reason, holds)
  SELECT '1.' || n, '', '', md5(n::text), 1, 'retained', '2024-01-01T00:00:00.000000+00:00', '', '', true
  FROM generate_series(1, {ROWS} / 100) AS n
"""


@pytest.fixture
async def location(databases: Databases) -> AsyncIterator[Location]:
    async with databases.made(IDENTITY) as made:
        yield made


@pytest.fixture
async def catalogue(location: Location) -> AsyncIterator[PostgresqlCatalogue]:
    made = PostgresqlCatalogue("a", location, IDENTITY)
    yield made
    await made.close()


def digests(changes: Sequence[Change]) -> list[str]:
    return [change.digest for change in changes]


async def everything(catalogue: PostgresqlCatalogue, after: str | None = None) -> list[Change]:
    found: list[Change] = []
    while page := await catalogue.changes(found[-1].cursor if found else after, 2):
        found += page
    return found


async def test_what_begins_first_and_ends_last_is_not_passed_over(
    location: Location, catalogue: PostgresqlCatalogue
) -> None:
    before, late, soon = row(sop="1"), row("2", "2", "2"), row("3", "3", "3")
    decided, also = fact(late), fact(soon)
    await add(catalogue, before)
    async with under_way(location, adding(late), AddFact(decided, ())):
        await add(catalogue, soon)
        await catalogue.decide(also)
        first = await everything(catalogue)
        assert digests(first) == [before.version.digest]
        assert await everything(catalogue, first[-1].cursor) == []
    rest = await everything(catalogue, first[-1].cursor)
    together = {late.version.digest, decided.digest}
    assert set(digests(rest)[:2]) == together
    assert digests(rest)[2:] == [soon.version.digest, also.digest]
    assert digests(await everything(catalogue)) == [before.version.digest, *digests(rest)]


async def test_what_is_rolled_back_holds_nothing_up(
    location: Location, catalogue: PostgresqlCatalogue
) -> None:
    async with under_way(location, adding(row("9", "9", "9")), end="ROLLBACK"):
        await add(catalogue, row())
    assert digests(await everything(catalogue)) == [row().version.digest]


async def test_several_processes_that_write_at_once_are_read_whole_by_one_who_never_waits(
    location: Location, catalogue: PostgresqlCatalogue
) -> None:
    rows = [row(f"1.{number % 9}", f"1.{number % 9}", f"1.{number}") for number in range(240)]
    read: list[Change] = []

    async def writing(process: PostgresqlCatalogue, part: Sequence[Row]) -> None:
        for one in part:
            await add(process, one)

    async def reading() -> None:
        while len(read) < len(rows):
            read.extend(await catalogue.changes(read[-1].cursor if read else None, 5))

    async with AsyncExitStack() as stack, asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        tasks.create_task(reading())
        for number in range(4):
            process = PostgresqlCatalogue("a", location, IDENTITY)
            stack.push_async_callback(process.close)
            tasks.create_task(writing(process, rows[number::4]))
    assert sorted(digests(read)) == sorted(one.version.digest for one in rows)


async def test_a_database_that_was_brought_back_to_an_earlier_state_is_read_from_the_beginning(
    location: Location, catalogue: PostgresqlCatalogue
) -> None:
    await add(catalogue, row())
    (change,) = await everything(catalogue)
    feed_id, transaction, number = change.cursor.split(".")
    later = f"{feed_id}.{int(transaction) + 1_000_000}.{number}"
    assert digests(await everything(catalogue, later)) == [change.digest]


async def test_what_is_held_back_is_told_in_a_metric_and_once_in_the_log(
    location: Location, catalogue: PostgresqlCatalogue
) -> None:
    now_s = 1000.0
    feed = Feed("a", lambda: now_s)

    async def lag_s(connection: asyncpg.Connection) -> float | None:
        await feed.read(connection, None, 10)
        return REGISTRY.get_sample_value("atria_changes_lag_seconds", {"site": "a"})

    async with connected(location) as reader, connected(location) as foreign:
        assert await lag_s(reader) == 0
        with structlog.testing.capture_logs() as logs:
            async with foreign.transaction():
                await foreign.execute("SELECT pg_current_xact_id()")
                now_s += 1000
                assert await lag_s(reader) == 0, "nothing waits"
                await add(catalogue, row())
                assert await lag_s(reader) == 0
                now_s += WARN_AFTER_S + 1
                assert [await lag_s(reader), await lag_s(reader)] == [WARN_AFTER_S + 1] * 2
            assert await lag_s(reader) == 0
        assert [log["event"] for log in logs] == ["catalogue.changes_held_back"]


async def test_changes_are_read_by_an_index_however_many_there_are(location: Location) -> None:
    feed = Feed("a")
    asked: list[asyncpg.connection.LoggedQuery] = []
    async with connected(location) as connection:
        await connection.execute(_FILL)
        await connection.execute("ANALYZE versions, facts")
        middle = (await feed.read(connection, None, ROWS // 2))[-1].cursor
        with connection.query_logger(asked.append):
            found = await feed.read(connection, middle, 1000)
            await asyncio.sleep(0)  # the logger is told in the loop's next turn
        statements = [one for one in asked if one.query.startswith("SELECT")]
        plans = [await connection.fetch(f"EXPLAIN {one.query}", *one.args) for one in statements]
    assert len(found) == 1000
    for plan, table in zip(plans, ("versions", "versions", "facts"), strict=True):
        text = "\n".join(line for (line,) in plan)
        assert f"using {table}_by_change" in text, text
        assert "Seq Scan on versions" not in text
        assert "Seq Scan on facts" not in text
        assert "Sort" not in text
