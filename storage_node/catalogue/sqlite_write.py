# ruff: noqa: S608  (names of tables and columns are constants; values are bound)
"""What is written to an SQLite catalogue, inside a transaction that the caller begins and commits."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import Table

from cluster.nouns import Debt, Instance, Level, Provenance, Version
from storage_node.catalogue import schema
from storage_node.catalogue.attributes import KEPT, described
from storage_node.catalogue.protocol import Row
from storage_node.catalogue.views import currency, fingerprint, patient_key, precedence

_COLUMNS: Final = {
    level: tuple(a.column for a in KEPT if a.level in levels)
    for level, levels in (
        (Level.STUDY, (Level.PATIENT, Level.STUDY)),
        (Level.SERIES, (Level.SERIES,)),
        (Level.IMAGE, (Level.IMAGE,)),
    )
}
"""Names of the matched columns of each table."""


def _insert(table: Table) -> str:
    names = [column.name for column in table.columns if column.name != "id"]
    return f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({', '.join('?' for _ in names)})"


def _replace_representative(table: Table, *columns: str) -> str:
    """Return the statement by which another version comes to stand for an entity."""
    keys = [column.name for column in table.primary_key]
    changes = ", ".join(f"{name} = ?" for name in ("precedence", "representative", *columns, "several"))
    return f"UPDATE {table.name} SET {changes} WHERE {' AND '.join(f'{key} = ?' for key in keys)}"


ROW_COLUMNS: Final = (
    "digest, key, size_bytes, data_set_offset_bytes, sop_class_uid, transfer_syntax_uid, block_digests,"
    " received_at, calling_ae, called_ae, source, flags, order_number, header"
)
"""What `row_of` reads, after the three UIDs."""

_OF_INSTANCE: Final = "study_instance_uid = ? AND series_instance_uid = ? AND sop_instance_uid = ?"
_SELECT_VERSIONS: Final = f"SELECT id, {ROW_COLUMNS} FROM versions WHERE {_OF_INSTANCE}"
_INSERT_VERSION: Final = _insert(schema.versions)
_UPDATE_VERSION: Final = (
    "UPDATE versions SET received_at = ?, calling_ae = ?, called_ae = ?, source = ?, order_number = ?"
    " WHERE id = ?"
)
_MARK_CURRENT: Final = (
    f"UPDATE versions SET is_current = (digest = ?) WHERE {_OF_INSTANCE} AND is_current <> (digest = ?)"
)
_SELECT_SERIES: Final = (
    "SELECT precedence, fingerprint, sop_classes FROM series"
    " WHERE study_instance_uid = ? AND series_instance_uid = ?"
)
_INSERT_SERIES: Final = _insert(schema.series)
_COUNT_IN_SERIES: Final = (
    "UPDATE series SET instances = instances + ?, versions = versions + 1, size_bytes = size_bytes + ?,"
    " fingerprint = ?, sop_classes = ? WHERE study_instance_uid = ? AND series_instance_uid = ?"
)
_REPLACE_IN_SERIES: Final = _replace_representative(schema.series, *_COLUMNS[Level.SERIES])
_SELECT_STUDY: Final = "SELECT precedence FROM studies WHERE study_instance_uid = ?"
_INSERT_STUDY: Final = _insert(schema.studies)
_REPLACE_IN_STUDY: Final = _replace_representative(schema.studies, "patient_key", *_COLUMNS[Level.STUDY])
_INSERT_DEBT: Final = _insert(schema.debts).replace("INSERT", "INSERT OR IGNORE", 1)
_DELETE_DEBT: Final = (
    f"DELETE FROM debts WHERE site = ? AND {_OF_INSTANCE} AND digest = ? AND NOT EXISTS"
    f" (SELECT 1 FROM versions WHERE {_OF_INSTANCE} AND digest = ?"
    " AND (order_number > ? OR (received_at, calling_ae, called_ae, source) < (?, ?, ?, ?)))"
)


def owe(connection: sqlite3.Connection, debts: Iterable[Debt]) -> None:
    """Add debts that are not there."""
    connection.executemany(_INSERT_DEBT, map(_debt_row, debts))


def settle(connection: sqlite3.Connection, site: str, held: Row) -> None:
    """Remove the debt of a site that holds a version by now, unless the row here is newer."""
    version = (*_uids(held.version.instance), held.version.digest)
    connection.execute(
        _DELETE_DEBT, (site, *version, *version, held.order, *_provenance_row(held.provenance))
    )


def add(connection: sqlite3.Connection, row: Row) -> int:
    """Add a row, or merge it into the one that is there; return the `order` that it has."""
    uids = _uids(row.version.instance)
    versions = {
        digest: (row_id, row_of(row.version.instance, digest, *rest))
        for row_id, digest, *rest in connection.execute(_SELECT_VERSIONS, uids)
    }
    there = versions.get(row.version.digest)
    if there is None:
        order = row.order or 1 + max((other.order for _, other in versions.values()), default=0)
        row = _with_order(row, row.provenance, order)
        row_id = _insert_version(connection, row, is_current=not versions)
        _count(connection, row, row_id, is_new_instance=not versions)
    else:
        row_id, known = there
        provenance = Provenance.merge(known.provenance, row.provenance)
        row = _with_order(known, provenance, max(known.order, row.order))
        if row == known:
            return row.order
        connection.execute(_UPDATE_VERSION, (*_provenance_row(provenance), row.order, row_id))
    versions[row.version.digest] = row_id, row
    if len(versions) > 1:
        _, current = max(versions.values(), key=lambda version: currency(version[1]))
        digest = current.version.digest
        connection.execute(_MARK_CURRENT, (digest, *uids, digest))
    _represent(connection, row, row_id)
    return row.order


def _insert_version(connection: sqlite3.Connection, row: Row, *, is_current: bool) -> int:
    version = row.version
    cursor = connection.execute(
        _INSERT_VERSION,
        (
            *_uids(version.instance),
            version.digest,
            version.key,
            version.size_bytes,
            version.data_set_offset_bytes,
            version.sop_class_uid,
            version.transfer_syntax_uid,
            bytes.fromhex("".join(version.block_digests)),
            *_provenance_row(row.provenance),
            "\n".join(row.flags),
            row.order,
            is_current,
            row.header,
            *_matched(row, Level.IMAGE),
        ),
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def _count(connection: sqlite3.Connection, row: Row, row_id: int, *, is_new_instance: bool) -> None:
    """Count a new version in its series, which is made when it is the first."""
    version = row.version
    study, series, _ = uids = _uids(version.instance)
    added = fingerprint(version.instance) if is_new_instance else 0
    there = connection.execute(_SELECT_SERIES, uids[:2]).fetchone()
    if there is None:
        kept = (precedence(row.provenance, version.digest), row_id, 1, 1, version.size_bytes, added)
        matched = _matched(row, Level.SERIES)
        connection.execute(_INSERT_SERIES, (study, series, *kept, version.sop_class_uid, *matched))
        return
    _, fingerprint_so_far, sop_classes = there
    if version.sop_class_uid not in sop_classes.split("\\"):
        sop_classes = "\\".join(sorted((*sop_classes.split("\\"), version.sop_class_uid)))
    counted = (int(is_new_instance), version.size_bytes, fingerprint_so_far ^ added, sop_classes)
    connection.execute(_COUNT_IN_SERIES, (*counted, study, series))


def _represent(connection: sqlite3.Connection, row: Row, row_id: int) -> None:
    """Let a row stand for its series and its study where it precedes what does so."""
    study, series, _ = _uids(row.version.instance)
    precedes = precedence(row.provenance, row.version.digest)
    in_series, *_ = connection.execute(_SELECT_SERIES, (study, series)).fetchone()
    if precedes < in_series:
        matched = _matched(row, Level.SERIES)
        connection.execute(_REPLACE_IN_SERIES, (precedes, row_id, *matched, study, series))
    in_study = connection.execute(_SELECT_STUDY, (study,)).fetchone()
    if in_study is not None and precedes >= in_study[0]:
        return
    kept = (precedes, row_id, patient_key(study, described(row.header)), *_matched(row, Level.STUDY))
    if in_study is None:
        connection.execute(_INSERT_STUDY, (study, *kept))
    else:
        connection.execute(_REPLACE_IN_STUDY, (*kept, study))


def row_of(
    instance: Instance,
    digest: str,
    key: str,
    size_bytes: int,
    data_set_offset_bytes: int,
    sop_class_uid: str,
    transfer_syntax_uid: str,
    block_digests: bytes,
    received_at: str,
    calling_ae: str,
    called_ae: str,
    source: str,
    flags: str,
    order: int,
    header: bytes,
) -> Row:
    """Return what `ROW_COLUMNS` hold."""
    blocks = block_digests.hex()
    return Row(
        Version(
            instance=instance,
            digest=digest,
            key=key,
            size_bytes=size_bytes,
            data_set_offset_bytes=data_set_offset_bytes,
            sop_class_uid=sop_class_uid,
            transfer_syntax_uid=transfer_syntax_uid,
            block_digests=tuple(blocks[at : at + 64] for at in range(0, len(blocks), 64)),
        ),
        Provenance(datetime.fromisoformat(received_at), calling_ae, called_ae, source),
        header,
        tuple(flags.split("\n")) if flags else (),
        order,
    )


def _matched(row: Row, level: Level) -> Sequence[str | bool | None]:
    """Return the values of a table's matched columns, and whether any of them holds several."""
    values: Mapping[str, str | None] = described(row.header)
    matched = [values[column] for column in _COLUMNS[level]]
    return (*matched, any(value is not None and ("\\" in value or "=" in value) for value in matched))


def _with_order(row: Row, provenance: Provenance, order: int) -> Row:
    return Row(row.version, provenance, row.header, row.flags, order)


def _uids(instance: Instance) -> tuple[str, str, str]:
    return instance.study_instance_uid, instance.series_instance_uid, instance.sop_instance_uid


def _debt_row(debt: Debt) -> tuple[str, ...]:
    return (debt.site, *_uids(debt.instance), debt.digest)


def _provenance_row(provenance: Provenance) -> tuple[str, str, str, str]:
    metadata = provenance.to_metadata()
    return metadata["received-at"], metadata["calling-ae"], metadata["called-ae"], metadata["source"]
