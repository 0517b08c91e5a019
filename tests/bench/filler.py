"""Fills a PostgreSQL catalogue with the first studies of the population, by COPY, as storing them would.

Each study has one series and one instance, but for some, evenly spread, which have many, to be listed. Their
headers are left out, so that a million of them fit: what is matched is in columns. `python -m
tests.bench.filler JOB` copies some of the studies, into tables that have no indexes meanwhile.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import hashlib
import itertools
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import reduce
from operator import xor
from pathlib import Path
from typing import Final, TypeAlias

import asyncpg

from cluster.dicom.elements import pack
from cluster.nouns import Instance, Level, Provenance, Version, time_text
from storage_node.catalogue import schema, views
from storage_node.catalogue.attributes import KEPT, normalised
from storage_node.catalogue.columns import MATCHED_COLUMNS, version_row
from storage_node.catalogue.postgresql.database import SCHEMA, Location
from storage_node.catalogue.protocol import Row
from tests.bench import population
from tests.bench.instances import EXPLICIT_VR_LITTLE_ENDIAN
from tests.bench.population import Study
from tests.bench.processes import Broken

LISTED_INSTANCES: Final = 200
"""Of a study that is made to be listed."""

_NO_HEADER: Final = pack({})
_PROCESSES: Final = 2
_STUDIES_AT_ONCE: Final = 5000
_TIMEOUT_S: Final = 900.0
_SIZE_BYTES: Final = 526_000
_DATA_SET_OFFSET_BYTES: Final = 340
_VERSION_COLUMNS: Final = tuple(column.name for column in schema.versions.columns if column.name != "id")
TABLES: Final = ("versions", "series", "series_counts", "series_classes", "studies", "summaries")
_CONSTRAINTS: Final = (
    "SELECT conrelid::regclass::text, quote_ident(conname), pg_get_constraintdef(oid) FROM pg_constraint"
    " WHERE connamespace = $1::regnamespace AND contype IN ('p', 'u') AND conrelid::regclass::text = ANY($2)"
)
_INDEXES: Final = (
    "SELECT quote_ident(indexname), indexdef FROM pg_indexes WHERE schemaname = $1 AND tablename = ANY($2)"
)

_normalised: Final = functools.lru_cache(maxsize=4096)(normalised)
"""Most values come again and again."""

Records: TypeAlias = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Share:
    """The studies that one process copies."""

    url: str
    passfile: str
    first: int
    end: int
    listed_apart: int


def fill(location: Location, count: int, listed: int) -> list[str]:
    """Fill an empty catalogue with `count` studies, of which `listed` have many instances.

    Returns
    -------
    list of str
        The UIDs of these.

    Raises
    ------
    Broken
        It could not be filled.
    """
    apart = count // listed
    dropped = asyncio.run(_drop_indexes(location))
    cuts = [count * number // _PROCESSES for number in range(_PROCESSES + 1)]
    processes = [
        _copying(Share(location.url, str(location.passfile), first, end, apart))
        for first, end in itertools.pairwise(cuts)
    ]
    for process in processes:
        _, said = process.communicate(timeout=_TIMEOUT_S)
        if process.returncode:
            raise Broken(f"filling a catalogue: {said.strip()[-2000:]}")
    asyncio.run(_finish(location, dropped))
    return [population.study(apart * number).study_instance_uid for number in range(listed)]


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
    """Yield what storing a study's instances would make: a table, and the values of a row by column."""
    columns = {a.column: _normalised(a.vr, study.values.get(a.tag)) for a in KEPT}
    rows = [row(study, number) for number in range(instances)]
    ids = [study.number * LISTED_INSTANCES + number + 1 for number in range(instances)]
    for one, number in zip(rows, ids, strict=True):
        kept = version_row(one, time_text(study.received_at), is_current=True, is_hidden=False)
        image = {**_matched(columns, Level.IMAGE), "instance_number": str(number - ids[0] + 1)}
        yield "versions", {"id": number, **dict(zip(_VERSION_COLUMNS, kept, strict=True)), **image}
    rank, representative = min(
        (views.precedence(one.provenance, one.version.digest), number)
        for one, number in zip(rows, ids, strict=True)
    )
    of_study = {"study_instance_uid": study.study_instance_uid}
    of_series = {**of_study, "series_instance_uid": study.series_instance_uid}
    standing = {"rank": rank, "representative": representative}
    yield "series", {**of_series, **standing, **_matched(columns, Level.SERIES)}
    fingerprints = [views.fingerprint(one.version.instance) for one in rows]
    yield (
        "series_counts",
        {
            **of_series,
            "part": 0,
            "instances": instances,
            "versions": instances,
            "size_bytes": _SIZE_BYTES * instances,
            "fingerprint": reduce(xor, fingerprints),
        },
    )
    yield "series_classes", {**of_series, "sop_class_uid": study.sop_class_uid}
    patient = {"patient_key": views.patient_key(study.study_instance_uid, columns)}
    yield "studies", {**of_study, **standing, **patient, **_matched(columns, Level.STUDY)}
    hashes = [
        views.row_fingerprint(one.version.instance, one.version.digest, one.order, one.provenance)
        for one in rows
    ]
    yield "summaries", {**of_study, "part": 0, "entries": instances, "fingerprint": reduce(xor, hashes)}


