"""A PostgreSQL catalogue with 1,300,000 studies: what finds and rows cost there, beside one with 10,000.

Both hold the beginning of one population (`population`), so that a query has as many answers in either.
Rows are added in turn to the large one and to one that was empty.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Final

import uvloop

from cluster.settings import Limits
from deploy.postgresql import PostgresqlServer
from storage_node.catalogue.matching import Query
from storage_node.catalogue.postgresql.catalogue import PostgresqlCatalogue
from storage_node.catalogue.postgresql.database import Location
from storage_node.catalogue.protocol import Catalogue
from storage_node.grid.find import Finding
from tests.bench import filler
from tests.bench.catalogue_queries import Filled, queries
from tests.bench.catalogue_servers import IDENTITY, catalogue_servers, new_catalogue
from tests.bench.explained import Plans, explain
from tests.bench.figures import RATIO, Bar, Figure
from tests.bench.plan import Bench
from tests.bench.processes import Broken
from tests.bench.row_writer import STUDIES, add, rows

PART: Final = "catalogue-million"
_P50_BAR: Final = Bar(1.5, at_least=False)
_P99_BAR: Final = Bar(50.0, at_least=False)
_ADD_BAR: Final = Bar(1.2, at_least=False)
_SCANS_BAR: Final = Bar(0, at_least=False)
_AT_ONCE: Final = (1, 8)
_SEED: Final = 5
_LARGE: Final = 100_000
"""Studies from which on a table is never read from beginning to end for what few rows have."""


@dataclass(slots=True)
class _Asked:
    """What one kind of query took in one catalogue."""

    rounds: list[list[float]] = field(default_factory=list)
    """Milliseconds of each query, round by round; the first warms up."""
    answers: list[int] = field(default_factory=list)
    """How many each query had."""

    async def ask(self, catalogue: Catalogue, query: Query) -> None:
        """Find all that a query matches, as a worker does that asks one catalogue."""
        began = time.perf_counter()
        finding = Finding([catalogue], query, Limits().find_matches + 1, needed=1)
        found = [match async for match in finding]
        self.rounds[-1].append((time.perf_counter() - began) * 1000)
        self.answers.append(len(found))
        if not found:
            raise Broken(f"nothing was found of what is stored: {query}")

    @property
    def medians(self) -> tuple[float, ...]:
        """The middle of each round."""
        return tuple(map(statistics.median, self.rounds[1:]))

    @property
    def p99(self) -> float:
        """What one query of a hundred takes longer than."""
        return statistics.quantiles(itertools.chain.from_iterable(self.rounds[1:]), n=100)[-1]


def run(bench: Bench) -> list[Figure]:
    """Fill them, and ask and add in turn.

    Raises
    ------
    Broken
        A server did not start, a catalogue could not be filled, or what is in it was not found.
    """
    plan = bench.plan
    with catalogue_servers(bench.folder, "million") as servers:
        (server,) = servers.values()
        few = _filled(bench, server, "few", plan.few_studies)
        many = _filled(bench, server, "many", plan.many_studies)
        empty = new_catalogue(server, "none")
        return uvloop.run(_measure(bench, few, many, empty))


def _filled(bench: Bench, server: PostgresqlServer, name: str, studies: int) -> Filled:
    bench.note(f"filling a catalogue with {studies:,} studies")
    location = new_catalogue(server, name)
    return Filled(location, studies, filler.fill(location, studies, bench.plan.listed_studies))


async def _measure(bench: Bench, few: Filled, many: Filled, empty: Location) -> list[Figure]:
    async with AsyncExitStack() as stack:

        def opened(location: Location) -> Catalogue:
            catalogue = PostgresqlCatalogue(IDENTITY.name, location, IDENTITY)
            stack.push_async_callback(catalogue.close)
            return catalogue

        large = opened(many.location)
        asked = await _ask_both(bench, (few, opened(few.location)), (many, large))
        added = await _add_to_both(bench, opened(empty), large, many.studies)
    plans = {
        kind: await explain(many.location, one)
        for kind, (one,) in (await queries(many, 1, seed=_SEED - 1)).items()
    }
    return [
        *(one for kind, both in asked.items() for one in _of_kind(kind, both, plans[kind], many.studies)),
        *_scans(plans, many.studies),
        *(one for at_once, both in added.items() for one in _of_adds(at_once, both, many.studies)),
    ]


async def _ask_both(
    bench: Bench, few: tuple[Filled, Catalogue], many: tuple[Filled, Catalogue]
) -> dict[str, tuple[_Asked, _Asked]]:
    """Ask as many queries of each kind in both, one here, one there."""
    asked: dict[str, tuple[_Asked, _Asked]] = defaultdict(lambda: (_Asked(), _Asked()))
    for number in range(bench.plan.catalogue_rounds + 1):
        bench.note(f"finding (round {number} of {bench.plan.catalogue_rounds})")
        here, there = [
            await queries(filled, bench.plan.catalogue_finds, _SEED + number) for filled, _ in (few, many)
        ]
        for kind in here:
            of_few, of_many = asked[kind]
            of_few.rounds.append([])
            of_many.rounds.append([])
            for one, other in zip(here[kind], there[kind], strict=True):
                await of_few.ask(few[1], one)
                await of_many.ask(many[1], other)
    return asked


async def _add_to_both(
    bench: Bench, empty: Catalogue, large: Catalogue, first_study: int
) -> dict[int, tuple[list[float], list[float]]]:
    """Add rows to both in turn, each of its own; return milliseconds a row, by how many are added at once."""
    costs: dict[int, tuple[list[float], list[float]]] = {number: ([], []) for number in _AT_ONCE}
    for number in range(bench.plan.catalogue_rounds + 1):
        bench.note(f"adding rows (round {number} of {bench.plan.catalogue_rounds})")
        for at_once, both in costs.items():
            for catalogue, taken in zip((empty, large), both, strict=True):
                new = list(rows(first_study, bench.plan.catalogue_adds))
                first_study += STUDIES
                began = time.perf_counter()
                await add([catalogue], new, at_once)
                if number:
                    taken.append((time.perf_counter() - began) * 1000 / len(new))
    return costs


def _of_kind(kind: str, both: tuple[_Asked, _Asked], plans: Plans, studies: int) -> Sequence[Figure]:
    few, many = both
    grown = tuple(large / small for small, large in zip(few.medians, many.medians, strict=True))
    answers = f"{statistics.mean(few.answers):.1f} and {statistics.mean(many.answers):.1f} answers"
    return (
        Figure(PART, f"{kind}: p50 at {studies:,} studies", "ms", many.medians, note=str(plans)),
        Figure(PART, f"{kind}: p50 ÷ that of few", RATIO, grown, _P50_BAR, answers),
        Figure(PART, f"{kind}: p99", "ms", (many.p99,), _P99_BAR),
    )


def _scans(plans: Mapping[str, Plans], studies: int) -> Sequence[Figure]:
    if studies < _LARGE:
        return ()
    scans = {kind: of_kind.sequential for kind, of_kind in plans.items() if of_kind.sequential}
    note = "; ".join(f"{kind}: {', '.join(tables)}" for kind, tables in scans.items())
    count = float(sum(map(len, scans.values())))
    return (Figure(PART, "tables that are read from beginning to end", "", (count,), _SCANS_BAR, note),)


def _of_adds(at_once: int, both: tuple[list[float], list[float]], studies: int) -> Sequence[Figure]:
    empty, large = both
    grown = tuple(one / other for one, other in zip(large, empty, strict=True))
    suffix = f"adding a row, {at_once} at once"
    return (
        Figure(PART, f"{suffix}: at {studies:,} studies", "ms", tuple(large)),
        Figure(PART, f"{suffix}: ÷ when empty", RATIO, grown, _ADD_BAR),
    )
