"""A change feed that is followed: nothing is lost, and studies are complete when nothing comes any more."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import datetime, timedelta

import pytest

from cluster.nouns import FactKind, Instance, SiteIdentity
from storage_node.catalogue.feed import Change
from storage_node.catalogue.matching import Query
from storage_node.catalogue.memory import MemoryCatalogue
from storage_node.catalogue.protocol import CatalogueUnavailable, Match, Row
from storage_node.upkeep import changes, open_studies
from storage_node.upkeep.changes import Following, StudyComplete, Told
from tests.contract.catalogue.rows import BEGIN, add, fact, row

AFTER_S = 60.0


class Clock:
    """Both clocks of a follower; that of the workers goes with them, unless `received_at` is another."""

    def __init__(self) -> None:
        self.s = 1000.0

    def monotonic(self) -> float:
        return self.s

    def now(self) -> datetime:
        return BEGIN + timedelta(seconds=self.s)


class Site(MemoryCatalogue):
    """A catalogue to which versions come at the clock's time."""

    def __init__(self, clock: Clock) -> None:
        super().__init__("a", SiteIdentity("a", "", 1))
        self.clock = clock
        self.counts_fail = False
        self.answer_takes_s = 0.0

    async def comes(self, study: str, sop: str, *, received_s: float | None = None) -> Row:
        at_s = self.clock.s if received_s is None else received_s
        came = row(study, f"{study}.1", f"{study}.1.{sop}", minute=at_s / 60)
        await add(self, came)
        return came

    async def changes(self, after: str | None, limit: int) -> Sequence[Change]:
        found = await super().changes(after, limit)
        self.clock.s += self.answer_takes_s
        return found

    async def find(
        self, query: Query, limit: int, *, looked: Callable[[], None] | None = None
    ) -> AsyncGenerator[Match]:
        if self.counts_fail:
            raise CatalogueUnavailable("a", "away")
        async for match in super().find(query, limit, looked=looked):
            yield match


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def site(clock: Clock) -> Site:
    return Site(clock)


def follower(clock: Clock, after: str | None = None) -> Following:
    return Following(after, complete_after_s=AFTER_S, now=clock.now, monotonic=clock.monotonic)


def came(told: Sequence[Told]) -> list[str]:
    return [one.what.digest for one in told if isinstance(one.what, Change)]


def complete(told: Sequence[Told]) -> list[tuple[str, int]]:
    found = [one.what for one in told if isinstance(one.what, StudyComplete)]
    return [(one.study_instance_uid, one.instances) for one in found]


async def all_of(following: Following, site: Site) -> list[Told]:
    told = list(await following.poll(site))
    while not following.at_end:
        told += await following.poll(site)
    return told


async def test_versions_and_facts_are_told_once_each_as_they_come(clock: Clock, site: Site) -> None:
    following = Following(now=clock.now, monotonic=clock.monotonic)
    first = await site.comes("1", "1")
    assert came(await following.poll(site)) == [first.version.digest]
    assert list(await following.poll(site)) == []
    await site.decide(fact(first))
    (told,) = await following.poll(site)
    assert isinstance(told.what, Change)
    assert told.cursor == told.what.cursor
    assert told.what.fact == fact(first)


async def test_more_than_a_page_is_read_before_it_is_the_end(
    clock: Clock, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "PAGE", 2)
    rows = [await site.comes("1", str(number)) for number in range(5)]
    following = follower(clock)
    pages = []
    while not following.at_end:
        pages.append(came(await following.poll(site)))
    assert [len(page) for page in pages] == [2, 2, 1]
    assert [digest for page in pages for digest in page] == [one.version.digest for one in rows]


async def test_a_study_is_complete_when_nothing_new_came_for_the_set_time(clock: Clock, site: Site) -> None:
    following = follower(clock)
    await following.poll(site)
    for number in range(3):
        last = await site.comes("1", str(number))
        assert complete(await following.poll(site)) == []
        clock.s += AFTER_S - 1
        assert complete(await following.poll(site)) == []
    clock.s += 1
    (told,) = await following.poll(site)
    assert told.what == StudyComplete("1", 3, last.provenance.received_at)
    clock.s += 10 * AFTER_S
    assert list(await following.poll(site)) == [], "it is told once"
    await site.comes("1", "9")
    assert complete(await following.poll(site)) == []
    clock.s += AFTER_S
    assert complete(await following.poll(site)) == [("1", 4)]


