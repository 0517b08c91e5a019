# ruff: noqa: S608  (names of tables and columns are constants; values are bound)
"""What is looked up in a PostgreSQL catalogue by its key, counted, or read in pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from cluster.nouns import Debt, Fact, FactKind, Instance, time_text
from storage_node.catalogue.columns import (
    ENTRY_COLUMNS,
    FACT_COLUMNS,
    ROW_COLUMNS,
    entry_of,
    fact_of,
    row_of,
    uids_of,
)
from storage_node.catalogue.postgresql.tables import storable
from storage_node.catalogue.protocol import Counts, Entry, Row, StudySummary
from storage_node.catalogue.views import HIDDEN_RANK, authority, currency

if TYPE_CHECKING:
    from datetime import datetime

    import asyncpg

_OF_INSTANCE: Final = "study_instance_uid = $1 AND series_instance_uid = $2 AND sop_instance_uid = $3"
_ROWS: Final = f"SELECT {ROW_COLUMNS} FROM versions WHERE {_OF_INSTANCE}"
_FACTS: Final = f"SELECT {FACT_COLUMNS} FROM facts WHERE {_OF_INSTANCE}"
_FACTS_IN: Final = (
    f"SELECT study_instance_uid, series_instance_uid, sop_instance_uid, {FACT_COLUMNS} FROM facts"
    " WHERE study_instance_uid = $1"
)
_RULED: Final = (
    f"SELECT study_instance_uid, series_instance_uid, sop_instance_uid, {FACT_COLUMNS} FROM facts"
    " WHERE kind = $1 AND holds"
    " AND (study_instance_uid, series_instance_uid, sop_instance_uid) > ($2, $3, $4)"
    " ORDER BY study_instance_uid, series_instance_uid, sop_instance_uid LIMIT $5"
)
_DEBT_COLUMNS: Final = "site, study_instance_uid, series_instance_uid, sop_instance_uid, digest"
_DEBTS: Final = f"SELECT {_DEBT_COLUMNS} FROM debts ORDER BY id LIMIT $1"
_DEBTS_OF_SITE: Final = f"SELECT {_DEBT_COLUMNS} FROM debts WHERE site = $1 ORDER BY id LIMIT $2"
_LEAST_VERIFIED: Final = (
    f"SELECT {ENTRY_COLUMNS} FROM versions WHERE verified_at < $1 ORDER BY verified_at, id LIMIT $2"
)
_WALK: Final = (
    f"SELECT {ENTRY_COLUMNS} FROM versions"
    " WHERE (study_instance_uid, series_instance_uid, sop_instance_uid, digest) > ($1, $2, $3, $4)"
    " ORDER BY study_instance_uid, series_instance_uid, sop_instance_uid, digest LIMIT $5"
)
_WALK_STUDY: Final = (
    f"SELECT {ENTRY_COLUMNS} FROM versions"
    " WHERE study_instance_uid = $1 AND (series_instance_uid, sop_instance_uid, digest) > ($2, $3, $4)"
    " ORDER BY series_instance_uid, sop_instance_uid, digest LIMIT $5"
)
_STUDIES: Final = (
    "SELECT study_instance_uid, sum(entries), bit_xor(fingerprint) FROM summaries"
    " WHERE study_instance_uid > $1 GROUP BY study_instance_uid HAVING sum(entries) > 0"
    " ORDER BY study_instance_uid LIMIT $2"
)
_COUNTS: Final = (
    "SELECT patients, studies, series, instances, versions, size_bytes, debts"
    " FROM (SELECT count(DISTINCT patient_key) AS patients, count(*) AS studies FROM studies"
    f" WHERE rank < '{HIDDEN_RANK}') AS of_studies,"
    " (SELECT count(*) FILTER (WHERE instances > 0) AS series, coalesce(sum(instances), 0) AS instances,"
    " coalesce(sum(versions), 0) AS versions, coalesce(sum(size_bytes), 0) AS size_bytes FROM"
    " (SELECT sum(instances) AS instances, sum(versions) AS versions, sum(size_bytes) AS size_bytes"
    " FROM series_counts GROUP BY study_instance_uid, series_instance_uid) AS counted) AS of_series,"
    " (SELECT count(*) AS debts FROM debts) AS of_debts"
)


async def rows_of(connection: asyncpg.Connection, instance: Instance) -> Sequence[Row]:
    """Return the rows of all versions of an instance, the current one first."""
    rows = [row_of(instance, *row) for row in await connection.fetch(_ROWS, *_kept(uids_of(instance)))]
    return sorted(rows, key=currency, reverse=True)


async def facts_of(connection: asyncpg.Connection, instance: Instance) -> tuple[Fact, ...]:
    """Return all facts about an instance, the one that holds first."""
    rows = await connection.fetch(_FACTS, *_kept(uids_of(instance)))
    return tuple(sorted((fact_of(instance, *row) for row in rows), key=authority, reverse=True))


async def facts_in(connection: asyncpg.Connection, study: str) -> Sequence[Fact]:
    """Return all facts about a study's instances, by instance, the one that holds first."""
    rows = await connection.fetch(_FACTS_IN, storable(study))
    facts = sorted((fact_of(Instance(*row[:3]), *row[3:]) for row in rows), key=authority, reverse=True)
    return sorted(facts, key=lambda fact: fact.instance)


async def ruled(
    connection: asyncpg.Connection, kind: FactKind, after: tuple[str, str, str], size: int
) -> Sequence[Fact]:
    """Return the next facts of a kind that hold, after a subject, by subject."""
    rows = await connection.fetch(_RULED, kind.value, *_kept(after), size)
    return [fact_of(Instance(*row[:3]), *row[3:]) for row in rows]


async def debts(connection: asyncpg.Connection, site: str | None, limit: int) -> Sequence[Debt]:
    """Return debts, the oldest first: those that `site` is owed, or all."""
    if site is None:
        rows = await connection.fetch(_DEBTS, limit)
    else:
        rows = await connection.fetch(_DEBTS_OF_SITE, site, limit)
    return [Debt(owed, Instance(*uids), digest) for owed, *uids, digest in rows]


async def least_verified(connection: asyncpg.Connection, before: datetime, limit: int) -> Sequence[Entry]:
    """Return the entries whose copies were last verified before then, the longest ago first."""
    return [entry_of(*row) for row in await connection.fetch(_LEAST_VERIFIED, time_text(before), limit)]


async def walk(
    connection: asyncpg.Connection, study: str | None, after: Entry | None, size: int
) -> Sequence[Entry]:
    """Return the next entries after one, by instance and digest; of a study, or of all."""
    place = ("", "", "", "") if after is None else _kept((*uids_of(after.instance), after.digest))
    if study is None:
        rows = await connection.fetch(_WALK, *place, size)
    else:
        rows = await connection.fetch(_WALK_STUDY, storable(study), *place[1:], size)
    return [entry_of(*row) for row in rows]


async def studies(connection: asyncpg.Connection, after: str, size: int) -> Sequence[StudySummary]:
    """Return the next summaries after a study, by its UID."""
    rows = await connection.fetch(_STUDIES, storable(after), size)
    return [StudySummary(*row) for row in rows]


async def counts(connection: asyncpg.Connection) -> Counts:
    """Return how much is held, all as of one moment."""
    (row,) = await connection.fetch(_COUNTS)
    return Counts(*map(int, row))


def _kept(texts: Sequence[str]) -> Sequence[str]:
    return tuple(map(storable, texts))
