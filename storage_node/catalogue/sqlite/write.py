# ruff: noqa: S608  (names of tables and columns are constants; values are bound)
"""What is written to an SQLite catalogue, inside a transaction that the caller begins and commits."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from cluster.nouns import Debt, Fact, Instance, Provenance, Topic, time_text
from storage_node.catalogue import schema
from storage_node.catalogue.columns import (
    ROW_COLUMNS,
    debt_row,
    fact_row,
    insert,
    provenance_row,
    row_of,
    uids_of,
    version_row,
)
from storage_node.catalogue.protocol import Met, Row
from storage_node.catalogue.sqlite import views
from storage_node.catalogue.sqlite.read import facts_of
from storage_node.catalogue.views import (
    chosen,
    currency,
    fact_fingerprint,
    is_hidden,
    row_fingerprint,
    rulings,
)

_OF_INSTANCE: Final = "study_instance_uid = ? AND series_instance_uid = ? AND sop_instance_uid = ?"
_SELECT_VERSIONS: Final = f"SELECT id, verified_at, {ROW_COLUMNS} FROM versions WHERE {_OF_INSTANCE}"
_NEXT_NUMBER: Final = (
    "SELECT 1 + max(coalesce((SELECT max(id) FROM versions), 0),"
    " coalesce((SELECT max(number) FROM facts), 0))"
)
_INSERT_VERSION: Final = insert(schema.versions, "id")
_UPDATE_VERSION: Final = (
    "UPDATE versions SET received_at = ?, calling_ae = ?, called_ae = ?, source = ?, order_number = ?,"
    " verified_at = ?, key = ? WHERE id = ?"
)
_MARK_CURRENT: Final = (
    f"UPDATE versions SET is_current = (digest = ?) WHERE {_OF_INSTANCE} AND is_current <> (digest = ?)"
)
_VERIFIED: Final = (
    f"UPDATE versions SET verified_at = ? WHERE {_OF_INSTANCE} AND digest = ? AND verified_at < ?"
)
_INSERT_FACT: Final = insert(schema.facts)
_HOLD_NO_MORE: Final = f"UPDATE facts SET holds = 0 WHERE {_OF_INSTANCE} AND digest = ?"
_INSERT_DEBT: Final = insert(schema.debts).replace("INSERT", "INSERT OR IGNORE", 1)
_FORGIVE: Final = f"DELETE FROM debts WHERE site = ? AND {_OF_INSTANCE} AND digest = ?"
_SETTLE: Final = (
    f"{_FORGIVE} AND NOT EXISTS (SELECT 1 FROM versions WHERE {_OF_INSTANCE} AND digest = ?"
    " AND (order_number > ? OR (received_at, calling_ae, called_ae, source) < (?, ?, ?, ?)))"
)


def owe(connection: sqlite3.Connection, debts: Iterable[Debt]) -> None:
    """Add debts that are not there."""
    connection.executemany(_INSERT_DEBT, map(debt_row, debts))


def settle(connection: sqlite3.Connection, site: str, held: Row) -> None:
    """Remove the debt of a site that holds a version by now, unless the row here is newer."""
    version = (*uids_of(held.version.instance), held.version.digest)
    connection.execute(_SETTLE, (site, *version, *version, held.order, *provenance_row(held.provenance)))


def forgive(connection: sqlite3.Connection, debt: Debt) -> None:
    """Remove a debt of a fact."""
    connection.execute(_FORGIVE, debt_row(debt))


def verified(connection: sqlite3.Connection, copies: Iterable[tuple[Instance, str]], at: datetime) -> None:
    """Note when copies were read and found right, if that is later than what is known."""
    time = time_text(at)
    connection.executemany(
        _VERIFIED, ((time, *uids_of(instance), digest, time) for instance, digest in copies)
    )


def decide(connection: sqlite3.Connection, fact: Fact) -> None:
    """Add a fact, if it is not there; where another holds now, so do the views."""
    known = facts_of(connection, fact.instance)
    if fact in known:
        return
    uids = uids_of(fact.instance)
    held, holding = rulings(known), rulings((fact, *known))
    for past in held:
        if past not in holding:
            connection.execute(_HOLD_NO_MORE, (*uids, past.digest))
    connection.execute(_INSERT_FACT, (*fact_row(fact), fact in holding, _next_number(connection)))
    views.summarise(connection, uids[0], entries=1, changed=fact_fingerprint(fact))
    if fact not in holding:
        return
    match fact.kind.topic:
        case Topic.CORRECTION:
            views.correct(connection, fact.instance)
        case Topic.DELETION | Topic.REJECTION if is_hidden(holding) != is_hidden(held):
            views.turn(connection, fact.instance, hidden=is_hidden(holding))
        case Topic.CHOICE:
            _choose(connection, fact.instance, chosen(held), chosen(holding))
        case _:
            pass


def _next_number(connection: sqlite3.Connection) -> int:
    number: int
    (number,) = connection.execute(_NEXT_NUMBER).fetchone()
    return number


def _versions_of(connection: sqlite3.Connection, instance: Instance) -> dict[str, _Held]:
    return {
        digest: _Held(row_id, time, row_of(instance, digest, *rest))
        for row_id, time, digest, *rest in connection.execute(_SELECT_VERSIONS, uids_of(instance))
    }


@dataclass(frozen=True, slots=True)
class _Held:
    row_id: int
    verified_at: str
    row: Row


def add(connection: sqlite3.Connection, row: Row, verified_at: datetime) -> Met:
    """Add a row, or merge it into the one that is there; return what it met."""
    instance = row.version.instance
    versions = _versions_of(connection, instance)
    facts = facts_of(connection, instance)
    there = versions.get(row.version.digest)
    if there is None:
        order = row.order or 1 + max((held.row.order for held in versions.values()), default=0)
        _add_new(connection, replace(row, order=order), verified_at, versions, facts)
        return Met(order, row.version.key, facts)
    provenance = Provenance.merge(there.row.provenance, row.provenance)
    time = max(there.verified_at, time_text(verified_at))
    version = row.version if time == time_text(verified_at) else there.row.version
    order = max(there.row.order, row.order)
    row = Row(version, provenance, there.row.header, there.row.flags, order)
    if row != there.row or time != there.verified_at:
        _update(connection, there, _Held(there.row_id, time, row), versions, facts)
    return Met(row.order, row.version.key, facts)


def _add_new(
    connection: sqlite3.Connection,
    row: Row,
    verified_at: datetime,
    versions: dict[str, _Held],
    facts: Sequence[Fact],
) -> None:
    time = time_text(verified_at)
    hidden = is_hidden(facts)
    row_id = _next_number(connection)
    kept = version_row(row, time, is_current=not versions, is_hidden=hidden)
    connection.execute(_INSERT_VERSION, (row_id, *kept))
    views.add_version(connection, row, row_id, is_new_instance=not versions, hidden=hidden)
    _summarise(connection, row, entries=1, changed=_fingerprint(row))
    if versions:
        _mark_current(connection, versions, _Held(row_id, time, row), chosen(facts))


def _update(
    connection: sqlite3.Connection,
    before: _Held,
    after: _Held,
    versions: dict[str, _Held],
    facts: Sequence[Fact],
) -> None:
    row = after.row
    kept = (*provenance_row(row.provenance), row.order, after.verified_at, row.version.key)
    connection.execute(_UPDATE_VERSION, (*kept, after.row_id))
    if row == before.row:
        return
    _summarise(connection, row, entries=0, changed=_fingerprint(before.row) ^ _fingerprint(row))
    if len(versions) > 1:
        _mark_current(connection, versions, after, chosen(facts))
    views.precede(connection, row, after.row_id, hidden=is_hidden(facts))


def _mark_current(
    connection: sqlite3.Connection, versions: dict[str, _Held], changed: _Held, choice: str | None
) -> None:
    """Mark the current version after one of them came, or changed."""
    before = _current(versions.values(), choice)
    current = _current({**versions, changed.row.version.digest: changed}.values(), choice)
    _replace_current(connection, before, current)


def _choose(
    connection: sqlite3.Connection, instance: Instance, before: str | None, choice: str | None
) -> None:
    """Mark the current version after one of them was chosen, or is not any more."""
    versions = _versions_of(connection, instance).values()
    if versions:
        _replace_current(connection, _current(versions, before), _current(versions, choice))


def _replace_current(connection: sqlite3.Connection, before: Row, current: Row) -> None:
    uids = uids_of(current.version.instance)
    digest = current.version.digest
    connection.execute(_MARK_CURRENT, (digest, *uids, digest))
    if before.version.sop_class_uid != current.version.sop_class_uid:
        views.list_classes(connection, *uids[:2])


def _current(versions: Iterable[_Held], choice: str | None) -> Row:
    return max((held.row for held in versions), key=lambda row: currency(row, choice))


def _summarise(connection: sqlite3.Connection, row: Row, *, entries: int, changed: int) -> None:
    study = row.version.instance.study_instance_uid
    views.summarise(connection, study, entries=entries, changed=changed)


def _fingerprint(row: Row) -> int:
    return row_fingerprint(row.version.instance, row.version.digest, row.order, row.provenance)
