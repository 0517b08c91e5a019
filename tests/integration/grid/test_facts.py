"""Deletion, revival, and an instance that is sent again after it was deleted."""

from __future__ import annotations

import asyncio
from itertools import product
from pathlib import Path

import pytest

from cluster.nouns import Fact, FactKind
from storage_node.catalogue.views import is_hidden, ruling
from storage_node.grid import keys
from storage_node.grid.facts import STORED_AGAIN
from storage_node.grid.write import NotEnoughSites
from storage_node.site.failing import Fault, well
from tests.integration.grid.cluster import NAMES, PROVENANCE, Cluster, arrival, cluster, faulty

PARTS = [b"meta", b"pixels"]
INSTANCE = arrival().instance

FAULTS: list[tuple[str, Fault] | None] = [
    None,
    ("put", Fault.BEFORE),
    ("put", Fault.AFTER),
    ("put", Fault.HANG),
    ("put", Fault.OBJECT),
    ("decide", Fault.BEFORE),
    ("decide", Fault.AFTER),
    ("decide", Fault.HANG),
    ("owe", Fault.BEFORE),
]


async def delete(c: Cluster) -> Fact:
    return await c.grid.decide(INSTANCE, FactKind.DELETED, by="ann", reason="wrong patient")


async def knowers(c: Cluster, fact: Fact) -> set[str]:
    """Sites that have both the fact's object, as it should be, and its row; seen behind the grid's back."""
    found = set()
    for name, site in c.sites.items():
        if fact in await site.inner.facts_of(INSTANCE):
            assert await site.objects.objects.get(keys.fact_key(fact)) == fact.to_json()
            found.add(name)
    return found


async def check_decided(c: Cluster, fact: Fact) -> None:
    """What must hold once a decision was confirmed (W = 2 of 3), whatever the grid believes."""
    known = await knowers(c, fact)
    assert len(known) >= 2
    for name in c.sites.keys() - known:
        noted = {other for other, site in c.sites.items() if (name, fact.digest) in await site.debts()}
        assert len(noted) >= 2, f"{name} is owed the fact, and only {noted} know"


async def hidden_at(c: Cluster) -> set[str]:
    return {name for name, site in c.sites.items() if is_hidden(await site.inner.facts_of(INSTANCE))}


