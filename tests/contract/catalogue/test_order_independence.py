"""What a catalogue says follows from its rows and facts, in whatever order and however often they came."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.nouns import Fact, Level
from storage_node.catalogue.attributes import ATTRIBUTES, KEPT, normal
from storage_node.catalogue.matching import Key, Like, OneOf, Query, Within
from storage_node.catalogue.memory import MemoryCatalogue
from storage_node.catalogue.protocol import Catalogue, Counts, Match, Row, StudySummary
from storage_node.catalogue.sqlite.catalogue import SqliteCatalogue
from tests.contract.catalogue.conftest import IDENTITY, Make
from tests.contract.catalogue.facts import facts as facts_about
from tests.contract.catalogue.rows import CT, MR, add, row
from tests.postgresql import Databases

_TEXT = st.sampled_from([None, "", "A", "a", "B1", "B2", "B*", "A\\B1", "C=A", "[B1]"])
_DATE = st.sampled_from([None, "", "20240101", "20240102", "2024.01.03", "20240101\\20240103"])
_ROWS = st.lists(
    st.builds(
        lambda study, series, sop, **values: row(
            f"1.{study}", f"1.{study}.{series}", f"1.{study}.{series}.{sop}", **values
        ),
        study=st.integers(1, 3),
        series=st.integers(1, 2),
        sop=st.integers(1, 2),
        content=st.sampled_from(["", "x"]),
        minute=st.integers(0, 3),
        sop_class=st.sampled_from([CT, MR]),
        order=st.integers(1, 3),
        name=_TEXT,
        patient_id=_TEXT,
        issuer=st.sampled_from([None, "X"]),
        modality=st.sampled_from([None, "CT", "MR", "CT\\MR"]),
        study_date=_DATE,
        number=st.sampled_from([None, "1", " 01", "2\\3"]),
    ),
    max_size=10,
)
_TEXTS = [a for a in KEPT if a.column in ("patient_name", "patient_id", "modality")]
_DATES = [a for a in KEPT if a.column == "study_date"]
_EXACT = [
    *_TEXTS,
    *_DATES,
    *(a for a in KEPT if a.column == "instance_number"),
    *(ATTRIBUTES[tag] for tag in (0x00080061, 0x00080062, 0x0020000D, 0x0020000E, 0x00080018, 0x00080016)),
]
_VALUE = st.sampled_from(["A", "a", "B1", "20240101", "20240103", "1", "CT", CT, "1.1", "1.2.1", "1.2.1.1"])
_KEY = st.one_of(
    st.builds(
        lambda attribute, values: OneOf(attribute, tuple(normal(attribute.vr, value) for value in values)),
        st.sampled_from(_EXACT),
        st.lists(_VALUE, min_size=1, max_size=2),
    ),
    st.builds(
        lambda attribute, patterns: Like(attribute, tuple(normal(attribute.vr, p) for p in patterns)),
        st.sampled_from(_TEXTS),
        st.lists(st.sampled_from(["A*", "B?", "*1", "[B*", "?*", "C?"]), min_size=1, max_size=2),
    ),
    st.builds(
        lambda attribute, ends: Within(attribute, *ends),
        st.sampled_from(_DATES),
        st.sampled_from([("20240102", None), (None, "20240102"), ("20240101", "20240102")]),
    ),
)
_LEVELS = list(Level)


def _keys(level: Level) -> st.SearchStrategy[list[Key]]:
    """Keys that `parse_find` gives a query of that level."""

    def fits(key: Key) -> bool:
        if key.attribute.tag in (0x00080061, 0x00080062):
            return level is Level.STUDY
        return _LEVELS.index(key.attribute.level) <= _LEVELS.index(level)

    return st.lists(_KEY.filter(fits), max_size=2)


_QUERIES = st.sampled_from(_LEVELS).flatmap(
    lambda level: st.builds(Query, st.just(level), _keys(level).map(tuple))
)


async def _tell(
    catalogue: Catalogue, additions: Sequence[Row | Fact], query: Query
) -> tuple[Counts, list[Match], list[Match], list[StudySummary]]:
    await asyncio.gather(
        *(add(catalogue, each) if isinstance(each, Row) else catalogue.decide(each) for each in additions)
    )
    matches = [match async for match in catalogue.find(query, 100)]
    everything = [match for level in Level async for match in catalogue.find(Query(level), 100)]
    return await catalogue.counts(), matches, everything, [summary async for summary in catalogue.studies()]


class Copies:
    """Empty SQLite catalogues, copied from one that was made."""

    def __init__(self, folder: Path) -> None:
        self._made = folder / "made"
        SqliteCatalogue.create(self._made, IDENTITY)
        self._next = 0

    @asynccontextmanager
    async def catalogue(self) -> AsyncIterator[Catalogue]:
        self._next += 1
        file = self._made.with_name(f"{self._next}")
        shutil.copyfile(self._made, file)
        catalogue = SqliteCatalogue(IDENTITY.name, file, IDENTITY)
        try:
            yield catalogue
        finally:
            await catalogue.close()


def _compare(fresh: Make, examples: int) -> None:
    """Compare catalogues, to each of which the same came in another order, with the reference."""

    @settings(max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(rows=_ROWS, query=_QUERIES, data=st.data())
    def check(rows: list[Row], query: Query, data: st.DataObject) -> None:
        facts = data.draw(facts_about(rows))
        shuffled: list[Row | Fact] = data.draw(st.permutations([*rows, *rows[:3], *facts, *facts[:2]]))

        async def compare() -> None:
            reference = MemoryCatalogue(IDENTITY.name, IDENTITY)
            async with fresh() as other:
                assert await _tell(other, shuffled, query) == await _tell(reference, [*rows, *facts], query)

        asyncio.run(compare())

    check()


def test_memory_says_the_same_in_any_order() -> None:
    @asynccontextmanager
    async def fresh() -> AsyncIterator[Catalogue]:
        yield MemoryCatalogue(IDENTITY.name, IDENTITY)

    _compare(fresh, examples=40)


def test_sqlite_says_what_the_reference_says_in_any_order(tmp_path: Path) -> None:
    _compare(Copies(tmp_path).catalogue, examples=100)


def test_postgresql_says_what_the_reference_says_in_any_order(databases: Databases) -> None:
    _compare(lambda: databases.catalogue(IDENTITY), examples=60)
