# ruff: noqa: S608  (names of tables and columns are constants; values are bound)
"""What is looked up in an SQLite catalogue by its key, counted, or read in pages."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Final

from cluster.nouns import Debt, Fact, FactKind, Instance, time_text
from storage_node.catalogue import feed
from storage_node.catalogue.columns import (
    ADDED_COLUMNS,
    ENTRY_COLUMNS,
    FACT_COLUMNS,
    ROW_COLUMNS,
    added_of,
    entry_of,
    fact_of,
    row_of,
    uids_of,
)
from storage_node.catalogue.protocol import Counts, Entry, Row, StudySummary
from storage_node.catalogue.views import HIDDEN_RANK, authority, currency

_OF_INSTANCE: Final = "study_instance_uid = ? AND series_instance_uid = ? AND sop_instance_uid = ?"
_ROWS: Final = f"SELECT {ROW_COLUMNS} FROM versions WHERE {_OF_INSTANCE}"
_FACTS: Final = f"SELECT {FACT_COLUMNS} FROM facts WHERE {_OF_INSTANCE}"
_FACTS_IN: Final = (
    f"SELECT study_instance_uid, series_instance_uid, sop_instance_uid, {FACT_COLUMNS} FROM facts"
    " WHERE study_instance_uid = ?"
)
_RULED: Final = (
    f"SELECT study_instance_uid, series_instance_uid, sop_instance_uid, {FACT_COLUMNS} FROM facts"
    " WHERE kind = ? AND holds AND (study_instance_uid, series_instance_uid, sop_instance_uid) > (?, ?, ?)"
    " ORDER BY study_instance_uid, series_instance_uid, sop_instance_uid LIMIT ?"
)
_DEBTS: Final = (
    "SELECT site, study_instance_uid, series_instance_uid, sop_instance_uid, digest FROM debts"
    " WHERE site = coalesce(?, site) ORDER BY id LIMIT ?"
)
_LEAST_VERIFIED: Final = (
    f"SELECT {ENTRY_COLUMNS} FROM versions WHERE verified_at < ? ORDER BY verified_at, id LIMIT ?"
)
_WALK: Final = (
    f"SELECT {ENTRY_COLUMNS} FROM versions"
    " WHERE (study_instance_uid, series_instance_uid, sop_instance_uid, digest) > (?, ?, ?, ?)"
    " ORDER BY study_instance_uid, series_instance_uid, sop_instance_uid, digest LIMIT ?"
)
_WALK_STUDY: Final = (
    f"SELECT {ENTRY_COLUMNS} FROM versions"
    " WHERE study_instance_uid = ? AND (series_instance_uid, sop_instance_uid, digest) > (?, ?, ?)"
    " ORDER BY series_instance_uid, sop_instance_uid, digest LIMIT ?"
)
_STUDIES: Final = (
    "SELECT study_instance_uid, entries, fingerprint FROM summaries"
    " WHERE study_instance_uid > ? ORDER BY study_instance_uid LIMIT ?"
)
_FEED: Final = (
    "SELECT feed_id, coalesce((SELECT max(id) FROM versions), 0),"
    " coalesce((SELECT max(number) FROM facts), 0) FROM site"
)
_ADDED: Final = f"SELECT id, {ADDED_COLUMNS} FROM versions WHERE id > ? ORDER BY id LIMIT ?"
_DECIDED: Final = (
    f"SELECT number, study_instance_uid, series_instance_uid, sop_instance_uid, {FACT_COLUMNS} FROM facts"
    " WHERE number > ? ORDER BY number LIMIT ?"
)
_COUNTS: Final = (
    f"SELECT count(DISTINCT patient_key), count(*) FROM studies WHERE rank < '{HIDDEN_RANK}'",
    "SELECT total(instances > 0), total(instances), total(versions), total(size_bytes) FROM series",
    "SELECT count(*) FROM debts",
)


def rows_of(connection: sqlite3.Connection, instance: Instance) -> Sequence[Row]:
    """Return the rows of all versions of an instance, the current one first."""
    rows = [row_of(instance, *row) for row in connection.execute(_ROWS, uids_of(instance))]
    return sorted(rows, key=currency, reverse=True)


def facts_of(connection: sqlite3.Connection, instance: Instance) -> tuple[Fact, ...]:
    """Return all facts about an instance, the one that holds first."""
    facts = [fact_of(instance, *fact) for fact in connection.execute(_FACTS, uids_of(instance))]
    return tuple(sorted(facts, key=authority, reverse=True))


def facts_in(connection: sqlite3.Connection, study: str) -> Sequence[Fact]:
    """Return all facts about a study's instances, by instance, the one that holds first."""
    facts = [fact_of(Instance(*row[:3]), *row[3:]) for row in connection.execute(_FACTS_IN, (study,))]
    facts.sort(key=authority, reverse=True)
    return sorted(facts, key=lambda fact: fact.instance)


