"""A catalogue as the first migration left it, with rows as the code of then wrote them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import sqlalchemy

from cluster.nouns import Level, SiteIdentity
from storage_node.catalogue import migrations
from storage_node.catalogue.attributes import KEPT, described
from storage_node.catalogue.protocol import Row
from storage_node.catalogue.views import fingerprint, patient_key, precedence


def make(file: Path, identity: SiteIdentity, rows: Iterable[Row]) -> None:
    """Make a catalogue of rows: one a study, but for those that are a further version of its instance."""
    engine = sqlalchemy.create_engine(f"sqlite:///{file}")
    with engine.begin() as migrated:
        migrations.upgrade(migrated, "0001")
    engine.dispose()
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(
            "INSERT INTO site VALUES (?, ?, ?)", (identity.name, identity.site_id, identity.generation)
        )
        for row_id, row in enumerate(rows, 1):
            _write(connection, row_id, row)


def _write(connection: sqlite3.Connection, row_id: int, row: Row) -> None:
    version = row.version
    instance = version.instance
    study = {"study_instance_uid": instance.study_instance_uid}
    series = {**study, "series_instance_uid": instance.series_instance_uid}
    connection.execute(
        "UPDATE versions SET is_current = FALSE WHERE study_instance_uid = ?", tuple(study.values())
    )
    _insert(
        connection,
        "versions",
        {
            **series,
            "sop_instance_uid": instance.sop_instance_uid,
            "id": row_id,
            "digest": version.digest,
            "key": version.key,
            "size_bytes": version.size_bytes,
            "data_set_offset_bytes": version.data_set_offset_bytes,
            "sop_class_uid": version.sop_class_uid,
            "transfer_syntax_uid": version.transfer_syntax_uid,
            "block_digests": b"",
            **{name.replace("-", "_"): value for name, value in row.provenance.to_metadata().items()},
            "flags": "\n".join(row.flags),
            "order_number": row.order,
            "is_current": True,
            "header": row.header,
            **_matched(row, Level.IMAGE),
        },
    )
    if row.order > 1:
        connection.execute(
            "UPDATE series SET versions = versions + 1, size_bytes = size_bytes + ?,"
            " sop_classes = sop_classes || '\\' || ? WHERE study_instance_uid = ?",
            (version.size_bytes, version.sop_class_uid, instance.study_instance_uid),
        )
        return
    stands = {"precedence": precedence(row.provenance, version.digest), "representative": row_id}
    counted = {
        "instances": 1,
        "versions": 1,
        "size_bytes": version.size_bytes,
        "fingerprint": fingerprint(instance),
        "sop_classes": version.sop_class_uid,
    }
    key = {"patient_key": patient_key(instance.study_instance_uid, described(row.header))}
    _insert(connection, "series", {**series, **stands, **counted, **_matched(row, Level.SERIES)})
    of_study = _matched(row, Level.PATIENT, Level.STUDY)
    _insert(connection, "studies", {**study, **stands, **key, **of_study})


def _matched(row: Row, *levels: Level) -> dict[str, Any]:
    values = described(row.header)
    return {**{a.column: values[a.column] for a in KEPT if a.level in levels}, "several": False}


def _insert(connection: sqlite3.Connection, table: str, values: Mapping[str, Any]) -> None:
    places = ", ".join("?" * len(values))
    connection.execute(
        f"INSERT INTO {table} ({', '.join(values)}) VALUES ({places})",  # constants
        tuple(values.values()),
    )
