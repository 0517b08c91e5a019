"""Finds at several catalogues are merged as if one catalogue held the union of their rows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.nouns import Fact, FactKind, Level, SiteIdentity
from storage_node.catalogue.matching import Query, by_uids
from storage_node.catalogue.memory import MemoryCatalogue
from storage_node.catalogue.protocol import CatalogueUnavailable, Match, Row
from storage_node.grid.find import Finding, NoCatalogue
from tests.contract.catalogue.facts import facts
from tests.contract.catalogue.rows import CT, MR, add, fact, row

STUDIES = Query(Level.STUDY)


class Failing(MemoryCatalogue):
    """A catalogue that answers some, then fails or hangs."""

    def __init__(self, name: str, answers: int, *, hangs: bool = False) -> None:
        super().__init__(name, SiteIdentity(name, name, 1))
        self._answers = answers
        self._hangs = hangs

    async def find(
        self, query: Query, limit: int, *, looked: Callable[[], None] | None = None
    ) -> AsyncGenerator[Match]:
        answered = 0
        async for match in super().find(query, limit, looked=looked):
            if answered == self._answers:
                if self._hangs:
                    await asyncio.Event().wait()
                raise CatalogueUnavailable(self.name, "it is gone")
            answered += 1
            yield match


def _named(name: str) -> MemoryCatalogue:
    return MemoryCatalogue(name, SiteIdentity(name, name, 1))


async def _holding(name: str, rows: Sequence[Row], facts: Sequence[Fact] = ()) -> MemoryCatalogue:
    return await _fill(_named(name), rows, facts)


async def _fill(
    catalogue: MemoryCatalogue, rows: Sequence[Row], facts: Sequence[Fact] = ()
) -> MemoryCatalogue:
    for added in rows:
        await add(catalogue, added)
    for decided in facts:
        await catalogue.decide(decided)
    return catalogue


def _study(n: int) -> Row:
    return row(f"1.{n:03}", f"1.{n:03}.1", f"1.{n:03}.1.1", patient_id=f"P{n}")


async def _uids(finding: Finding) -> list[str]:
    return [match.uid[-1] async for match in finding]


def _decided(undecided: Row) -> Row:
    """Give a row an order that no other version of the instance has, as the grid does."""
    return replace(undecided, order=int(undecided.version.digest[:6], 16))


_ROWS = st.lists(
    st.builds(
        lambda study, series, sop, **values: row(
            f"1.{study}",
            f"1.{study}.{series}",
            f"1.{study}.{series}.{sop}",
            sop_class=(CT, MR)[sop % 2],
            # All versions of an instance have one modality: else two catalogues, with another version each,
            # could say the same of a study, and mean other series.
            modality=("CT", "MR")[(study + series + sop // 2) % 2],
            **values,
        ),
        study=st.integers(1, 2),
        series=st.integers(1, 2),
        sop=st.integers(1, 3),
        content=st.sampled_from(["", "x"]),
        minute=st.integers(0, 2),
        patient_id=st.just("P1"),
    ).map(_decided),
    max_size=8,
)


_PARTS = _ROWS.flatmap(lambda rows: st.tuples(st.just(rows), facts(rows, studies=2, sops=3)))


@settings(max_examples=300, deadline=None)
@given(_PARTS, _PARTS, st.sampled_from(list(Level)))
def test_two_catalogues_answer_as_one_with_the_union(
    one: tuple[list[Row], list[Fact]], other: tuple[list[Row], list[Fact]], level: Level
) -> None:
    async def compare() -> None:
        facts = one[1] + other[1]
        union = await _holding("union", one[0] + other[0], facts)
        # A patient is found by what was corrected where one catalogue knows that and has the row.
        both = [each for each in facts if level is Level.PATIENT and each.kind is FactKind.CORRECTED]
        catalogues = [
            await _holding("a", one[0], one[1] + both),
            await _holding("b", other[0], other[1] + both),
        ]
        found = [match async for match in Finding(catalogues, Query(level), 100, needed=2)]
        expected = [match async for match in union.find(Query(level), 100) if match.instances]
        if level is Level.IMAGE:  # an instance has the modality of its series, as each catalogue knows it
            found, expected = (
                [replace(match, modalities=()) for match in some] for some in (found, expected)
            )
        assert found == expected

    asyncio.run(compare())


async def test_a_choice_that_no_catalogue_has_overrules_a_lower_one() -> None:
    versions = [_decided(row(content=content)) for content in ("a", "b", "c")]
    lowest, *_, highest = sorted(versions, key=lambda each: each.order)
    chosen = fact(lowest.version.instance, 1, FactKind.CHOSEN, details=(("digest", lowest.version.digest),))
    overruled = fact(lowest.version.instance, 2, FactKind.CHOSEN, details=(("digest", "0" * 64),))
    catalogues = [await _holding("a", [lowest, highest], [chosen]), await _holding("b", [], [overruled])]
    (match,) = [match async for match in Finding(catalogues, Query(Level.IMAGE), 10, needed=2)]
    assert match.version == highest.version


async def test_equal_counts_of_other_instances_are_counted_again() -> None:
    catalogues = [
        await _holding("a", [row(sop="1"), row(sop="2", minute=1)]),
        await _holding("b", [row(sop="1"), row(sop="3", minute=1)]),
    ]
    (match,) = [match async for match in Finding(catalogues, STUDIES, 10, needed=2)]
    assert match.instances == 3


async def test_patients_without_patient_id_are_counted_apart() -> None:
    mine, others = row("1.1", sop="1", patient_id=None), row("1.1", sop="2", patient_id=None, minute=1)
    catalogues = [
        await _holding("a", [mine]),
        await _holding("b", [mine, others, row("1.2", patient_id=None)]),
    ]
    found = [match async for match in Finding(catalogues, Query(Level.PATIENT), 10, needed=2)]
    assert [(match.studies, match.instances) for match in found] == [(1, 2), (1, 1)]


async def test_only_as_many_are_asked_as_it_takes() -> None:
    catalogues = [await _holding(name, [_study(1)]) for name in "ab"] + [await _holding("c", [_study(2)])]
    finding = Finding(catalogues, STUDIES, 10, needed=2)
    assert await _uids(finding) == ["1.001"]
    assert (finding.answered, finding.failed, finding.complete) == (["a", "b"], [], True)


@pytest.mark.parametrize("hangs", [False, True])
@pytest.mark.parametrize("answers", [0, 1, 100, 149, 250])
async def test_one_that_fails_is_replaced_by_another(answers: int, hangs: bool) -> None:
    rows = [_study(n) for n in range(300)]
    failing = await _fill(Failing("a", answers, hangs=hangs), rows)
    others = [await _holding("b", rows[:200]), await _holding("c", rows[50:])]
    finding = Finding([failing, *others], STUDIES, 1000, needed=2, answer_timeout_s=0.3)
    assert await _uids(finding) == [f"1.{n:03}" for n in range(300)]
    assert (finding.answered, finding.failed, finding.complete) == (["b", "c"], ["a"], True)


async def test_one_that_is_slower_than_the_others_is_replaced_where_there_is_another() -> None:
    rows = [_study(n) for n in range(300)]
    hanging = await _fill(Failing("a", 150, hangs=True), rows)
    others = [await _holding("b", rows), await _holding("c", rows)]
    finding = Finding([hanging, *others], STUDIES, 1000, needed=2, answer_timeout_s=60, patience_s=0.05)
    assert await _uids(finding) == [f"1.{n:03}" for n in range(300)]
    assert (finding.answered, finding.failed) == (["b", "c"], ["a"])


async def test_one_that_is_slow_is_waited_for_where_there_is_no_other() -> None:
    slow = await _fill(Failing("a", 1, hangs=True), [_study(1), _study(2)])
    finding = Finding(
        [slow, await _holding("b", [])], STUDIES, 10, needed=2, answer_timeout_s=0.5, patience_s=0.01
    )
    began = asyncio.get_running_loop().time()
    assert await _uids(finding) == ["1.001"]
    assert asyncio.get_running_loop().time() - began > 0.4


async def test_with_too_few_it_goes_on_and_says_so() -> None:
    rows = [_study(n) for n in range(3)]
    finding = Finding([await _fill(Failing("a", 1), rows), await _holding("b", rows)], STUDIES, 10, needed=2)
    assert len(await _uids(finding)) == 3
    assert not finding.complete


async def test_what_one_said_before_it_failed_still_counts() -> None:
    failing = await _fill(Failing("a", 1), [_study(1), _study(2)])
    finding = Finding([failing, await _holding("b", [_study(3)])], STUDIES, 10, needed=2)
    assert await _uids(finding) == ["1.001", "1.003"]
    assert finding.failed == ["a"]


@pytest.mark.parametrize("answers", [0, 150])
async def test_with_none_left_it_fails(answers: int) -> None:
    rows = [_study(n) for n in range(200)]
    finding = Finding([await _fill(Failing("a", answers), rows)], STUDIES, 1000, needed=2)
    with pytest.raises(NoCatalogue):
        await _uids(finding)
    with pytest.raises(NoCatalogue):
        await _uids(Finding([], STUDIES, 10, needed=2))


async def test_one_that_fails_while_it_is_counted_again_is_left_out() -> None:
    class FailsBelow(MemoryCatalogue):
        def find(
            self, query: Query, limit: int, *, looked: Callable[[], None] | None = None
        ) -> AsyncGenerator[Match]:
            if query.level is Level.SERIES:
                self.unavailable = "it is gone"
            return super().find(query, limit, looked=looked)

    failing = FailsBelow("a", SiteIdentity("a", "a", 1))
    await _fill(failing, [row(sop="1"), row(sop="2", minute=1)])
    finding = Finding([failing, await _holding("b", [row(sop="1")])], STUDIES, 10, needed=2)
    (match,) = [match async for match in finding]
    assert match.instances == 1
    assert not finding.complete


async def test_no_more_are_returned_than_the_limit() -> None:
    catalogues = [
        await _holding("a", [_study(n) for n in (1, 3, 5)]),
        await _holding("b", [_study(n) for n in (2, 4)]),
    ]
    assert await _uids(Finding(catalogues, STUDIES, 3, needed=2)) == ["1.001", "1.002", "1.003"]


async def test_a_find_can_be_left_early() -> None:
    finding = Finding([await _holding("a", [_study(1), _study(2)])], by_uids(), 10, needed=1)
    await anext(finding)
    await finding.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(finding)
    await Finding([_named("a")], by_uids(), 10, needed=1).aclose()
