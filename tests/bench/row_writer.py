"""A process that adds rows to catalogues, as a worker does: each row at all of them, many at once.

It says `ready` when its connections stand and its rows are made, and begins when it is told to.
`python -m tests.bench.row_writer JOB` prints one more line then, of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import uvloop

from storage_node.catalogue.postgresql.catalogue import PostgresqlCatalogue
from storage_node.catalogue.postgresql.database import Location
from storage_node.catalogue.protocol import Catalogue, Row
from tests.bench import population
from tests.bench.catalogue_servers import IDENTITY
from tests.bench.ct_rows import ct_row

READY: Final = "ready"
STUDIES: Final = 24
"""That instances come of at the same time."""


@dataclass(frozen=True, slots=True)
class RowJob:
    """Which rows are to be added, and where."""

    urls: tuple[str, ...]
    passfiles: tuple[str, ...]
    first_study: int
    """Number in the population of the first of the studies that they are of."""
    count: int
    at_once: int = 64


@dataclass(frozen=True, slots=True)
class RowResult:
    """What became of it."""

    rows: int
    seconds: float
    cpu_seconds: float
    """Of this process."""


def rows(first_study: int, count: int) -> Iterator[Row]:
    """Yield rows of some studies of the population, as if they came at the same time."""
    studies = [population.study(first_study + number) for number in range(STUDIES)]
    for number in range(count):
        yield ct_row(studies[number % STUDIES], number // STUDIES)


async def add(catalogues: Sequence[Catalogue], new: Sequence[Row], at_once: int) -> None:
    """Add rows, each at all catalogues, so many at once."""
    left = iter(new)

    async def work() -> None:
        for row in left:
            verified_at = datetime.now(UTC)
            await asyncio.gather(*(one.add(row, verified_at=verified_at) for one in catalogues))

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(work())


async def _run(job: RowJob) -> RowResult:
    async with AsyncExitStack() as stack:
        catalogues = []
        for url, passfile in zip(job.urls, job.passfiles, strict=True):
            catalogue = PostgresqlCatalogue(IDENTITY.name, Location(url, Path(passfile)), IDENTITY)
            stack.push_async_callback(catalogue.close)
            catalogues.append(catalogue)
        first, *others = rows(job.first_study, job.count + 1)
        await add(catalogues, [first], 1)
        print(READY, flush=True)
        sys.stdin.readline()
        began, cpu_before = time.perf_counter(), time.process_time()
        await add(catalogues, others, job.at_once)
        return RowResult(len(others), time.perf_counter() - began, time.process_time() - cpu_before)


def main() -> None:
    """Add what the command line says; print how fast."""
    print(json.dumps(asdict(uvloop.run(_run(RowJob(**json.loads(sys.argv[1])))))))


if __name__ == "__main__":
    main()