async def test_a_deletion_is_an_object_and_a_row_at_each_site(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        await c.grid.store(arrival(), PARTS)
        fact = await delete(c)
        assert (fact.epoch, fact.kind, fact.decided_by) == (1, FactKind.DELETED, "ann")
        assert await knowers(c, fact) == set(NAMES)
        assert await hidden_at(c) == set(NAMES)
        assert {name: list(facts) for name, facts in (await c.grid.facts_at_sites(INSTANCE)).items()} == {
            name: [fact] for name in NAMES
        }


async def test_deleted_revived_deleted_and_no_decision_twice() -> None:
    async with cluster() as c:
        decided = []
        for kind in (FactKind.DELETED, FactKind.REVIVED, FactKind.DELETED):
            fact = await c.grid.decide(INSTANCE, kind, by="ann", reason="")
            assert await c.grid.decide(INSTANCE, kind, by="bob", reason="again") == fact
            decided.append((fact.epoch, fact.kind))
        assert decided == [(1, FactKind.DELETED), (2, FactKind.REVIVED), (3, FactKind.DELETED)]


async def test_an_instance_that_is_sent_again_is_revived_before_success(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        await c.grid.store(arrival(), PARTS)
        await delete(c)
        await c.grid.store(arrival(), PARTS)
        revival = ruling(await c["a"].inner.facts_of(INSTANCE))
        assert revival is not None
        assert (revival.epoch, revival.kind) == (2, FactKind.REVIVED)
        assert (revival.decided_by, revival.reason) == (PROVENANCE.calling_ae, STORED_AGAIN)
        await check_decided(c, revival)
        assert not await hidden_at(c)


async def test_another_version_revives_its_instance_too() -> None:
    async with cluster() as c:
        await c.grid.store(arrival(), PARTS)
        await delete(c)
        await c.grid.store(arrival(), [b"another"])
        assert not await hidden_at(c)


async def test_a_large_instance_that_is_sent_again_is_revived() -> None:
    async with cluster() as c:
        await delete(c)
        async with await c.grid.stream(INSTANCE) as stream:
            await stream.write([b"large"])
            await stream.complete(arrival())
        assert not await hidden_at(c)


async def test_a_resend_is_refused_where_its_revival_cannot_reach_enough_sites() -> None:
    async with cluster() as c:
        await delete(c)
        for name in ("a", "b"):
            c[name].fail(Fault.BEFORE, "decide")
        with pytest.raises(NotEnoughSites) as refused:
            await c.grid.store(arrival(), PARTS)
        assert set(refused.value.reasons) == {"a", "b"}
        await c.heal()
        await c.grid.store(arrival(), PARTS)
        assert not await hidden_at(c)


async def test_a_revival_that_reached_one_site_only_is_completed_by_the_next_resend() -> None:
    async with cluster() as c:
        await delete(c)
        revival = Fact(INSTANCE, 2, FactKind.REVIVED, PROVENANCE.received_at, "CT1", STORED_AGAIN)
        await c["b"].objects.put(
            keys.fact_key(revival), [revival.to_json()], digest=revival.digest, metadata={}
        )
        await c["b"].inner.decide(revival)
        await c.grid.store(arrival(), PARTS)
        await check_decided(c, revival)


async def test_a_deletion_that_one_site_of_two_knows_is_met() -> None:
    """Deleted at a and b; stored at b and c: the one that both share is enough."""
    async with cluster() as c:
        c["c"].fail(Fault.BEFORE)
        await c.grid.sites.probe()
        await delete(c)
        c["c"].heal()
        c["a"].fail(Fault.BEFORE)
        await c.grid.sites.probe()
        await c.grid.store(arrival(), PARTS)
        assert await hidden_at(c) == {"a"}
        await c.heal()
        await c.repair()
        assert not await hidden_at(c)


async def delete_at_a_and_lose_c(c: Cluster) -> None:
    """Have a deletion that was known at a and c, while b was away; c has lost its disk since."""
    c["b"].fail(Fault.BEFORE)
    await c.grid.sites.probe()
    await delete(c)
    c["b"].heal()
    await c.replace("c")


async def test_nothing_is_stored_where_too_few_that_vote_say_whether_it_was_deleted() -> None:
    """Deleted at a and c; c has lost its disk, and knows nothing: what is stored at b and c may be hidden."""
    async with cluster() as c:
        await delete_at_a_and_lose_c(c)
        c["a"].fail(Fault.BEFORE)
        await c.grid.sites.probe()
        with pytest.raises(NotEnoughSites) as refused:
            await c.grid.store(arrival(), PARTS)
        assert (refused.value.answered, refused.value.needed) == (1, 2)
        assert set(refused.value.reasons) == {"a", "c"}
        await c.heal()
        await c.grid.store(arrival(), PARTS)
        await c.repair()
        assert not await hidden_at(c)


async def test_one_that_votes_and_took_no_row_is_asked_what_was_decided() -> None:
    async with cluster() as c:
        await delete_at_a_and_lose_c(c)
        c["a"].fail(Fault.BEFORE, "put")
        await c.grid.store(arrival(), PARTS)
        await c.heal()
        await c.repair()
        assert not await hidden_at(c)


async def test_a_straggler_revives_nothing() -> None:
    async with cluster(grace_s=0.05) as c:
        c["c"].script(faulty("put", Fault.HANG))
        await c.grid.store(arrival(), PARTS)
        c["c"].script(well)
        fact = await delete(c)
        c["c"].heal()
        await c.grid.tasks.drain()
        await c.repair()
        assert await hidden_at(c) == set(NAMES)
        for site in c.sites.values():
            assert list(await site.inner.facts_of(INSTANCE)) == [fact]


async def test_no_epoch_is_chosen_by_too_few_sites() -> None:
    async with cluster() as c:
        for name in ("a", "b"):
            c[name].fail(Fault.BEFORE, "facts_of")
        with pytest.raises(NotEnoughSites) as refused:
            await delete(c)
        assert (refused.value.answered, refused.value.needed) == (1, 2)
        assert not await hidden_at(c)


async def test_a_site_that_is_being_filled_has_no_say_in_an_epoch() -> None:
    async with cluster() as c:
        await c.replace("a")
        c["b"].fail(Fault.BEFORE, "facts_of")
        with pytest.raises(NotEnoughSites) as refused:
            await delete(c)
        assert (refused.value.answered, refused.value.needed) == (1, 2)


async def test_a_decision_made_while_a_site_is_away_holds_over_what_that_site_knows() -> None:
    async with cluster() as c:
        await delete(c)
        c["c"].fail(Fault.BEFORE)
        await c.grid.sites.probe()
        fact = await c.grid.decide(INSTANCE, FactKind.REVIVED, by="ann", reason="by mistake")
        await check_decided(c, fact)
        await c.heal()
        await c.repair()
        assert await knowers(c, fact) == set(NAMES)
        assert not await hidden_at(c)


async def test_every_combination_of_one_fault_per_site() -> None:
    async def decides(faults: tuple[tuple[str, Fault] | None, ...]) -> bool:
        async with cluster(grace_s=0.05, timeout_s=0.5) as c:
            for name, fault in zip(NAMES, faults, strict=True):
                if fault is not None:
                    c[name].script(faulty(*fault))
            try:
                fact = await delete(c)
            except NotEnoughSites:
                return False
            await check_decided(c, fact)
            await c.heal()
            await c.grid.tasks.drain()
            await c.repair()
            assert await knowers(c, fact) == set(NAMES)
            assert not [debt for site in c.sites.values() for debt in await site.debts()]
            return True

    outcomes = await asyncio.gather(*map(decides, product(FAULTS, repeat=3)))
    assert 0 < sum(outcomes) < len(outcomes)
