"""Purging: the bytes of what was deleted long ago go, and never those that anybody was told are there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from cluster.nouns import BLOCK_BYTES, Fact, FactKind, Instance, Version
from cluster.settings import Deletion, Resend
from storage_node.catalogue.matching import Query, by_uids
from storage_node.catalogue.views import is_hidden, purged, ruling
from storage_node.grid.facts import Gone, purge
from storage_node.grid.read import NoCopy
from storage_node.grid.record import FRESH_S
from storage_node.grid.write import NotEnoughSites
from storage_node.site.failing import Fault
from storage_node.upkeep.anti_entropy import AntiEntropy
from storage_node.upkeep.collection import Collection
from storage_node.upkeep.fill import Fill
from storage_node.upkeep.listing import Listing
from storage_node.upkeep.purging import Purging, Report
from storage_node.upkeep.scrub import Scrub
from storage_node.upkeep.verify import verify
from storage_node.upkeep.where import where
from tests.integration.grid.cluster import NAMES, PROVENANCE, Cluster, arrival, cluster
from tests.integration.grid.upkeep import UPKEEP, Clock, lose, memory, store

INSTANCE = arrival(1).instance
HOUR = timedelta(hours=1)
STAYS = Deletion(resend=Resend.STAYS_DELETED)


async def delete(c: Cluster, instance: Instance = INSTANCE) -> Fact:
    return await c.grid.decide(instance, FactKind.DELETED, by="ann", reason="wrong patient")


async def retain(c: Cluster, subject: Instance, until: str) -> Fact:
    details = (("until", until),)
    return await c.grid.decide(subject, FactKind.RETAINED, by="bob", reason="a study", details=details)


async def run(c: Cluster) -> Report:
    return await Purging(c.grid, UPKEEP).run_once()


class Collecting:
    """One process's collection: what it has seen counts from one round to the next."""

    def __init__(self, c: Cluster, clock: Clock) -> None:
        self._collection = Collection(c.grid, UPKEEP)
        self._clock = clock

    async def round(self) -> int:
        return (await self._collection.run_once()).removed

    async def to_the_end(self) -> int:
        """Collect all that can be: once to see it, and again when that has settled."""
        removed = await self.round()
        self._clock.forward(seconds=FRESH_S)
        return removed + await self.round()


async def deleted_long_ago(c: Cluster, clock: Clock, *numbers: int) -> None:
    await store(c, *numbers)
    for number in numbers:
        await delete(c, arrival(number).instance)
    clock.forward(days=31)


async def read(c: Cluster, version: Version) -> bytes:
    return b"".join([piece async for piece in c.grid.read(version)])


async def stream(c: Cluster) -> Version:
    """Store a large instance."""
    async with await c.grid.stream(INSTANCE) as stream:
        await stream.write([bytes(BLOCK_BYTES), b"end"])
        return (await stream.complete(arrival(1))).version


async def current(c: Cluster) -> Version:
    """The version that an answer names."""
    (match,) = [match async for match in c.grid.find(by_uids(sop=[INSTANCE.sop_instance_uid]), 10)]
    return match.version


async def facts(c: Cluster, name: str = "a", instance: Instance = INSTANCE) -> Sequence[Fact]:
    return await c[name].inner.facts_of(instance)


async def test_what_was_deleted_long_enough_ago_goes_at_all_sites_and_its_rows_stay() -> None:
    clock = Clock()
    async with cluster(now=clock) as c:
        kept, *_ = await store(c, 9)
        await store(c, 1, 2)
        await delete(c)
        clock.forward(days=20)
        await delete(c, arrival(2).instance)
        clock.forward(days=9)
        assert (await run(c)).purged == 0
        clock.forward(days=2)
        assert (await run(c)).purged == 1
        for name in NAMES:
            held = ruling(await facts(c, name))
            assert held is not None
            assert (held.kind, held.epoch, held.decided_by) == (FactKind.PURGED, 2, "atria")
            assert len(purged(await facts(c, name))) == 1
        assert await Collecting(c, clock).to_the_end() == 3
        for name in NAMES:
            assert kept in c[name].object_digests()
            assert len(c[name].object_digests()) == 2
            assert len(await c[name].rows()) == 3
        assert (await run(c)).purged == 0, "once is enough"


