"""What every catalogue promises of facts, and of what they hide."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta, timezone

import pytest

from cluster.nouns import Debt, FactKind, Instance, Level
from storage_node.catalogue.matching import Query, by_uids
from storage_node.catalogue.protocol import Catalogue, Match, Met
from storage_node.catalogue.views import fact_fingerprint, row_fingerprint
from tests.contract.catalogue.rows import BEGIN, CT, MR, add, debt, fact, row

DELETED, REVIVED = FactKind.DELETED, FactKind.REVIVED
ABOVE = (Level.PATIENT, Level.STUDY, Level.SERIES)
"""The levels above the instances."""


async def find(catalogue: Catalogue, level: Level) -> list[Match]:
    return [match async for match in catalogue.find(Query(level), 1000)]


async def one(catalogue: Catalogue, level: Level) -> Match:
    (match,) = await find(catalogue, level)
    return match


async def test_facts_come_back_the_one_that_holds_first(catalogue: Catalogue) -> None:
    instance = row().version.instance
    facts = [fact(instance, 2, REVIVED), fact(instance, 1), fact(instance, 3), fact(instance, 3, REVIVED)]
    for decided in (*facts, *facts):
        await catalogue.decide(decided)
    assert list(await catalogue.facts_of(instance)) == [facts[2], facts[3], facts[0], facts[1]]
    assert list(await catalogue.facts_of(replace(instance, sop_instance_uid="9"))) == []


async def test_a_fact_comes_back_with_its_digest_whatever_the_zone_of_its_time(catalogue: Catalogue) -> None:
    moment = BEGIN.replace(microsecond=120).astimezone(timezone(timedelta(hours=5)))
    decided = replace(fact(row()), decided_at=moment, reason="verwechselt: „Müller“\nsiehe oben")
    await catalogue.decide(decided)
    (found,) = await catalogue.facts_of(decided.instance)
    assert (found, found.digest) == (decided, decided.digest)


async def test_facts_in_a_study_are_those_of_all_its_instances(catalogue: Catalogue) -> None:
    instances = [Instance("1.2", "1.2.1", "2"), Instance("1.2", "1.2.1", "1"), Instance("1.2", "1.2.0", "3")]
    facts = [fact(instance, epoch) for instance in instances for epoch in (1, 2)]
    for decided in (*facts, fact(Instance("1.3", "1.2.1", "1"))):
        await catalogue.decide(decided)
    in_order = sorted(facts, key=lambda decided: (decided.instance, -decided.epoch))
    assert list(await catalogue.facts_in("1.2")) == in_order
    assert list(await catalogue.facts_in("1")) == []


async def test_an_insert_meets_all_facts_about_its_instance(catalogue: Catalogue) -> None:
    added = row()
    assert await catalogue.add(added, verified_at=BEGIN) == Met(1, added.version.key)
    deleted, revived = fact(added), fact(added, 2, REVIVED)
    for decided in (deleted, revived, fact(row(sop="1.2.9"))):
        await catalogue.decide(decided)
    assert await catalogue.add(added, verified_at=BEGIN) == Met(1, added.version.key, (revived, deleted))
    two = row(content="two")
    assert await catalogue.add(two, verified_at=BEGIN) == Met(2, two.version.key, (revived, deleted))


async def test_an_insert_and_a_deletion_at_once_meet_each_other(catalogue: Catalogue) -> None:
    """Who comes second knows of the other: the row is hidden, or its writer is told that it is."""
    added = [row(sop=f"1.2.{n}") for n in range(20)]
    await asyncio.gather(
        *(call for each in added for call in (add(catalogue, each), catalogue.decide(fact(each))))
    )
    assert (await catalogue.counts()).instances == 0
    assert (await catalogue.counts()).versions == 20


async def test_debts_of_facts_are_debts_until_they_are_forgiven(catalogue: Catalogue) -> None:
    held = row(order=5)
    deleted = fact(held)
    of_fact = Debt("b", deleted.instance, deleted.digest)
    await catalogue.decide(deleted, [of_fact, replace(of_fact, site="c")])
    await add(catalogue, held, [debt(held)])
    assert list(await catalogue.debts(10, site="b")) == [of_fact, debt(held)]
    for _ in range(2):
        await catalogue.forgive(of_fact)
    assert list(await catalogue.debts(10)) == [replace(of_fact, site="c"), debt(held)]


async def test_a_fact_again_still_notes_its_debts(catalogue: Catalogue) -> None:
    deleted = fact(row())
    of_fact = Debt("b", deleted.instance, deleted.digest)
    await catalogue.decide(deleted)
    await catalogue.decide(deleted, [of_fact])
    assert list(await catalogue.debts(10)) == [of_fact]


@pytest.mark.parametrize("fact_first", [False, True])
async def test_what_is_deleted_counts_nowhere_and_says_so(catalogue: Catalogue, fact_first: bool) -> None:
    hidden, again = row(minute=0, sop_class=MR, name="Hidden"), row(minute=1, sop_class=MR, content="again")
    shown = row(sop="1.2.9", minute=5, name="Shown")
    deleted = fact(hidden)
    if fact_first:
        await catalogue.decide(deleted)
    for added in (hidden, shown, again):
        await add(catalogue, added)
    if not fact_first:
        await catalogue.decide(deleted)
    for level in ABOVE:
        match = await one(catalogue, level)
        assert (match.studies, match.series, match.instances) == (1, 1, 1), level
        assert (match.version, match.sop_classes) == (shown.version, (CT,)), level
    first, second = await find(catalogue, Level.IMAGE)
    assert (first.instances, first.rulings, first.version) == (0, (deleted,), again.version)
    assert (second.instances, second.rulings, second.version) == (1, (), shown.version)
    counts = await catalogue.counts()
    assert (counts.instances, counts.versions) == (1, 3)
    assert len(await catalogue.rows_of(hidden.version.instance)) == 2, "the rows stay"


async def test_where_all_is_deleted_nothing_counts_and_the_first_still_stands(catalogue: Catalogue) -> None:
    rows = [row(sop=f"1.2.{n}", minute=n) for n in range(3)]
    for added in rows:
        await add(catalogue, added)
        await catalogue.decide(fact(added))
    for level in ABOVE:
        match = await one(catalogue, level)
        assert (match.studies, match.series, match.instances) == (0, 0, 0), level
        assert (match.version, match.modalities, match.sop_classes) == (rows[0].version, (), ()), level
    counts = await catalogue.counts()
    assert (counts.patients, counts.studies, counts.series, counts.instances) == (0, 0, 0, 0)
    assert (counts.versions, counts.size_bytes) == (3, sum(added.version.size_bytes for added in rows))


async def test_a_row_that_comes_later_stands_where_all_before_it_are_deleted(catalogue: Catalogue) -> None:
    early, late = row(minute=0), row(sop="1.2.9", minute=9, patient_id="P2")
    await add(catalogue, early)
    await catalogue.decide(fact(early))
    await add(catalogue, late)
    for level in ABOVE:
        assert (await one(catalogue, level)).version == late.version, level
    assert (await one(catalogue, Level.PATIENT)).uid == ("P2\n",)


async def test_what_is_revived_is_as_it_was(catalogue: Catalogue) -> None:
    rows = [row(sop=f"1.2.{n}", minute=n, sop_class=(CT, MR)[n]) for n in range(2)]
    for added in rows:
        await add(catalogue, added)
    before = [
        match
        for level in (Level.PATIENT, Level.STUDY, Level.SERIES)
        for match in await find(catalogue, level)
    ]
    counts = await catalogue.counts()
    await catalogue.decide(fact(rows[0]))
    assert (await one(catalogue, Level.STUDY)).instances == 1
    revived = fact(rows[0], 2, REVIVED)
    await catalogue.decide(revived)
    after = [
        match
        for level in (Level.PATIENT, Level.STUDY, Level.SERIES)
        for match in await find(catalogue, level)
    ]
    assert after == before
    assert await catalogue.counts() == counts
    assert [match.rulings for match in await find(catalogue, Level.IMAGE)] == [(revived,), ()]


async def test_of_an_epoch_a_deletion_holds_and_an_older_fact_changes_nothing(catalogue: Catalogue) -> None:
    added = row()
    await add(catalogue, added)
    for decided, shown in (
        (fact(added, 2, REVIVED), 1),
        (fact(added, 1), 1),
        (fact(added, 2), 0),
        (fact(added, 2, REVIVED, "again"), 0),
        (fact(added, 3, REVIVED), 1),
        (fact(added, 3, REVIVED, "again"), 1),
    ):
        await catalogue.decide(decided)
        assert (await one(catalogue, Level.STUDY)).instances == shown
        assert (await catalogue.counts()).instances == shown


async def test_a_fact_without_a_row_matches_nothing_but_is_in_the_summary(catalogue: Catalogue) -> None:
    deleted = fact(Instance("1.9", "1.9.1", "1.9.1.1"))
    await catalogue.decide(deleted)
    for level in Level:
        assert await find(catalogue, level) == []
    assert [match async for match in catalogue.find(by_uids(study=["1.9"]), 10)] == []
    (summary,) = [summary async for summary in catalogue.studies()]
    assert (summary.study_instance_uid, summary.entries) == ("1.9", 1)
    assert summary.fingerprint == fact_fingerprint(deleted)
    assert (await catalogue.counts()).studies == 0


async def test_fingerprints_tell_apart_what_is_hidden_what_is_not_and_what_is_not_there(
    catalogue: Catalogue,
) -> None:
    await add(catalogue, row(sop="1"))
    fingerprints = {(await one(catalogue, Level.STUDY)).fingerprint}
    other = row(sop="2", minute=1)
    await add(catalogue, other)
    fingerprints.add((await one(catalogue, Level.STUDY)).fingerprint)
    await catalogue.decide(fact(other))
    fingerprints.add((await one(catalogue, Level.STUDY)).fingerprint)
    assert len(fingerprints) == 3


async def test_a_summary_is_of_all_rows_and_facts_of_a_study(catalogue: Catalogue) -> None:
    one, two = row("1.1", order=1), row("1.1", content="two", order=2)
    deleted, revived = fact(one), fact(one, 2, REVIVED)
    for added in (one, two, row("1.2", order=1), one):
        await add(catalogue, added)
    for decided in (deleted, revived, deleted):
        await catalogue.decide(decided)
    raised = replace(one, order=3, provenance=row("1.1", minute=-1).provenance)
    await add(catalogue, raised)
    await add(catalogue, replace(raised, version=replace(one.version, key="elsewhere")))
    first, second = [summary async for summary in catalogue.studies()]
    expected = 0
    for each in (raised, two):
        expected ^= row_fingerprint(each.version.instance, each.version.digest, each.order, each.provenance)
    for decided in (deleted, revived):
        expected ^= fact_fingerprint(decided)
    assert (first.study_instance_uid, first.entries, first.fingerprint) == ("1.1", 4, expected)
    assert (second.study_instance_uid, second.entries) == ("1.2", 1)


async def test_facts_of_a_kind_that_hold_come_by_subject(catalogue: Catalogue) -> None:
    instances = [Instance(f"1.{study}", f"1.{study}.1", f"{sop}") for study in (3, 1, 2) for sop in (2, 1)]
    deleted = [fact(instance) for instance in instances]
    for decided in (*deleted, fact(instances[0], 2, REVIVED), fact(instances[1], 2)):
        await catalogue.decide(decided)
    await catalogue.decide(fact(instances[2], 1, FactKind.REJECTED))
    holding = sorted([fact(instances[1], 2), *deleted[2:]], key=lambda decided: decided.instance)
    assert [found async for found in catalogue.ruled(DELETED)] == holding
    assert [found.instance async for found in catalogue.ruled(REVIVED)] == [instances[0]]
    assert [found async for found in catalogue.ruled(DELETED, after="1.1")] == holding[2:]
    assert [found async for found in catalogue.ruled(DELETED, after="1.3")] == []


async def test_very_many_facts_that_hold_come_page_by_page(catalogue: Catalogue) -> None:
    rejected = [fact(Instance("1", "1.1", f"{n:05}"), 1, FactKind.REJECTED) for n in range(1500)]
    await asyncio.gather(*map(catalogue.decide, rejected))
    assert [found async for found in catalogue.ruled(FactKind.REJECTED)] == rejected
