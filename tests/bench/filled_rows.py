"""What storing the population's studies would make in a PostgreSQL catalogue, table by table.

Headers are left out, so that a million of them fit: what is matched is in columns.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from operator import xor
from typing import Final, TypeAlias

from cluster.dicom.elements import pack
from cluster.nouns import Instance, Level, Provenance, Version, time_text
from storage_node.catalogue import schema, views
from storage_node.catalogue.attributes import KEPT, normalised
from storage_node.catalogue.columns import MATCHED_COLUMNS, version_row
from storage_node.catalogue.protocol import Row
from tests.bench.instances import EXPLICIT_VR_LITTLE_ENDIAN
from tests.bench.population import Study

TABLES: Final = ("versions", "series", "series_counts", "series_classes", "studies", "summaries")
LISTED_INSTANCES: Final = 200
"""Of a study that is made to be listed: no study has more."""

_NO_HEADER: Final = pack({})
_SIZE_BYTES: Final = 526_000
_DATA_SET_OFFSET_BYTES: Final = 340
_VERSION_COLUMNS: Final = tuple(column.name for column in schema.versions.columns if column.name != "id")
_normalised: Final = functools.lru_cache(maxsize=4096)(normalised)
"""Most values come again and again."""

Records: TypeAlias = Mapping[str, object]
"""A row's values by column."""
_Described: TypeAlias = Mapping[str, str | None]


def row(study: Study, instance: int, header: bytes = _NO_HEADER) -> Row:
    """Return the row of an instance of a study."""
    uids = (study.study_instance_uid, study.series_instance_uid, study.sop_instance_uid(instance))
    digest = hashlib.sha256(uids[-1].encode()).hexdigest()
    version = Version(
        instance=Instance(*uids),
        digest=digest,
        key=f"{'/'.join(uids)}/{digest}.dcm",
        size_bytes=_SIZE_BYTES,
        data_set_offset_bytes=_DATA_SET_OFFSET_BYTES,
        sop_class_uid=study.sop_class_uid,
        transfer_syntax_uid=EXPLICIT_VR_LITTLE_ENDIAN,
    )
    return Row(version, Provenance(study.received_at, "SCANNER", "ATRIA", "10.0.0.1:104"), header, order=1)


def records(study: Study, instances: int) -> Iterator[tuple[str, Records]]:
    """Yield what storing a study's instances would make: a table, and a row of it."""
    described = {a.column: _normalised(a.vr, study.values.get(a.tag)) for a in KEPT}
    rows = [row(study, number) for number in range(instances)]
    first_id = study.number * LISTED_INSTANCES + 1
    for number, one in enumerate(rows):
        yield "versions", {"id": first_id + number, **_version(one, number, described)}
    of_study = {"study_instance_uid": study.study_instance_uid}
    of_series = {**of_study, "series_instance_uid": study.series_instance_uid}
    stands = min(range(instances), key=lambda number: _rank(rows[number]))
    standing = {"rank": _rank(rows[stands]), "representative": first_id + stands}
    patient = {"patient_key": views.patient_key(study.study_instance_uid, described)}
    yield "series", {**of_series, **standing, **_matched(described, Level.SERIES)}
    yield "series_counts", {**of_series, **_counts(rows)}
    yield "series_classes", {**of_series, "sop_class_uid": study.sop_class_uid}
    yield "studies", {**of_study, **standing, **patient, **_matched(described, Level.STUDY)}
    yield "summaries", {**of_study, **_summary(rows)}


def _version(one: Row, number: int, described: _Described) -> Records:
    kept = version_row(one, time_text(one.provenance.received_at), is_current=True, is_hidden=False)
    of_image = {**_matched(described, Level.IMAGE), "instance_number": str(number + 1)}
    return {**dict(zip(_VERSION_COLUMNS, kept, strict=True)), **of_image}


def _rank(one: Row) -> str:
    return views.rank(views.precedence(one.provenance, one.version.digest), hidden=False)


def _counts(rows: Sequence[Row]) -> Records:
    return {
        "part": 0,
        "instances": len(rows),
        "versions": len(rows),
        "size_bytes": _SIZE_BYTES * len(rows),
        "fingerprint": reduce(xor, (views.fingerprint(one.version.instance) for one in rows)),
    }


def _summary(rows: Sequence[Row]) -> Records:
    fingerprints = [
        views.row_fingerprint(one.version.instance, one.version.digest, one.order, one.provenance)
        for one in rows
    ]
    return {"part": 0, "entries": len(rows), "fingerprint": reduce(xor, fingerprints)}


def _matched(described: _Described, level: Level) -> Records:
    values = {name: described[name] for name in MATCHED_COLUMNS[level]}
    several = any("\\" in value or "=" in value for value in values.values() if value is not None)
    return {**values, "several": several}