async def test_nothing_goes_before_the_purge_has_settled_and_what_is_young_stays() -> None:
    clock = Clock()
    async with cluster(now=clock) as c:
        await deleted_long_ago(c, clock, 1)
        assert (await run(c)).purged == 1
        collecting = Collecting(c, clock)
        assert await collecting.round() == 0
        clock.forward(seconds=FRESH_S - 1)
        assert await collecting.round() == 0
        assert await Collecting(c, clock).round() == 0, "another process has not seen it yet"
        clock.forward(seconds=1)
        assert await collecting.round() == 3


async def test_a_large_instance_goes_with_its_manifest_wherever_it_began() -> None:
    clock = Clock()
    async with cluster(now=clock) as c:
        for number, instance in ((1, INSTANCE), (2, None)):
            async with await c.grid.stream(instance) as stream:
                await stream.write([bytes(BLOCK_BYTES), b"end"])
                await stream.complete(arrival(number))
            await delete(c, arrival(number).instance)
        clock.forward(days=31)
        assert (await run(c)).purged == 2
        collecting = Collecting(c, clock)
        await collecting.to_the_end()
        await collecting.round()
        assert [
            [key for key in memory(c, name).objects if not key.startswith("_facts/")] for name in NAMES
        ] == [
            [],
            [],
            [],
        ]


@pytest.mark.parametrize("state", ["down", "filling"])
async def test_nothing_is_purged_unless_all_sites_are_there_and_have_their_state(state: str) -> None:
    clock = Clock()
    async with cluster(now=clock) as c:
        await deleted_long_ago(c, clock, 1)
        await (lose(c, "c") if state == "down" else c.replace("c"))
        report = await run(c)
        assert report.purged == 0
        assert "site c" in report.why_not


async def test_nothing_is_purged_of_a_study_of_which_the_sites_know_other_things() -> None:
    clock = Clock()
    async with cluster(now=clock) as c:
        await deleted_long_ago(c, clock, 1)
        await lose(c, "c")
        await store(c, 2)
        await c.heal()
        report = await run(c)
        assert (report.purged, report.differing) == (0, 1)
        await c.repair()
        assert (await run(c)).purged == 1


@pytest.mark.parametrize("late", NAMES)
async def test_nothing_is_removed_before_each_site_knows_of_the_purge(late: str) -> None:
    clock = Clock()
    async with cluster(now=clock) as c:
        await deleted_long_ago(c, clock, 1)
        c[late].fail(Fault.BEFORE, "decide")
        assert (await run(c)).purged == 1
        await c.heal()
        collecting = Collecting(c, clock)
        assert await collecting.to_the_end() == 0
        await c.repair()
        assert await collecting.to_the_end() == 3


@pytest.mark.parametrize("level", [0, 1, 2])
async def test_what_is_under_retention_is_not_purged_until_its_day(level: int) -> None:
    clock = Clock()
    async with cluster(now=clock) as c:
        await deleted_long_ago(c, clock, 1)
        subject = (INSTANCE, *INSTANCE.above)[level]
        await retain(c, subject, (clock().date() + timedelta(days=2)).isoformat())
        clock.forward(days=1)
        report = await run(c)
        assert (report.purged, report.retained) == (0, 1)
        clock.forward(days=1)
        assert (await run(c)).purged == 1


async def test_a_retention_of_which_nobody_can_read_the_end_never_ends() -> None:
    clock = Clock()
    async with cluster(now=clock) as c:
        await deleted_long_ago(c, clock, 1)
        await retain(c, INSTANCE, "some day")
        clock.forward(days=10_000)
        assert (await run(c)).purged == 0


async def test_what_was_purged_cannot_be_revived_and_what_was_not_can() -> None:
    clock = Clock()
    async with cluster(now=clock) as c:
        await deleted_long_ago(c, clock, 1, 2)
        await c.grid.decide(arrival(2).instance, FactKind.REVIVED, by="ann", reason="")
        assert (await run(c)).purged == 1
        with pytest.raises(Gone):
            await c.grid.decide(INSTANCE, FactKind.REVIVED, by="ann", reason="")
        held = ruling(await facts(c))
        assert held is not None
        assert held.kind is FactKind.PURGED


async def test_who_takes_a_deletion_back_while_it_is_purged_has_it_back() -> None:
    """He asked before the purge was known, and writes after it: of the same epoch, his decision holds."""
    clock = Clock()
    async with cluster(now=clock) as c:
        await deleted_long_ago(c, clock, 1)
        deletion = ruling(await facts(c))
        assert deletion is not None
        revival = Fact(INSTANCE, deletion.epoch + 1, FactKind.REVIVED, clock(), "ann", "")
        asked_at = clock()
        assert (await run(c)).purged == 1
        collecting = Collecting(c, clock)
        assert await collecting.round() == 0
        clock.forward(seconds=FRESH_S)
        await c.grid.writer.decide(revival, since=asked_at)
        assert await collecting.to_the_end() == 0
        assert not is_hidden(await facts(c))
        assert await read(c, await current(c)) == b"1"