def _matched(columns: Mapping[str, str | None], level: Level) -> Records:
    values = {name: columns[name] for name in MATCHED_COLUMNS[level]}
    several = any("\\" in value or "=" in value for value in values.values() if value is not None)
    return {**values, "several": several}


async def connect(location: Location) -> asyncpg.Connection:
    """Connect to a catalogue's database."""
    settings = {"search_path": f"{SCHEMA}, public", "maintenance_work_mem": "256MB", "jit": "off"}
    return await asyncpg.connect(
        location.url, passfile=str(location.passfile), server_settings=settings, timeout=10
    )


async def _drop_indexes(location: Location) -> list[str]:
    """Drop the indexes of the tables that are filled; return the statements that make them again."""
    connection = await connect(location)
    try:
        again = []
        for table, name, definition in await connection.fetch(_CONSTRAINTS, SCHEMA, TABLES):
            again.append(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}")
            await connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
        for name, definition in await connection.fetch(_INDEXES, SCHEMA, TABLES):
            again.append(definition)
            await connection.execute(f"DROP INDEX {name}")
        return again
    finally:
        await connection.close()


async def _finish(location: Location, dropped: list[str]) -> None:
    """Make the indexes again, and what autovacuum would have made by then."""
    connection = await connect(location)
    try:
        for statement in dropped:
            await connection.execute(statement)
        await connection.execute(
            "SELECT setval(pg_get_serial_sequence('versions', 'id'), max(id)) FROM versions"
        )
        await connection.execute("VACUUM (ANALYZE)")
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()


def _copying(share: Share) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.bench.filler", json.dumps(asdict(share))],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


async def _copy(share: Share) -> None:
    connection = await connect(Location(share.url, Path(share.passfile)))
    try:
        for first in range(share.first, share.end, _STUDIES_AT_ONCE):
            columns: dict[str, list[str]] = {}
            rows: dict[str, list[tuple[object, ...]]] = defaultdict(list)
            for number in range(first, min(share.end, first + _STUDIES_AT_ONCE)):
                instances = 1 if number % share.listed_apart else LISTED_INSTANCES
                for table, record in records(population.study(number), instances):
                    columns.setdefault(table, list(record))
                    rows[table].append(tuple(record.values()))
            for table, names in columns.items():
                await connection.copy_records_to_table(
                    table, records=rows[table], columns=names, schema_name=SCHEMA
                )
    finally:
        await connection.close()


def main() -> None:
    """Copy what the command line says."""
    gc.disable()  # there are no cycles, and looking for them takes a fifth of the time
    asyncio.run(_copy(Share(**json.loads(sys.argv[1]))))


if __name__ == "__main__":
    main()
