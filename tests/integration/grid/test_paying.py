"""A debt is paid with what is owed, wherever that has to go; what cannot be paid is told, and tried again."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from hashlib import sha256

import pytest
from prometheus_client import REGISTRY

from cluster.nouns import Debt, Fact, FactKind
from storage_node.catalogue.views import is_hidden
from storage_node.grid import keys
from storage_node.grid.write import NotEnoughSites
from storage_node.site.failing import Call, Fault, well
from storage_node.upkeep.anti_entropy import AntiEntropy
from storage_node.upkeep.collection import Collection
from storage_node.upkeep.fill import Fill
from storage_node.upkeep.repair import Repair
from storage_node.upkeep.verify import verify
from tests.integration.grid.cluster import Cluster, arrival, cluster, utc_now
from tests.integration.grid.upkeep import UPKEEP, Clock, damage, lose, memory, store


def wedge(c: Cluster, name: str, *keys_: str) -> None:
    """Have a site refuse to read, write and remove these keys, as MinIO does with a damaged `xl.meta`."""
    methods = {"get", "put", "head", "delete", "complete"}
    c[name].objects.script = lambda call: (
        Fault.OBJECT if call.key in keys_ and call.method in methods else None
    )


def key_of(number: int, digest: str) -> str:
    return keys.object_key(arrival(number).instance, digest)


async def test_a_copy_whose_key_cannot_be_written_comes_to_another_which_the_row_names() -> None:
    async with cluster() as c:
        (digest,) = await store(c, 1)
        wedge(c, "b", key_of(1, digest))
        await c["a"].inner.owe([Debt("b", arrival(1).instance, digest)])
        report = await Repair(c.grid, UPKEEP).run_once()
        assert (report.paid, report.open) == (1, 0)
        (row,) = await c["b"].inner.rows_of(arrival(1).instance)
        assert row.version.key != key_of(1, digest)
        assert memory(c, "b").objects[row.version.key].content == b"1"
        found = await verify(c.grid, deep=True)
        assert found.complete
        for name in ("a", "c"):
            await lose(c, name)
        assert [piece async for piece in c.grid.read(row.version)] == [b"1"]


async def test_a_key_that_a_straggler_has_given_its_row_meanwhile_is_replaced_as_well() -> None:
    """The site had no row when repair looked, and has one that names the wedged key when repair adds its."""
    async with cluster() as c:
        await lose(c, "b")
        (digest,) = await store(c, 1)
        await c.heal()
        wedge(c, "b", key_of(1, digest))
        (row,) = await c["a"].inner.rows_of(arrival(1).instance)
        inner_add, put_at = c["b"].inner.add, utc_now()

        async def add(row_: object, *args: object, **kwargs: object) -> object:
            await inner_add(row, verified_at=put_at)
            return await inner_add(row_, *args, **kwargs)  # type: ignore[arg-type]

        c["b"].inner.add = add  # type: ignore[method-assign,assignment]
        await Repair(c.grid, UPKEEP).run_once()
        (row,) = await c["b"].inner.rows_of(arrival(1).instance)
        assert memory(c, "b").objects[row.version.key].content == b"1"
        assert row.version.key != key_of(1, digest)
        assert await c.debts() == set()


async def test_a_fact_is_paid_with_its_object_and_its_row_and_its_debt_is_gone() -> None:
    async with cluster() as c:
        await store(c, 1)
        await lose(c, "c")
        fact = await c.grid.decide(arrival(1).instance, FactKind.DELETED, by="somebody", reason="test")
        assert {("c", fact.digest)} == await c.debts()
        await c.heal()
        report = await Repair(c.grid, UPKEEP).run_once()
        assert (report.paid, report.open) == (1, 0)
        assert memory(c, "c").objects[keys.fact_key(fact)].content == fact.to_json()
        assert is_hidden(await c["c"].inner.facts_of(fact.instance))
        assert await c.debts() == set()


async def test_a_fact_whose_key_cannot_be_written_comes_to_another() -> None:
    async with cluster() as c:
        await store(c, 1)
        fact = await c.grid.decide(arrival(1).instance, FactKind.DELETED, by="somebody", reason="test")
        wedge(c, "b", keys.fact_key(fact))
        await c["a"].inner.owe([Debt("b", fact.instance, fact.digest)])
        await Repair(c.grid, UPKEEP).run_once()
        contents = [
            kept.content
            for key, kept in memory(c, "b").objects.items()
            if key.startswith(f"{keys.FACTS}/") and key != keys.fact_key(fact)
        ]
        assert contents == [fact.to_json()]
        assert await c.debts() == set()


async def test_what_was_deleted_comes_to_a_site_with_its_facts_before_its_row() -> None:
    """The debt of the version is older than that of the fact: it shows at the site at no moment."""
    async with cluster() as c:
        await lose(c, "c")
        await store(c, 1)
        await c.grid.decide(arrival(1).instance, FactKind.DELETED, by="somebody", reason="test")
        await c.heal()
        hidden_when_added: list[bool] = []
        inner_add = c["c"].inner.add

        async def add(*args: object, **kwargs: object) -> object:
            hidden_when_added.append(is_hidden(await c["c"].inner.facts_of(arrival(1).instance)))
            return await inner_add(*args, **kwargs)  # type: ignore[arg-type]

        c["c"].inner.add = add  # type: ignore[method-assign,assignment]
        await Repair(c.grid, UPKEEP).run_once()
        assert hidden_when_added == [True]
        assert await c.debts() == set()


async def test_repair_revives_nothing() -> None:
    async with cluster() as c:
        await lose(c, "c")
        await store(c, 1)
        fact = await c.grid.decide(arrival(1).instance, FactKind.DELETED, by="somebody", reason="test")
        await c.heal()
        await Repair(c.grid, UPKEEP).run_once()
        for site in c.sites.values():
            assert tuple(await site.inner.facts_of(fact.instance)) == (fact,)


async def test_a_version_of_which_no_site_has_a_good_copy_is_told_and_not_tried_again_at_once() -> None:
    async with cluster() as c:
        (digest,) = await store(c, 1)
        for name in c.sites:
            damage(c, name, key_of(1, digest))
            await c["a"].inner.owe([Debt(name, arrival(1).instance, digest)])
        repair = Repair(c.grid, UPKEEP)
        report = await repair.run_once()
        assert (report.paid, report.unreadable) == (0, 3)
        assert REGISTRY.get_sample_value("atria_unreadable_versions") == 1
        await c.grid.tasks.drain()
        reads = sum(call.method == "get" for site in c.sites.values() for call in site.objects.calls)
        report = await repair.run_once()
        assert (report.failed, report.unreadable) == (3, 3)
        assert reads == sum(call.method == "get" for site in c.sites.values() for call in site.objects.calls)


async def test_what_was_put_off_is_tried_again_as_soon_as_another_site_is_up() -> None:
    async with cluster() as c:
        (digest,) = await store(c, 1)
        damage(c, "a", key_of(1, digest))
        damage(c, "b", key_of(1, digest))
        await lose(c, "c")
        await c["a"].inner.owe([Debt("b", arrival(1).instance, digest)])
        repair = Repair(c.grid, UPKEEP)
        report = await repair.run_once()
        assert (report.paid, report.unreadable) == (0, 0), "the site that is down may have it"
        await c.heal()
        await repair.run_once()
        await c.grid.tasks.drain()
        await repair.run_once()
        await c.check_everywhere(digest)
        assert REGISTRY.get_sample_value("atria_unreadable_versions") == 0


async def test_the_site_that_is_owed_a_copy_is_asked_last_for_it() -> None:
    async with cluster() as c:
        await lose(c, "a")
        await store(c, 1)
        await c.heal()
        c["a"].objects.calls.clear()
        await Repair(c.grid, UPKEEP).run_once()
        assert not [call for call in c["a"].objects.calls if call.method == "get"]


async def test_the_only_good_copy_may_be_that_of_the_site_that_is_owed_it() -> None:
    async with cluster() as c:
        (digest,) = await store(c, 1)
        damage(c, "b", key_of(1, digest))
        damage(c, "c", key_of(1, digest))
        await c["b"].inner.owe([Debt("a", arrival(1).instance, digest)])
        await Repair(c.grid, UPKEEP).run_once()
        await c.grid.tasks.drain()
        await c.repair()
        await c.check_everywhere(digest)


async def test_no_site_that_is_full_is_written_to() -> None:
    async with cluster() as c:
        await lose(c, "b")
        await store(c, 1)
        await c.heal()
        memory(c, "b").capacity_bytes = 0
        await c.grid.sites.probe()
        c["b"].objects.calls.clear()
        await Repair(c.grid, UPKEEP).run_once()
        assert not [call for call in c["b"].objects.calls if call.method == "put"]


@pytest.mark.parametrize("method", ["put", "facts_of", "decide", "add", "settle"])
@pytest.mark.parametrize("fault", [Fault.BEFORE, Fault.AFTER])
async def test_a_debt_stays_if_anything_fails(method: str, fault: Fault) -> None:
    async with cluster() as c:
        await lose(c, "c")
        (digest,) = await store(c, 1)
        fact = await c.grid.decide(arrival(1).instance, FactKind.DELETED, by="somebody", reason="test")
        await c.heal()
        c["c"].fail(fault, method)
        await Repair(c.grid, UPKEEP).run_once()
        if method != "settle":  # which has failed at one of three sites only
            # Whose answer is lost has the fact all the same, and may be given the version then.
            stays = fact.digest if method == "decide" else digest
            assert ("c", stays) in await c["a"].debts() & await c["b"].debts()
        await c.heal()
        await c.repair()
        await c.check_everywhere(digest)
        assert is_hidden(await c["c"].inner.facts_of(fact.instance))


async def test_a_repairer_that_is_cancelled_at_any_moment_leaves_what_the_next_one_mends() -> None:
    for moment in range(40):
        async with cluster() as c:
            await lose(c, "c")
            digests = await store(c, 1, 2)
            await c.heal()
            calls = 0
            reached = asyncio.Event()

            def count(call: Call) -> None:
                nonlocal calls
                calls += call.method != "identity"
                if calls == moment:  # noqa: B023  # it is called while the loop is at this moment
                    reached.set()  # noqa: B023

            for site in c.sites.values():
                site.script(count)
            repairing = asyncio.create_task(Repair(c.grid, UPKEEP).run_once())
            waiting = asyncio.create_task(reached.wait())
            await asyncio.wait({repairing, waiting}, return_when=asyncio.FIRST_COMPLETED)
            for task in (waiting, repairing):
                task.cancel()
            await asyncio.wait({waiting, repairing})
            await c.repair()
            for digest in digests:
                await c.check_everywhere(digest)


async def test_what_a_site_might_know_that_cannot_be_asked_or_has_no_vote_is_owed_still() -> None:
    async with cluster() as c:
        fact = Fact(arrival(1).instance, 1, FactKind.DELETED, utc_now(), "somebody", "test")
        await c["a"].inner.owe([Debt("b", fact.instance, fact.digest)])
        await lose(c, "c")
        report = await Repair(c.grid, UPKEEP).run_once()
        assert (report.paid, report.failed, report.open) == (0, 1, 1)
        await c.heal()
        await c.replace("c")
        report = await Repair(c.grid, UPKEEP).run_once()
        assert (report.paid, report.failed, report.open) == (0, 1, 1)


async def test_what_no_site_knows_any_more_is_owed_no_more() -> None:
    """A write that was refused left its row at one site, which has lost it since it was found lacking."""
    async with cluster() as c:
        for name in ("a", "b"):
            c[name].fail(Fault.BEFORE, "add")
        with pytest.raises(NotEnoughSites):
            await store(c, 1)
        await c.heal()
        await AntiEntropy(c.grid, UPKEEP).run_once()
        assert {site for site, _ in await c.debts()} == {"a", "b"}
        await c.replace("c")
        await Fill(c.grid, UPKEEP, c.roster).run_once()
        await c.voting("c")
        report = await Repair(c.grid, UPKEEP).run_once()
        assert (report.failed, report.open) == (0, 0)
        assert await c.debts() == set()


async def test_what_is_stored_while_the_note_of_it_is_struck_out_is_owed_again() -> None:
    async with cluster() as c:
        digest = sha256(b"1").hexdigest()
        await c["a"].inner.owe([Debt("b", arrival(1).instance, digest)])
        for name in ("a", "c"):
            c[name].fail(Fault.HANG, "forgive")
        repairing = asyncio.create_task(Repair(c.grid, UPKEEP).run_once())
        for name in ("a", "c"):
            await c[name].catalogue.hanging.wait()
        c["b"].fail(Fault.OBJECT, "put")
        await store(c, 1)
        for site in c.sites.values():
            site.heal()
        await repairing
        await c.repair()
        await c.check_everywhere(digest)


async def test_a_raised_order_goes_to_the_others_without_their_copies_being_called_verified() -> None:
    async with cluster() as c:
        (digest,) = await store(c, 1)
        before = [entry.verified_at async for entry in c["a"].inner.walk()]
        (row,) = await c["c"].inner.rows_of(arrival(1).instance)
        await c["c"].inner.add(replace(row, order=7), verified_at=utc_now())
        await c["a"].inner.owe([Debt("c", row.version.instance, digest)])
        await Repair(c.grid, UPKEEP).run_once()
        assert await c["a"].rows() == {digest: 7}
        assert [entry.verified_at async for entry in c["a"].inner.walk()] == before


async def test_a_repairer_that_stood_still_pays_with_no_copy_that_was_collected() -> None:
    clock = Clock()
    async with cluster(now=clock) as c:
        (digest,) = await store(c, 1)
        wedge(c, "b", key_of(1, digest))
        await c["a"].inner.owe([Debt("b", arrival(1).instance, digest)])
        c["b"].catalogue.script = lambda call: (
            Fault.HANG if call.method == "facts_of" and len(memory(c, "b").objects) == 2 else None
        )
        repair = Repair(c.grid, UPKEEP)
        first = asyncio.create_task(repair.run_once())
        await c["b"].catalogue.hanging.wait()
        clock.forward(days=2)
        await Collection(c.grid, UPKEEP).run_once()
        c["b"].catalogue.script = well
        c["b"].catalogue.release()
        assert (await first).paid == 0
        assert len(await c.debts()) == 1
        assert (await Repair(c.grid, UPKEEP).run_once()).paid == 1
        c["b"].heal()
        assert (await verify(c.grid, deep=True)).complete