async def test_who_takes_a_deletion_back_too_slowly_is_refused() -> None:
    clock = Clock()
    async with cluster(now=clock) as c:
        await deleted_long_ago(c, clock, 1)
        deletion = ruling(await facts(c))
        assert deletion is not None
        asked_at = clock()
        clock.forward(seconds=FRESH_S + 1)
        revival = Fact(INSTANCE, deletion.epoch + 1, FactKind.REVIVED, clock(), "ann", "")
        with pytest.raises(NotEnoughSites):
            await c.grid.writer.decide(revival, since=asked_at)
        assert is_hidden(await facts(c))


@pytest.mark.parametrize("removed", [False, True])
async def test_what_is_sent_again_after_a_purge_is_there_and_stays(removed: bool) -> None:
    clock = Clock()
    async with cluster(now=clock) as c:
        await deleted_long_ago(c, clock, 1)
        await run(c)
        collecting = Collecting(c, clock)
        if removed:
            assert await collecting.to_the_end() == 3
        else:
            assert await collecting.round() == 0
            clock.forward(seconds=FRESH_S)
        (digest,) = await store(c, 1)
        for _ in range(3):
            assert await collecting.to_the_end() == 0
            clock.forward(days=40)
            assert (await run(c)).purged == 0
        await c.check_everywhere(digest)
        assert await read(c, await current(c)) == b"1"


@pytest.mark.parametrize("away", NAMES)
async def test_what_is_sent_again_while_a_site_is_away_is_owed_to_it_as_anything_else(away: str) -> None:
    clock = Clock()
    async with cluster(now=clock) as c:
        await deleted_long_ago(c, clock, 1)
        await run(c)
        collecting = Collecting(c, clock)
        assert await collecting.to_the_end() == 3
        await lose(c, away)
        (digest,) = await store(c, 1)
        await c.heal()
        assert await collecting.to_the_end() == 0
        await c.repair()
        await c.check_everywhere(digest)
        assert (await verify(c.grid)).complete


async def test_of_several_versions_the_one_that_came_back_is_current_and_the_others_stay_gone() -> None:
    clock = Clock()
    async with cluster(now=clock) as c:
        first = await c.grid.store(arrival(1), [b"first"])
        later = replace(arrival(1), provenance=replace(PROVENANCE, received_at=PROVENANCE.received_at + HOUR))
        await c.grid.store(later, [b"second"])
        choice = (("digest", first.version.digest),)
        await c.grid.decide(INSTANCE, FactKind.CHOSEN, by="ann", reason="", details=choice)
        assert await current(c) == first.version
        await delete(c)
        clock.forward(days=31)
        assert (await run(c)).purged == 1
        collecting = Collecting(c, clock)
        assert await collecting.to_the_end() == 6
        for sent, shown in (
            (b"first", b"first"),
            (b"second", b"second"),
            (b"third", b"third"),
            (b"first", b"third"),
        ):
            await c.grid.store(later, [sent])
            assert await read(c, await current(c)) == shown
            clock.forward(days=2)
            assert await collecting.to_the_end() == 0


async def test_a_large_instance_that_is_sent_again_is_read_where_it_was_put_now() -> None:
    clock = Clock()
    async with cluster(now=clock) as c:
        before = await stream(c)
        await delete(c)
        clock.forward(days=31)
        await run(c)
        await Collecting(c, clock).to_the_end()
        await Scrub(c.grid, UPKEEP).run_once(everything=True)
        clock.forward(seconds=-1)  # the sender's worker has another clock than the scrub
        with pytest.raises(NotEnoughSites):
            await stream(c)
        clock.forward(seconds=1)
        again = await stream(c)
        assert (again.digest, await current(c)) == (before.digest, again)
        clock.forward(days=2)
        await Collecting(c, clock).to_the_end()
        assert len(await read(c, await current(c))) == BLOCK_BYTES + 3