async def test_each_study_has_its_own_time(clock: Clock, site: Site) -> None:
    following = follower(clock)
    await following.poll(site)
    await site.comes("1", "1")
    await following.poll(site)
    clock.s += 40
    await site.comes("2", "1")
    await following.poll(site)
    clock.s += 20
    assert complete(await following.poll(site)) == [("1", 1)]
    clock.s += 40
    assert complete(await following.poll(site)) == [("2", 1)]


async def test_facts_neither_open_a_study_nor_keep_it_open_and_hide_instances(
    clock: Clock, site: Site
) -> None:
    following = follower(clock)
    await following.poll(site)
    first, _ = await site.comes("1", "1"), await site.comes("1", "2")
    await following.poll(site)
    clock.s += AFTER_S
    await site.decide(fact(first))
    await site.decide(fact(Instance("7", "", ""), kind=FactKind.RETAINED))
    assert complete(await following.poll(site)) == [("1", 1)]
    clock.s += 10 * AFTER_S
    assert complete(await following.poll(site)) == []


async def test_what_a_site_was_lacking_is_no_study_each(clock: Clock, site: Site) -> None:
    following = follower(clock)
    await following.poll(site)
    for number in range(3):
        await site.comes("1", str(number), received_s=-100_000)
        assert complete(await following.poll(site)) == [], "it came only now, if it was received long ago"
        clock.s += 1
    clock.s += AFTER_S
    assert complete(await following.poll(site)) == [("1", 3)]


async def test_no_study_is_complete_before_all_that_came_was_read(
    clock: Clock, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "PAGE", 1)
    following = follower(clock)
    await all_of(following, site)
    await site.comes("1", "1")
    await all_of(following, site)
    clock.s += AFTER_S
    await site.comes("2", "1")
    await site.comes("1", "2")
    assert complete(await all_of(following, site)) == []


async def test_a_site_that_was_away_makes_no_study_complete(clock: Clock, site: Site) -> None:
    following = follower(clock)
    await following.poll(site)
    await site.comes("1", "1")
    await following.poll(site)
    await site.comes("1", "2")
    site.unavailable = "away"
    for _ in range(5):
        clock.s += AFTER_S
        with pytest.raises(CatalogueUnavailable):
            await following.poll(site)
    site.unavailable = None
    assert complete(await following.poll(site)) == []
    clock.s += AFTER_S
    assert complete(await following.poll(site)) == [("1", 2)]


async def test_what_may_have_come_while_an_answer_was_on_its_way_is_waited_for(
    clock: Clock, site: Site
) -> None:
    following = follower(clock)
    await following.poll(site)
    await site.comes("1", "1")
    await following.poll(site)
    site.answer_takes_s = AFTER_S
    assert complete(await following.poll(site)) == []
    site.answer_takes_s = 0
    assert complete(await following.poll(site)) == [("1", 1)]


async def test_nothing_is_lost_when_a_site_fails_between_the_page_and_its_studies(
    clock: Clock, site: Site
) -> None:
    following = follower(clock)
    await following.poll(site)
    await site.comes("1", "1")
    await following.poll(site)
    clock.s += AFTER_S
    other = await site.comes("2", "1")
    site.counts_fail = True
    for _ in range(2):
        with pytest.raises(CatalogueUnavailable):
            await following.poll(site)
    site.counts_fail = False
    told = await following.poll(site)
    assert came(told) == [other.version.digest]
    assert complete(told) == [("1", 1)]


async def test_what_is_read_of_the_past_is_complete_by_when_it_was_received(clock: Clock, site: Site) -> None:
    await site.comes("1", "1", received_s=-100_000)
    await site.comes("1", "2", received_s=-100_000)
    await site.comes("2", "1", received_s=clock.s - 20)
    await site.comes("3", "1", received_s=clock.s + 100_000)
    following = follower(clock)
    assert complete(await following.poll(site)) == [("1", 2)]
    clock.s += 40
    assert complete(await following.poll(site)) == [("2", 1)]
    clock.s += 20
    assert complete(await following.poll(site)) == [("3", 1)], "a clock that is ahead delays nothing"


