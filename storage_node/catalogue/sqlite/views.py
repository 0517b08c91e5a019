# ruff: noqa: S608  (names of tables and columns are constants; values are bound)
"""The views that an SQLite catalogue keeps of its rows and facts: series, studies, and their summaries.

They are kept in the transaction that changes what they follow from. A new row changes them by what it adds;
what hides an instance, or shows it again, is rare: then what stands for its series is looked for anew.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import partial
from typing import Final

from sqlalchemy import Table

from cluster.nouns import Instance, Level
from storage_node.catalogue import corrections, schema
from storage_node.catalogue.columns import MATCHED_COLUMNS, insert, matched, uids_of
from storage_node.catalogue.protocol import Row
from storage_node.catalogue.sqlite.read import facts_of
from storage_node.catalogue.views import fingerprint, precedence, rank


def _replace_representative(table: Table, *columns: str) -> str:
    """Return the statement by which another version comes to stand for an entity."""
    keys = [column.name for column in table.primary_key]
    names = ("rank", "representative", *columns, "several", "corrections")
    changes = ", ".join(f"{name} = ?" for name in names)
    return f"UPDATE {table.name} SET {changes} WHERE {' AND '.join(f'{key} = ?' for key in keys)}"


def _combine(column: str, other: str) -> str:
    """Return the exclusive or of two numbers of 63 bits, for which SQLite has no operator."""
    return f"({column} | {other}) - ({column} & {other})"


_OF_SERIES: Final = "study_instance_uid = ? AND series_instance_uid = ?"
_STANDING: Final = (
    "SELECT studies.rank, series.rank, sop_classes FROM (SELECT ?1 AS study, ?2 AS series) AS wanted"
    " LEFT JOIN studies ON studies.study_instance_uid = study LEFT JOIN series"
    " ON series.study_instance_uid = study AND series.series_instance_uid = wanted.series"
)
"""The ranks by which others stand for a study and a series, NULL for none; and the classes of the series."""
_INSERT_SERIES: Final = insert(schema.series)
_COUNT_IN_SERIES: Final = (
    "UPDATE series SET instances = instances + ?1, versions = versions + ?2, size_bytes = size_bytes + ?3,"
    f" fingerprint = {_combine('fingerprint', '?4')}, sop_classes = ?5"
    " WHERE study_instance_uid = ?6 AND series_instance_uid = ?7"
)
_REPLACE_IN_SERIES: Final = _replace_representative(schema.series, *MATCHED_COLUMNS[Level.SERIES])
_INSERT_STUDY: Final = insert(schema.studies)
_REPLACE_IN_STUDY: Final = _replace_representative(
    schema.studies, "patient_key", *MATCHED_COLUMNS[Level.STUDY]
)
_SUMMARISE: Final = (
    f"{insert(schema.summaries)} ON CONFLICT DO UPDATE SET entries = entries + excluded.entries,"
    f" fingerprint = {_combine('fingerprint', 'excluded.fingerprint')}"
)
_SELECT_SERIES: Final = f"SELECT rank, instances, sop_classes FROM series WHERE {_OF_SERIES}"
_PRECEDENCE: Final = "received_at || char(10) || " + " || char(10) || ".join(
    ("calling_ae", "called_ae", "source", "digest")
)
"""`views.precedence`, as SQLite works it out."""
_FIRST_IN_INSTANCE: Final = (
    f"SELECT id, {_PRECEDENCE} AS precedes FROM versions WHERE {_OF_SERIES} AND sop_instance_uid = ?"
    " ORDER BY precedes LIMIT 1"
)
_FIRST_IN_SERIES: Final = (
    f"SELECT id, {_PRECEDENCE} AS precedes, is_hidden FROM versions WHERE {_OF_SERIES}"
    " ORDER BY is_hidden, precedes LIMIT 1"
)
_FIRST_IN_STUDY: Final = (
    "SELECT representative, rank FROM series WHERE study_instance_uid = ? ORDER BY rank LIMIT 1"
)
_CLASSES_IN_SERIES: Final = (
    f"SELECT DISTINCT sop_class_uid FROM versions WHERE {_OF_SERIES} AND is_current AND NOT is_hidden"
)
_HIDE: Final = f"UPDATE versions SET is_hidden = ? WHERE {_OF_SERIES} AND sop_instance_uid = ?"
_SET_CLASSES: Final = f"UPDATE series SET sop_classes = ? WHERE {_OF_SERIES}"
_SELECT_HEADER: Final = "SELECT header FROM versions WHERE id = ?"
_STUDY_COLUMNS: Final = "rank, representative, header FROM studies JOIN versions ON id = representative"
_STUDY_STANDING: Final = f"SELECT {_STUDY_COLUMNS} WHERE studies.study_instance_uid = ?"
_SERIES_STANDING: Final = (
    "SELECT rank, representative, header FROM series JOIN versions ON id = representative"
    " WHERE series.study_instance_uid = ? AND series.series_instance_uid = ?"
)
_STUDIES_OF_PATIENT: Final = (
    f"SELECT studies.study_instance_uid, {_STUDY_COLUMNS} WHERE studies.study_instance_uid IN"
    " (SELECT study_instance_uid FROM studies WHERE patient_key = ?"
    " UNION SELECT study_instance_uid FROM former_patients WHERE patient_key = ?)"
)
_FORGET_PATIENTS: Final = "DELETE FROM former_patients WHERE study_instance_uid = ?"
_NOTE_PATIENT: Final = insert(schema.former_patients).replace("INSERT", "INSERT OR IGNORE", 1)


def summarise(connection: sqlite3.Connection, study: str, *, entries: int, changed: int) -> None:
    """Change a study's summary by a number of entries, and by a fingerprint."""
    connection.execute(_SUMMARISE, (study, entries, changed))