async def test_nothing_that_looks_after_copies_misses_what_was_purged() -> None:
    clock = Clock()
    async with cluster(now=clock) as c:
        await store(c, 9)
        await deleted_long_ago(c, clock, 1)
        await run(c)
        await Collecting(c, clock).to_the_end()
        assert (await Listing(c.grid, UPKEEP).run_once()).missing == 0
        report = await Scrub(c.grid, UPKEEP).run_once(everything=True)
        assert (report.read, report.bad) == (6, 0)
        assert (await Scrub(c.grid, UPKEEP).run_once()).read == 0, "it is not looked for again and again"
        assert (await AntiEntropy(c.grid, UPKEEP).run_once()).found == 0
        found = await verify(c.grid, deep=True)
        assert found.complete
        assert (found.versions, found.purged) == (2, 1)
        (place,) = await where(c.grid, INSTANCE.sop_instance_uid)
        assert [copy.state for copy in place.versions[0].copies] == ["purged"] * 3
        assert not await c.debts()


async def test_who_reads_what_was_purged_meanwhile_leaves_no_debt_that_stays() -> None:
    clock = Clock()
    async with cluster(now=clock) as c:
        version = (await c.grid.store(arrival(1), [b"1"])).version
        await delete(c)
        clock.forward(days=31)
        await run(c)
        await Collecting(c, clock).to_the_end()
        with pytest.raises(NoCopy):
            await read(c, version)
        await c.grid.tasks.drain()
        assert await c.debts()
        assert (await c.repair()).unreadable == 0
        assert not await c.debts()


async def test_a_site_that_lost_its_state_gets_the_row_and_the_facts_of_what_was_purged() -> None:
    clock = Clock()
    async with cluster(now=clock) as c:
        await deleted_long_ago(c, clock, 1)
        (kept,) = await store(c, 2)
        await run(c)
        await Collecting(c, clock).to_the_end()
        await c.replace("b")
        report = await Fill(c.grid, UPKEEP, c.roster).run_once()
        assert (report.filled, report.failed) == (("b",), 0)
        await c.voting("b")
        assert await facts(c, "b") == await facts(c, "a")
        assert c["b"].object_digests() == {kept}
        assert (await verify(c.grid)).complete


async def test_whether_something_was_purged_is_not_believed_unless_each_other_site_says_so() -> None:
    clock = Clock()
    async with cluster(now=clock) as c:
        await deleted_long_ago(c, clock, 1)
        await run(c)
        await Collecting(c, clock).to_the_end()
        await c.replace("b")
        await lose(c, "c")
        report = await Fill(c.grid, UPKEEP, c.roster).run_once()
        assert report.filled == ()
        assert await c["b"].rows() == {}


async def test_what_is_to_stay_deleted_stays_so_and_its_time_begins_again() -> None:
    clock = Clock()
    async with cluster(now=clock, deletion=STAYS) as c:
        await deleted_long_ago(c, clock, 1)
        await run(c)
        collecting = Collecting(c, clock)
        assert await collecting.to_the_end() == 3
        (digest,) = await store(c, 1)
        assert is_hidden(await facts(c))
        clock.forward(days=29)
        assert (await run(c)).purged == 0
        assert await collecting.to_the_end() == 0
        await c.check_everywhere(digest)
        await c.grid.decide(INSTANCE, FactKind.REVIVED, by="ann", reason="")
        assert await read(c, await current(c)) == b"1"
        await delete(c)
        await store(c, 1)
        assert is_hidden(await facts(c))
        clock.forward(days=31)
        assert (await run(c)).purged == 1
        assert await collecting.to_the_end() == 3


async def test_two_who_purge_at_once_purge_once() -> None:
    clock = Clock()
    async with cluster(now=clock) as c:
        await deleted_long_ago(c, clock, 1)
        deletion = ruling(await facts(c))
        assert deletion is not None
        entries = [entry async for entry in c["a"].inner.walk()]
        for reason in ("one", "two"):
            fact = purge(deletion, entries, at=clock(), reason=reason)
            await c.grid.writer.decide(fact, since=clock())
        collecting = Collecting(c, clock)
        assert await collecting.to_the_end() == 3
        (digest,) = await store(c, 1)
        assert await collecting.to_the_end() == 0
        await c.check_everywhere(digest)
        assert [match.version.digest async for match in c.grid.find(Query(by_uids().level), 9)] == [digest]


async def test_over_files_and_sqlite(tmp_path: Path) -> None:
    async with cluster(tmp_path, deletion=Deletion(trash_days=0)) as c:
        (digest,) = await store(c, 1)
        await delete(c)
        assert (await run(c)).purged == 1
        assert {name: len(purged(await facts(c, name))) for name in NAMES} == dict.fromkeys(NAMES, 1)
        await store(c, 1)
        assert {name: (await c[name].rows())[digest] for name in NAMES} == dict.fromkeys(NAMES, 2)