async def test_a_past_of_many_studies_is_not_all_held_in_memory(
    clock: Clock, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_studies, "OPEN_LIMIT", 3)
    monkeypatch.setattr(changes, "PAGE", 2)
    for number in range(20):
        await site.comes(f"1.{number}", "1", received_s=-100_000)
    following = follower(clock)
    told, read = [], 0
    while not following.at_end:
        page = await following.poll(site)
        told += complete(page)
        read += len(came(page))
        assert read - len(told) <= 4
    assert told == [(f"1.{number}", 1) for number in range(20)]


@pytest.mark.parametrize("stop", range(1, 16))
async def test_who_begins_anew_from_the_cursor_he_saved_loses_nothing(
    clock: Clock, site: Site, stop: int
) -> None:
    """Stop after each event in turn; together the two followers tell all."""
    schedule = [("1", 0), ("2", 10), ("5", 20), ("1", 30), ("3", 30), ("2", 45), ("4", 200), ("3", 210)]

    async def tell(following: Following, told: list[Told], limit: int) -> None:
        while len(told) < limit and steps:
            kind, study, at_s = steps[0]
            clock.s = max(clock.s, 5000.0 + at_s)
            if kind == "comes":
                await site.comes(study, str(at_s))
            steps.pop(0)
            for one in await all_of(following, site):
                told.append(one)
                if len(told) == limit:
                    return

    steps = sorted(
        [("comes", study, at_s) for study, at_s in schedule]
        + [("waits", "", at_s) for at_s in range(0, 400, 5)],
        key=lambda step: step[2],
    )
    first: list[Told] = []
    await tell(follower(clock), first, stop)
    second: list[Told] = []
    await tell(follower(clock, first[-1].cursor), second, 1000)
    both = [*first, *second]
    feed = await site.changes(None, 100)
    assert set(came(both)) == {change.digest for change in feed}
    last = {change.instance.study_instance_uid: change.digest for change in feed}
    for study, digest in last.items():
        read = max(at for at, one in enumerate(both) if came([one]) == [digest])
        assert study in dict(complete(both[read:]))
    assert dict(complete(both)) == {"1": 2, "2": 2, "3": 2, "4": 1, "5": 1}


async def test_what_was_said_to_be_complete_is_not_said_again_after_a_new_beginning(
    clock: Clock, site: Site
) -> None:
    following = follower(clock)
    await following.poll(site)
    cursor: str | None = None
    for study in ("1", "2", "3"):
        await site.comes(study, "1")
        await following.poll(site)
        clock.s += AFTER_S
        (told,) = await following.poll(site)
        cursor = told.cursor
    await site.comes("4", "1")
    (told,) = await following.poll(site)
    clock.s += AFTER_S
    assert complete(await follower(clock, told.cursor).poll(site)) == [("4", 1)]
    assert complete(await follower(clock, cursor).poll(site)) == [("4", 1)]


async def test_a_study_to_which_something_comes_for_ever_does_not_hold_the_cursor_back(
    clock: Clock, site: Site
) -> None:
    following = follower(clock)
    await following.poll(site)
    for number in range(50):
        await site.comes("1", str(number))
        await site.comes(f"2.{number}", "1")
        clock.s += AFTER_S / 2
        told = await following.poll(site)
    again = await follower(clock, told[-1].cursor).poll(site)
    assert len(came(again)) <= 4, "what came within the set time, and no more"


async def test_a_page_may_be_all_that_is_quiet_and_there_is_more(
    clock: Clock, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        await site.comes(f"1.{number}", "1", received_s=-100_000)
    following = follower(clock)
    clock.s -= 200_000
    await following.poll(site)
    clock.s += 200_000
    monkeypatch.setattr(changes, "PAGE", 2)
    assert len(complete(await following.poll(site))) == 2
    assert not following.at_end
    assert len(complete(await all_of(following, site))) == 3
