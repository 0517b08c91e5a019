# ruff: noqa: S608  (names of tables and columns are constants; values are bound)
"""Changes are made to a PostgreSQL catalogue, many in one transaction.

What is known of the instances is read, changed in memory, and what differs is written. Nobody else changes
these instances meanwhile (`locks`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cluster.nouns import Instance, Level, SiteIdentity
from storage_node.catalogue.columns import (
    FACT_COLUMNS,
    MATCHED_COLUMNS,
    ROW_COLUMNS,
    debt_row,
    fact_of,
    fact_row,
    provenance_row,
    row_of,
    uids_of,
    version_row,
)
from storage_node.catalogue.postgresql import locks, standing
from storage_node.catalogue.postgresql.batch import Insert, Rows, insert_all
from storage_node.catalogue.postgresql.changes import AddFact, AddRow, Change, Forgive, Owe, Settle, Verify
from storage_node.catalogue.postgresql.difference import Difference, difference, first
from storage_node.catalogue.postgresql.known import Held, Known
from storage_node.catalogue.postgresql.standings import Standings
from storage_node.catalogue.postgresql.tables import storable
from storage_node.catalogue.protocol import Met

if TYPE_CHECKING:
    import asyncpg


_UIDS: Final = dict.fromkeys(("study_instance_uid", "series_instance_uid", "sop_instance_uid"), "text")
_INSTANCES: Final = Rows(_UIDS)
_OF_GIVEN: Final = " AND ".join(f"held.{name} = given.{name}" for name in _UIDS)
_FACT_COLUMNS: Final = ", ".join(f"held.{name}" for name in (*_UIDS, *FACT_COLUMNS.split(", ")))
_HELD_COLUMNS: Final = ", ".join(f"held.{name}" for name in (*_UIDS, "verified_at", *ROW_COLUMNS.split(", ")))
_READ: Final = (
    f"WITH given AS (SELECT * FROM {_INSTANCES.source()}) SELECT name, site_id, generation,"
    f" ARRAY(SELECT ROW({_HELD_COLUMNS}) FROM given JOIN versions AS held ON {_OF_GIVEN}) AS versions,"
    f" ARRAY(SELECT ROW({_FACT_COLUMNS}) FROM given JOIN facts AS held ON {_OF_GIVEN}) AS facts,"
    f" {standing.RANKS} AS ranks FROM site"
)
"""The site comes first: while this transaction lasts, nobody moves its catalogue away."""
VERSIONS: Final = Rows(
    {
        **_UIDS,
        **dict.fromkeys(("digest", "key"), "text"),
        "size_bytes": "bigint",
        "data_set_offset_bytes": "integer",
        **dict.fromkeys(("sop_class_uid", "transfer_syntax_uid"), "text"),
        "block_digests": "bytea",
        **dict.fromkeys(("received_at", "calling_ae", "called_ae", "source", "flags"), "text"),
        "order_number": "bigint",
        "is_current": "boolean",
        "header": "bytea",
        **dict.fromkeys(MATCHED_COLUMNS[Level.IMAGE], "text"),
        "several": "boolean",
        "verified_at": "text",
        "is_hidden": "boolean",
    }
)
_CHANGED: Final = Rows(
    {
        **_UIDS,
        **dict.fromkeys(("digest", "key", "received_at", "calling_ae", "called_ae", "source"), "text"),
        "order_number": "bigint",
        "is_current": "boolean",
        "verified_at": "text",
        "is_hidden": "boolean",
    }
)
_UPDATE_VERSIONS: Final = (
    "UPDATE versions AS held SET key = given.key, received_at = given.received_at,"
    " calling_ae = given.calling_ae, called_ae = given.called_ae, source = given.source,"
    " order_number = given.order_number, is_current = given.is_current, verified_at = given.verified_at,"
    f" is_hidden = given.is_hidden FROM {_CHANGED.source()} WHERE {_OF_GIVEN} AND held.digest = given.digest"
)
_FACTS: Final = Rows(
    {
        **_UIDS,
        "digest": "text",
        "epoch": "bigint",
        **dict.fromkeys(("kind", "decided_at", "decided_by", "reason", "details"), "text"),
        "holds": "boolean",
    }
)
_IF_FACT_IS_THERE: Final = (
    "ON CONFLICT (study_instance_uid, series_instance_uid, sop_instance_uid, digest)"
    " DO UPDATE SET holds = excluded.holds WHERE facts.holds <> excluded.holds"
)
_DEBTS: Final = Rows({"site": "text", **_UIDS, "digest": "text"})
_OF_DEBT: Final = (
    "site = $1 AND study_instance_uid = $2 AND series_instance_uid = $3 AND sop_instance_uid = $4"
)
_FORGIVE: Final = f"DELETE FROM debts WHERE {_OF_DEBT} AND digest = $5"
_SETTLE: Final = (
    f"{_FORGIVE} AND NOT EXISTS (SELECT 1 FROM versions WHERE study_instance_uid = $2"
    " AND series_instance_uid = $3 AND sop_instance_uid = $4 AND digest = $5 AND (order_number > $6"
    " OR (received_at, calling_ae, called_ae, source) < ($7, $8, $9, $10)))"
)
_COPIES: Final = Rows({**_UIDS, "digest": "text"})
_VERIFY: Final = (
    f"UPDATE versions AS held SET verified_at = $5 FROM {_COPIES.source()}"
    f" WHERE {_OF_GIVEN} AND held.digest = given.digest AND held.verified_at < $5"
)


async def make(
    connection: asyncpg.Connection,
    changes: Sequence[Change],
    *,
    part: int,
    check: Callable[[SiteIdentity | None], None],
    standings: Standings,
) -> Sequence[Met | None]:
    """Make changes in one transaction; return what each row met.

    Parameters
    ----------
    connection : asyncpg.Connection
    changes : sequence of Change
    part : int
        This process's part of what many add to.
    check : callable
        Told whose catalogue it is, before anything is changed; raises if it is another's than it should be.
    standings : Standings
        Learns by what versions stood before.
    """
    of_instances = _by_instance(changes)
    instances = sorted(of_instances, key=uids_of)
    decided = {change.fact.instance for change in changes if isinstance(change, AddFact)}
    # What is settled must not be owed anew meanwhile, for a row that says more.
    settled = {change.held.version.instance for change in changes if isinstance(change, Settle)}
    async with locks.transaction(connection, settled.union(instances), decided):
        identity, known, ranks = await _read(connection, instances)
        check(identity)
        standings.learn(ranks)
        made = _made([(instance, of_instances[instance]) for instance in instances], known)
        await _update(connection, made.changed)
        await insert_all(
            connection,
            (
                Insert(VERSIONS, "versions", "", made.new_versions),
                Insert(_FACTS, "facts", _IF_FACT_IS_THERE, _facts(made.changed)),
                Insert(_DEBTS, "debts", "ON CONFLICT DO NOTHING", _debts(changes)),
                *standing.added(made.differences, part=part),
            ),
        )
        await standing.keep(connection, made.differences, ranks)
        await _note(connection, changes)
    return [made.met.get(id(change)) for change in changes]


@dataclass(frozen=True, slots=True)
class _Made:
    """What changes come to."""

    met: dict[int, Met] = field(default_factory=dict)
    """What each row met, by the change's `id`."""
    changed: list[tuple[Known, Known]] = field(default_factory=list)
    """What was known, and what is known now, of instances that are not simply new."""
    new_versions: list[tuple[object, ...]] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)