def add_version(
    connection: sqlite3.Connection, row: Row, row_id: int, *, is_new_instance: bool, hidden: bool
) -> None:
    """Count a new version in its series, and let it stand for what it precedes."""
    version = row.version
    study, series, _ = uids_of(version.instance)
    ranked = rank(precedence(row.provenance, version.digest), hidden=hidden)
    shown = int(is_new_instance and not hidden)
    sop_class = version.sop_class_uid
    added = fingerprint(version.instance, hidden=hidden) if is_new_instance else 0
    counted = (shown, 1, version.size_bytes, added)
    in_study, in_series, sop_classes = connection.execute(_STANDING, (study, series)).fetchone()
    if in_series is None:
        first = (study, series, ranked, row_id, *counted, sop_class if shown else "")
        connection.execute(_INSERT_SERIES, (*first, *_of_series(connection, study, series, row.header)))
    else:
        if shown and sop_class not in sop_classes.split("\\"):
            sop_classes = "\\".join(sorted(filter(None, (*sop_classes.split("\\"), sop_class))))
        connection.execute(_COUNT_IN_SERIES, (*counted, sop_classes, study, series))
    if in_study is None:
        kept = _of_study(connection, study, row.header)
        connection.execute(_INSERT_STUDY, (study, ranked, row_id, *kept))
    _represent(connection, row, row_id, ranked, in_study, in_series)


def precede(connection: sqlite3.Connection, row: Row, row_id: int, *, hidden: bool) -> None:
    """Let a row whose provenance is an earlier one now stand for what it precedes."""
    study, series, _ = uids_of(row.version.instance)
    ranked = rank(precedence(row.provenance, row.version.digest), hidden=hidden)
    in_study, in_series, _ = connection.execute(_STANDING, (study, series)).fetchone()
    _represent(connection, row, row_id, ranked, in_study, in_series)


def _represent(
    connection: sqlite3.Connection,
    row: Row,
    row_id: int,
    ranked: str,
    in_study: str | None,
    in_series: str | None,
) -> None:
    study, series, _ = uids_of(row.version.instance)
    if in_series is not None and ranked < in_series:
        _replace_in_series(connection, study, series, ranked, row_id, row.header)
    if in_study is not None and ranked < in_study:
        _replace_in_study(connection, study, ranked, row_id, row.header)


