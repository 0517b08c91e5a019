"""What was deleted is in no answer, and what was revived is in all, whichever catalogue knows of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence

import pytest

from cluster.nouns import Fact, FactKind, Level, SiteIdentity
from storage_node.catalogue.attributes import ATTRIBUTES
from storage_node.catalogue.matching import OneOf, Query, by_uids
from storage_node.catalogue.memory import MemoryCatalogue
from storage_node.catalogue.protocol import CatalogueUnavailable, Match, Row
from storage_node.grid.find import Finding
from tests.contract.catalogue.rows import add, fact, row

ABOVE = (Level.PATIENT, Level.STUDY, Level.SERIES)
REVIVED = FactKind.REVIVED


class Counting(MemoryCatalogue):
    """A catalogue that counts what it is asked."""

    def __init__(self, name: str) -> None:
        super().__init__(name, SiteIdentity(name, name, 1))
        self.asked: list[str] = []

    def find(
        self, query: Query, limit: int, *, looked: Callable[[], None] | None = None
    ) -> AsyncGenerator[Match]:
        self.asked.append("find")
        return super().find(query, limit, looked=looked)

    async def facts_in(self, study_instance_uid: str) -> Sequence[Fact]:
        self.asked.append("facts")
        return await super().facts_in(study_instance_uid)


async def holding(name: str, *held: Row | Fact) -> Counting:
    catalogue = Counting(name)
    for each in held:
        if isinstance(each, Row):
            await add(catalogue, each)
        else:
            await catalogue.decide(each)
    return catalogue


async def found(catalogues: Sequence[MemoryCatalogue], query: Query, limit: int = 100) -> list[Match]:
    return [match async for match in Finding(catalogues, query, limit, needed=2)]


ONE, TWO = row(sop="1", minute=0), row(sop="2", minute=1)


@pytest.mark.parametrize("other_has_rows", [True, False])
async def test_a_deletion_that_one_catalogue_knows_hides_at_every_level(other_has_rows: bool) -> None:
    rows = (ONE, TWO) if other_has_rows else ()
    catalogues = [await holding("a", ONE, TWO), await holding("b", *rows, fact(ONE))]
    for level in ABOVE:
        (match,) = await found(catalogues, Query(level))
        assert (match.instances, match.version) == (1, TWO.version), level
    (image,) = await found(catalogues, by_uids())
    assert image.version == TWO.version
    for catalogue in catalogues:
        await catalogue.decide(fact(TWO))
    for level in Level:
        assert await found(catalogues, Query(level)) == []


async def test_a_revival_that_one_catalogue_knows_shows_at_every_level() -> None:
    """Also where that one has no row, and the other has hidden it."""
    revived = fact(ONE, 2, REVIVED)
    for rows in ((ONE, TWO), (TWO,), ()):
        catalogues = [await holding("a", ONE, TWO, fact(ONE)), await holding("b", *rows, revived)]
        for level in ABOVE:
            (match,) = await found(catalogues, Query(level))
            assert (match.instances, match.version) == (2, ONE.version), level
        assert len(await found(catalogues, by_uids())) == 2


async def test_what_is_hidden_counts_against_no_limit() -> None:
    rows = [row(f"1.{n:03}", sop="1") for n in range(300)]
    deletions = [fact(each) for each in rows[:250]]
    catalogues = [await holding("a", *rows, *deletions), await holding("b", *rows, *deletions[:240])]
    for level in (Level.STUDY, Level.IMAGE):
        matches = await found(catalogues, Query(level), limit=3)
        assert [match.uid[0] for match in matches] == ["1.250", "1.251", "1.252"]


async def test_where_all_agree_nothing_more_is_asked() -> None:
    held = (ONE, TWO, fact(ONE))
    for level in Level:
        catalogues = [await holding("a", *held), await holding("b", *held)]
        assert len(await found(catalogues, Query(level))) == 1
        assert [catalogue.asked for catalogue in catalogues] == [["find"], ["find"]], level


async def test_the_facts_of_a_study_are_asked_once_where_its_rows_are_not() -> None:
    rows = [row(sop=f"{n}") for n in range(50)]
    catalogues = [await holding("a", *rows), await holding("b", fact(rows[7]))]
    assert len(await found(catalogues, by_uids(study=["1.2.3"]))) == 49
    assert len(catalogues[1].asked) < 10, "and what was corrected of the study"


@pytest.mark.parametrize("level", [Level.STUDY, Level.SERIES, Level.IMAGE])
async def test_what_a_catalogue_does_not_match_is_looked_up_there(level: Level) -> None:
    """The one that does not answer may know a version that is newer, or earlier, or that all is deleted."""
    ours, theirs = (
        row(minute=5, number="1", series_number="1", description="ours", order=1),
        row(minute=1, number="2", series_number="2", description="theirs", order=2),
    )
    tag = {Level.STUDY: 0x00081030, Level.SERIES: 0x00200011, Level.IMAGE: 0x00200013}[level]
    key = OneOf(ATTRIBUTES[tag], ("ours",) if level is Level.STUDY else ("1",))
    a, b = await holding("a", ours), await holding("b", theirs)
    assert await found([a, b], Query(level, (key,))) == [], "the other's version is what all show"
    (match,) = await found([a, await holding("b", ours)], Query(level, (key,)))
    assert match.version == ours.version
    (match,) = await found([a, await holding("b")], Query(level, (key,)))
    assert match.version == ours.version
    assert await found([a, await holding("b", theirs, fact(theirs))], Query(level, (key,))) == []


async def test_a_study_that_moved_to_another_patient_is_told_once() -> None:
    mine, earlier = row(minute=5, patient_id="P1"), row(sop="9", minute=1, patient_id="P2")
    catalogues = [await holding("a", mine), await holding("b", mine, earlier)]
    (patient,) = await found(catalogues, Query(Level.PATIENT))
    assert (patient.uid, patient.studies, patient.instances) == (("P2\n",), 1, 2)


async def test_one_that_fails_when_it_is_asked_for_facts_is_replaced_by_another() -> None:
    class NoFacts(Counting):
        async def facts_in(self, study_instance_uid: str) -> Sequence[Fact]:
            raise CatalogueUnavailable(self.name, "it is gone")

    catalogues = [await holding("a", ONE, TWO), NoFacts("b"), await holding("c", fact(ONE))]
    finding = Finding(catalogues, Query(Level.STUDY), 10, needed=2)
    assert [match.instances async for match in finding] == [1], "the replacement knows of the deletion"
    assert (finding.answered, finding.failed, finding.complete) == (["a", "c"], ["b"], True)


async def test_one_without_a_vote_is_asked_where_too_few_vote_and_does_not_count() -> None:
    a, b, filling = await holding("a", ONE), await holding("b", ONE), await holding("c", TWO)
    voting = Finding([a, b, filling], Query(Level.STUDY), 10, needed=2, voters=["a", "b"])
    assert [match.instances async for match in voting] == [1]
    assert voting.complete
    lone = Finding([a, filling], Query(Level.STUDY), 10, needed=2, voters=["a"])
    assert [match.instances async for match in lone] == [2]
    assert not lone.complete