def ruled(
    connection: sqlite3.Connection, kind: FactKind, after: tuple[str, str, str], size: int
) -> Sequence[Fact]:
    """Return the next facts of a kind that hold, after a subject, by subject."""
    rows = connection.execute(_RULED, (kind.value, *after, size))
    return [fact_of(Instance(*row[:3]), *row[3:]) for row in rows]


def debts(connection: sqlite3.Connection, site: str | None, limit: int) -> Sequence[Debt]:
    """Return debts, the oldest first: those that `site` is owed, or all."""
    rows = connection.execute(_DEBTS, (site, limit))
    return [Debt(owed, Instance(*uids), digest) for owed, *uids, digest in rows]


def least_verified(connection: sqlite3.Connection, before: datetime, limit: int) -> Sequence[Entry]:
    """Return the entries whose copies were last verified before then, the longest ago first."""
    return [entry_of(*row) for row in connection.execute(_LEAST_VERIFIED, (time_text(before), limit))]


def walk(
    connection: sqlite3.Connection, study: str | None, after: Entry | None, size: int
) -> Sequence[Entry]:
    """Return the next entries after one, by instance and digest; of a study, or of all."""
    place = ("", "", "", "") if after is None else (*uids_of(after.instance), after.digest)
    if study is None:
        rows = connection.execute(_WALK, (*place, size))
    else:
        rows = connection.execute(_WALK_STUDY, (study, *place[1:], size))
    return [entry_of(*row) for row in rows]


def studies(connection: sqlite3.Connection, after: str, size: int) -> Sequence[StudySummary]:
    """Return the next summaries after a study, by its UID."""
    return [StudySummary(*row) for row in connection.execute(_STUDIES, (after, size))]


def changes(connection: sqlite3.Connection, after: str | None, limit: int) -> Sequence[feed.Change]:
    """Return the versions and facts that came after a cursor, in the order in which they came.

    The one writer gives them their numbers, so they come in the order of these.
    """
    with _one_moment(connection):
        feed_id, *ends = connection.execute(_FEED).fetchone()
        (place,) = feed.place_of(after, feed_id, begin=(-1,), end=(max(ends),))
        versions = connection.execute(_ADDED, (place, limit)).fetchall()
        facts = connection.execute(_DECIDED, (place, limit)).fetchall()
    added = (((number,), added_of(*row)) for number, *row in versions)
    decided = (((number,), fact_of(Instance(*row[:3]), *row[3:])) for number, *row in facts)
    return feed.merged(feed_id, added, decided, limit)


def counts(connection: sqlite3.Connection) -> Counts:
    """Return how much is held, all as of one moment."""
    with _one_moment(connection):
        counted = [count for sql in _COUNTS for count in connection.execute(sql).fetchone()]
    return Counts(*map(int, counted))


@contextmanager
def _one_moment(connection: sqlite3.Connection) -> Generator[None]:
    """Have all statements see the same."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