def turn(connection: sqlite3.Connection, instance: Instance, *, hidden: bool) -> None:
    """Hide an instance, if it has rows, or show it again, in the views of its series and its study.

    A series is searched only where what stood for it is hidden, or where its SOP classes may change.
    """
    study, series, _ = uids = uids_of(instance)
    if not connection.execute(_HIDE, (hidden, *uids)).rowcount:
        return
    before, instances, sop_classes = connection.execute(_SELECT_SERIES, (study, series)).fetchone()
    changed = fingerprint(instance, hidden=False) ^ fingerprint(instance, hidden=True)
    counted = (-1 if hidden else 1, 0, 0, changed, sop_classes)
    connection.execute(_COUNT_IN_SERIES, (*counted, study, series))
    if not hidden or instances == 1 or "\\" in sop_classes:
        list_classes(connection, study, series)
    row_id, precedes = connection.execute(_FIRST_IN_INSTANCE, uids).fetchone()
    if hidden:
        if precedes != before:
            return
        row_id, precedes, hidden = connection.execute(_FIRST_IN_SERIES, (study, series)).fetchone()
    elif precedes > before:
        return
    ranked = rank(precedes, hidden=bool(hidden))
    _replace_in_series(connection, study, series, ranked, row_id, _header(connection, row_id))
    row_id, ranked = connection.execute(_FIRST_IN_STUDY, (study,)).fetchone()
    _replace_in_study(connection, study, ranked, row_id, _header(connection, row_id))


def list_classes(connection: sqlite3.Connection, study: str, series: str) -> None:
    """List the SOP classes of a series anew: an instance is shown, hidden, or now of another class."""
    classes = sorted(uid for (uid,) in connection.execute(_CLASSES_IN_SERIES, (study, series)))
    connection.execute(_SET_CLASSES, ("\\".join(classes), study, series))


def correct(connection: sqlite3.Connection, subject: Instance) -> None:
    """Let a correction show: of a series, of a study, or of all studies that are, or were, a patient's."""
    study, series, _ = uids_of(subject)
    match subject.level:
        case Level.SERIES:
            for standing in connection.execute(_SERIES_STANDING, (study, series)).fetchall():
                _replace_in_series(connection, study, series, *standing)
        case Level.STUDY:
            for standing in connection.execute(_STUDY_STANDING, (study,)).fetchall():
                _replace_in_study(connection, study, *standing)
        case Level.PATIENT:
            for uid, *standing in connection.execute(_STUDIES_OF_PATIENT, (study, study)).fetchall():
                _replace_in_study(connection, uid, *standing)
        case Level.IMAGE:
            pass  # nothing of an instance is corrected: see `FactKind.CORRECTED`


def _replace_in_series(
    connection: sqlite3.Connection, study: str, series: str, ranked: str, row_id: int, header: bytes
) -> None:
    kept = _of_series(connection, study, series, header)
    connection.execute(_REPLACE_IN_SERIES, (ranked, row_id, *kept, study, series))


def _replace_in_study(
    connection: sqlite3.Connection, study: str, ranked: str, row_id: int, header: bytes
) -> None:
    kept = _of_study(connection, study, header)
    connection.execute(_REPLACE_IN_STUDY, (ranked, row_id, *kept, study))


def _of_series(connection: sqlite3.Connection, study: str, series: str, header: bytes) -> Sequence[object]:
    """Return the columns of a series that follow from the header of the version that stands for it."""
    of = corrections.correct(corrections.series(study, series, header), partial(facts_of, connection))
    return (*matched(of.values, Level.SERIES), corrections.to_text(of.details))


def _of_study(connection: sqlite3.Connection, study: str, header: bytes) -> Sequence[object]:
    """Return the like of a study; note which patients it was said to belong to."""
    of = corrections.correct(corrections.study(study, header), partial(facts_of, connection))
    connection.execute(_FORGET_PATIENTS, (study,))
    connection.executemany(_NOTE_PATIENT, ((key, study) for key in of.patients[:-1]))
    details = corrections.to_text(of.details)
    return (of.patients[-1], *matched(of.values, Level.STUDY), details)


def _header(connection: sqlite3.Connection, row_id: int) -> bytes:
    header: bytes
    (header,) = connection.execute(_SELECT_HEADER, (row_id,)).fetchone()
    return header
