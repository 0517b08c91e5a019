"""Fills a PostgreSQL catalogue with the first studies of the population, by COPY, as storing them would.

Each study has one series and one instance, but for some, evenly spread, which have many, to be listed.
`python -m tests.bench.filler SHARE` copies some of the studies, into tables that have no indexes meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from storage_node.catalogue.postgresql.database import SCHEMA, Location
from tests.bench import population
from tests.bench.catalogue_servers import connect
from tests.bench.filled_rows import LISTED_INSTANCES, TABLES, records
from tests.bench.processes import Broken

_PROCESSES: Final = 2
_STUDIES_AT_ONCE: Final = 5000
_TIMEOUT_S: Final = 900.0
_CONSTRAINTS: Final = (
    "SELECT conrelid::regclass::text, quote_ident(conname), pg_get_constraintdef(oid) FROM pg_constraint"
    " WHERE connamespace = $1::regnamespace AND contype IN ('p', 'u') AND conrelid::regclass::text = ANY($2)"
)
_INDEXES: Final = (
    "SELECT quote_ident(indexname), indexdef FROM pg_indexes WHERE schemaname = $1 AND tablename = ANY($2)"
)


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
    shares = [
        Share(location.url, str(location.passfile), first, end, apart)
        for first, end in itertools.pairwise(cuts)
    ]
    with ExitStack() as stack:
        for process in [stack.enter_context(_copying(share)) for share in shares]:
            _wait_for(process)
    asyncio.run(_finish(location, dropped))
    return [population.study(apart * number).study_instance_uid for number in range(listed)]


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


@contextlib.contextmanager
def _copying(share: Share) -> Iterator[subprocess.Popen[str]]:
    """Run a process that copies a share; it is ended when the block is left."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.filler", json.dumps(asdict(share))],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _wait_for(process: subprocess.Popen[str]) -> None:
    try:
        _, said = process.communicate(timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise Broken(f"filling a catalogue: no end after {_TIMEOUT_S:.0f} s") from error
    if process.returncode:
        raise Broken(f"filling a catalogue: {said.strip()[-2000:]}")


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
