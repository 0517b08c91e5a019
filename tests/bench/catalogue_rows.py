"""Rows a second into PostgreSQL catalogues, each row at all of them, from one process and from two."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from deploy.postgresql import PostgresqlServer
from storage_node.catalogue.postgresql.database import Location
from tests.bench.catalogue_servers import catalogue_servers, new_catalogue
from tests.bench.figures import Bar, Figure, Leg, interleaved
from tests.bench.object_servers import NAMES
from tests.bench.plan import Bench
from tests.bench.processes import Broken, cpu_seconds
from tests.bench.row_writer import READY, STUDIES, RowJob, RowResult

PART: Final = "catalogue-rows"
_BAR: Final = Bar(3000, at_least=True)
_TIMEOUT_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class _Contender:
    name: str
    sites: Sequence[str]
    processes: int
    bar: Bar | None = None


_CONTENDERS: Final = (
    _Contender("three catalogues, 1 process", NAMES, 1, _BAR),
    _Contender("three catalogues, 2 processes", NAMES, 2, _BAR),
    _Contender("one catalogue, 1 process", NAMES[:1], 1),
)


@dataclass(frozen=True, slots=True)
class _Spent:
    """CPU of all rows of a turn, in milliseconds a row."""

    writers: float
    servers: float


def run(bench: Bench) -> list[Figure]:
    """Have each add as many rows in turn, 64 at once in a process.

    Raises
    ------
    Broken
        A server did not start, or a row was not added.
    """
    bench.note("starting three PostgreSQL servers")
    with catalogue_servers(bench.folder / PART, *NAMES) as servers:
        places = {name: new_catalogue(server, "rows") for name, server in servers.items()}
        turns = _Turns(servers, places, bench.plan.catalogue_rows)
        legs = {contender.name: turns.of(contender) for contender in _CONTENDERS}
        rates = interleaved(legs, bench.plan.catalogue_rounds, bench.note)
    return [figure for contender in _CONTENDERS for figure in _figures(contender, rates, turns)]


class _Turns:
    """Everybody's turns, and what they spent."""

    def __init__(
        self, servers: Mapping[str, PostgresqlServer], places: Mapping[str, Location], count: int
    ) -> None:
        self._servers = servers
        self._places = places
        self._count = count
        self._studies = itertools.count(step=STUDIES)
        self.spent: dict[str, list[_Spent]] = {contender.name: [] for contender in _CONTENDERS}

    def of(self, contender: _Contender) -> Leg:
        """Return a contender's turn: its rows a second."""
        places = [self._places[site] for site in contender.sites]

        def leg() -> float:
            jobs = [self._job(places, self._count // contender.processes) for _ in range(contender.processes)]
            results, by_servers = self._write(jobs)
            rows = sum(result.rows for result in results)
            by_writers = sum(result.cpu_seconds for result in results)
            self.spent[contender.name].append(_Spent(by_writers / rows * 1000, by_servers / rows * 1000))
            return rows / max(result.seconds for result in results)

        return leg

    def _job(self, places: Sequence[Location], count: int) -> RowJob:
        urls = tuple(place.url for place in places)
        return RowJob(urls, tuple(str(place.passfile) for place in places), next(self._studies), count)

    def _write(self, jobs: Sequence[RowJob]) -> tuple[Sequence[RowResult], float]:
        """Have each job done by a process of its own, all at the same time; return what the servers spent."""
        with ExitStack() as stack:
            writers = [stack.enter_context(_Writer(job)) for job in jobs]
            for writer in writers:
                writer.wait_until_ready()
            before = self._spent_by_servers()
            for writer in writers:
                writer.begin()
            results = [writer.result() for writer in writers]
        return results, self._spent_by_servers() - before

    def _spent_by_servers(self) -> float:
        return sum(cpu_seconds(server.pid) for server in self._servers.values() if server.pid is not None)


def _figures(
    contender: _Contender, rates: Mapping[str, tuple[float, ...]], turns: _Turns
) -> Sequence[Figure]:
    values = rates[contender.name]
    spent = turns.spent[contender.name][-len(values) :]
    return (
        Figure(PART, contender.name, "/s", values, contender.bar),
        Figure(
            PART, f"{contender.name}: a row costs its writer", "ms CPU", tuple(one.writers for one in spent)
        ),
        Figure(PART, f"{contender.name}: and the servers", "ms CPU", tuple(one.servers for one in spent)),
    )


class _Writer:
    def __init__(self, job: RowJob) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.row_writer", json.dumps(asdict(job))],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def wait_until_ready(self) -> None:
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != READY:
            _, said = self._process.communicate(timeout=_TIMEOUT_S)
            raise Broken(f"a writer of rows: {said.strip()[-2000:]}")

    def begin(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def result(self) -> RowResult:
        try:
            told, said = self._process.communicate(timeout=_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            raise Broken(f"a writer of rows: no end after {_TIMEOUT_S:.0f} s") from error
        if self._process.returncode:
            raise Broken(f"a writer of rows: {said.strip()[-2000:]}")
        return RowResult(**json.loads(told))