def _by_instance(changes: Sequence[Change]) -> dict[Instance, list[AddRow | AddFact]]:
    """Return the rows and facts that are added, in their order, by what they are about."""
    of_instances: dict[Instance, list[AddRow | AddFact]] = {}
    for change in changes:
        if isinstance(change, AddRow):
            of_instances.setdefault(change.row.version.instance, []).append(change)
        elif isinstance(change, AddFact):
            of_instances.setdefault(change.fact.instance, []).append(change)
    return of_instances


def _made(
    of_instances: Sequence[tuple[Instance, Sequence[AddRow | AddFact]]], known: Mapping[Instance, Known]
) -> _Made:
    """Add rows and facts to what is known."""
    made = _Made()
    for instance, added in of_instances:
        match added:
            case [AddRow(row, _, verified_at) as change] if instance not in known:
                new = first(row)
                made.met[id(change)] = new.met
                made.new_versions.append((*new.columns, verified_at, False))
                made.differences.append(new.difference)
            case _:
                before = known.get(instance) or Known(instance)
                after = before.copy()
                _add(added, after, made.met)
                made.changed.append((before, after))
                made.new_versions.extend(_new_versions(before, after))
                made.differences.append(difference(before, after))
    return made


def _add(added: Sequence[AddRow | AddFact], known: Known, met: dict[int, Met]) -> None:
    for change in added:
        if isinstance(change, AddRow):
            met[id(change)] = known.add(change.row, change.verified_at)
        else:
            known.decide(change.fact)


async def _note(connection: asyncpg.Connection, changes: Sequence[Change]) -> None:
    """Note what was done elsewhere: debts that were paid, copies that were verified."""
    for change in changes:
        match change:
            case Settle(site, held):
                uids = map(storable, uids_of(held.version.instance))
                provenance = map(storable, provenance_row(held.provenance))
                await connection.execute(_SETTLE, site, *uids, held.version.digest, held.order, *provenance)
            case Forgive(debt):
                await connection.execute(_FORGIVE, *map(storable, debt_row(debt)))
            case Verify(copies, at) if copies:
                rows = ((*uids_of(instance), digest) for instance, digest in copies)
                await connection.execute(_VERIFY, *_COPIES.parameters(rows), at)
            case _:
                pass


def _debts(changes: Sequence[Change]) -> list[tuple[str, ...]]:
    owing = (change.debts for change in changes if isinstance(change, (AddRow, AddFact, Owe)))
    return [debt_row(debt) for debts in owing for debt in debts]


async def _read(
    connection: asyncpg.Connection, instances: Sequence[Instance]
) -> tuple[SiteIdentity | None, dict[Instance, Known], standing.Ranks]:
    """Return whose catalogue it is, what is known of instances, and by what versions stand above them.

    Of what nothing is known there is no entry.
    """
    found = await connection.fetchrow(_READ, *_INSTANCES.parameters(map(uids_of, instances)))
    if found is None:
        return None, {}, {}
    known: dict[Instance, Known] = {}
    if found["versions"] or found["facts"]:
        by_uids = {tuple(map(storable, uids_of(instance))): instance for instance in instances}
        for study, series, sop, verified_at, digest, *fields in found["versions"]:
            of = _entry(known, by_uids[study, series, sop])
            of.versions[digest] = Held(row_of(of.instance, digest, *fields), verified_at)
        for study, series, sop, *fields in found["facts"]:
            of = _entry(known, by_uids[study, series, sop])
            of.facts += (fact_of(of.instance, *fields),)
    ranks = {(study, series): rank for study, series, rank in found["ranks"]}
    return SiteIdentity(*found[:3]), known, ranks


def _entry(known: dict[Instance, Known], instance: Instance) -> Known:
    if instance not in known:
        known[instance] = Known(instance)
    return known[instance]


async def _update(connection: asyncpg.Connection, changed: Sequence[tuple[Known, Known]]) -> None:
    """Write the rows that were there, and are not what they were."""
    others = [
        kept
        for before, after in changed
        for digest, held in before.versions.items()
        if (kept := _changed_row(after.versions[digest], after)) != _changed_row(held, before)
    ]
    if others:
        await connection.execute(_UPDATE_VERSIONS, *_CHANGED.parameters(others))


def _new_versions(before: Known, after: Known) -> list[tuple[object, ...]]:
    current = after.current
    return [
        version_row(held.row, held.verified_at, is_current=held.row is current, is_hidden=after.hidden)
        for digest, held in after.versions.items()
        if digest not in before.versions
    ]


def _facts(changed: Sequence[tuple[Known, Known]]) -> list[tuple[object, ...]]:
    return [
        (*fact_row(fact), fact in after.holding)
        for before, after in changed
        if after.facts != before.facts
        for fact in after.facts
    ]


def _changed_row(held: Held, known: Known) -> tuple[object, ...]:
    row, version = held.row, held.row.version
    named = (*uids_of(version.instance), version.digest)
    kept = (version.key, *provenance_row(row.provenance), row.order)
    return (*named, *kept, row is known.current, held.verified_at, known.hidden)
