"""Writing with faults at every step: what was acknowledged is at W sites, and whoever lacks it is owed it."""

from __future__ import annotations

import asyncio
from itertools import product
from pathlib import Path

import pytest

from cluster.nouns import SiteIdentity
from storage_node.grid import health
from storage_node.grid.grid import Grid
from storage_node.grid.health import SiteState
from storage_node.grid.sites import SiteFailed
from storage_node.grid.write import LAGGING_LIMIT, NotEnoughSites
from storage_node.site.failing import Call, Fault
from storage_node.site.memory import MemoryObjects
from tests.integration.grid.cluster import NAMES, PROVENANCE, arrival, cluster, faulty, writing

PARTS = [b"meta", b"pixels" * 100]

FAULTS: list[tuple[str, Fault] | None] = [
    None,
    ("put", Fault.BEFORE),
    ("put", Fault.AFTER),
    ("put", Fault.HANG),
    ("put", Fault.OBJECT),
    ("add", Fault.BEFORE),
    ("add", Fault.AFTER),
    ("add", Fault.HANG),
    ("owe", Fault.BEFORE),
    ("owe", Fault.HANG),
]


async def test_when_all_is_well_each_site_has_a_copy_on_disk(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        stored = await c.grid.store(arrival(), PARTS)
        assert (stored.copies, stored.owed) == (NAMES, ())
        await c.check_everywhere(stored.version.digest)
        assert stored.version.size_bytes == 604
        head = await c["a"].objects.head(stored.version.key)
        assert dict(head.metadata) == PROVENANCE.to_metadata()


async def test_every_combination_of_one_fault_per_site() -> None:
    """1,000 writes: each site does one thing wrong, or none. Then all heal, and repair brings all level."""
    outcomes = await asyncio.gather(*(survives(faults) for faults in product(FAULTS, repeat=3)))
    assert 0 < sum(outcomes) < len(outcomes)


async def survives(faults: tuple[tuple[str, Fault] | None, ...]) -> bool:
    async with cluster(grace_s=0.05, timeout_s=0.5) as c:
        for name, fault in zip(NAMES, faults, strict=True):
            if fault is not None:
                c[name].script(faulty(*fault))
        try:
            stored = await c.grid.store(arrival(), PARTS)
        except NotEnoughSites:
            return False
        await c.check_acknowledged(stored.version.digest)
        assert set(stored.copies) <= await c.holders(stored.version.digest)
        await c.heal()
        await c.grid.tasks.drain()
        await c.repair()
        await c.check_everywhere(stored.version.digest)
        return True


async def test_no_one_fault_at_one_site_keeps_a_write_from_success() -> None:
    async def succeeds(name: str, fault: tuple[str, Fault]) -> None:
        async with cluster(grace_s=0.05) as c:
            c[name].script(faulty(*fault))
            stored = await c.grid.store(arrival(), PARTS)
            await c.check_acknowledged(stored.version.digest)

    await asyncio.gather(*(succeeds(name, fault) for name in NAMES for fault in FAULTS if fault is not None))


async def test_a_site_that_is_down_is_not_asked_and_is_owed(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        c["b"].fail(Fault.BEFORE)
        await c.grid.sites.wait_until(lambda health: not health["b"].up)
        stored = await c.grid.store(arrival(), PARTS)
        assert (stored.copies, stored.owed) == (("a", "c"), ("b",))
        assert not [call for call in c["b"].objects.calls if call.method == "put"]
        await c.check_acknowledged(stored.version.digest)
        c["b"].heal()
        await c.grid.sites.wait_until(lambda health: health["b"].up)
        report = await c.repair()
        assert (report.paid, report.failed, report.open) == (1, 0, 0)
        await c.check_everywhere(stored.version.digest)


async def test_with_one_site_left_nothing_is_acknowledged_nor_tried(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        c["a"].fail(Fault.BEFORE)
        c["c"].fail(Fault.BEFORE)
        await c.grid.sites.wait_until(lambda health: not health["a"].up and not health["c"].up)
        with pytest.raises(NotEnoughSites) as refused:
            await c.grid.store(arrival(), PARTS)
        assert (refused.value.answered, refused.value.needed) == (1, 2)
        assert set(refused.value.reasons) == {"a", "c"}
        assert not c["b"].object_digests()


async def test_a_straggler_is_owed_then_adds_its_row_and_settles_its_debt(tmp_path: Path) -> None:
    async with cluster(tmp_path, grace_s=0.05) as c:
        c["c"].script(faulty("put", Fault.HANG))
        stored = await c.grid.store(arrival(), PARTS)
        assert stored.owed == ("c",)
        await c.check_acknowledged(stored.version.digest)
        c["c"].heal()
        await c.grid.tasks.drain()
        await c.check_everywhere(stored.version.digest)


async def test_a_row_that_comes_late_settles_its_debt(tmp_path: Path) -> None:
    async with cluster(tmp_path, grace_s=0.05) as c:
        c["c"].script(faulty("add", Fault.HANG))
        stored = await c.grid.store(arrival(), PARTS)
        assert stored.owed == ("c",)
        await c.check_acknowledged(stored.version.digest)
        c["c"].heal()
        await c.grid.tasks.drain()
        await c.check_everywhere(stored.version.digest)


async def test_a_straggler_of_a_refused_write_adds_no_row(tmp_path: Path) -> None:
    async with cluster(tmp_path, grace_s=0.05) as c:
        c["a"].fail(Fault.HANG, "put")
        for name in ("b", "c"):
            c[name].fail(Fault.BEFORE, "put")
        write = asyncio.create_task(c.grid.store(arrival(), PARTS))
        with pytest.raises(NotEnoughSites):
            await write
        c["a"].heal()
        await c.grid.tasks.drain()
        assert [len(site.object_digests()) for site in c.sites.values()] == [1, 0, 0]
        assert not await c["a"].rows()


async def test_a_straggler_of_a_write_that_is_refused_for_its_rows_adds_none(tmp_path: Path) -> None:
    async with cluster(tmp_path, grace_s=0.05) as c:
        c["a"].fail(Fault.BEFORE, "add")
        c["c"].fail(Fault.HANG, "put")
        with pytest.raises(NotEnoughSites):
            await c.grid.store(arrival(), PARTS)
        c["c"].heal()
        await c.grid.tasks.drain()
        assert [len(site.object_digests()) for site in c.sites.values()] == [1, 1, 1]
        assert not await c["c"].rows()


async def test_a_site_that_hangs_costs_one_time_limit_and_few_writes_their_grace() -> None:
    async with cluster(grace_s=0.05, timeout_s=60) as c:
        c["c"].fail(Fault.HANG, "put")
        for number in range(LAGGING_LIMIT):
            await c.grid.store(arrival(number), PARTS)
        calls = len(c["c"].objects.calls)
        started = asyncio.get_running_loop().time()
        c.grid.writer.straggler_grace_s = 60.0
        stored = await c.grid.store(arrival(99), PARTS)
        assert asyncio.get_running_loop().time() - started < 10
        assert stored.owed == ("c",)
        assert not [call for call in c["c"].objects.calls[calls:] if call.method == "put"]
        c["c"].heal()
        await c.grid.tasks.drain()
        assert c.grid.writer.lagging["c"] == 0
        assert (await c["c"].inner.counts()).versions == LAGGING_LIMIT


async def test_a_site_past_its_time_limit_is_down_until_a_probe_succeeds() -> None:
    async with cluster(timeout_s=0.1) as c:
        c["c"].fail(Fault.HANG)
        await c.grid.store(arrival(), PARTS)
        await c.grid.sites.wait_until(lambda health: not health["c"].up)
        assert "0.1 s" in c.grid.health()["c"].why
        c["c"].heal()
        await c.grid.sites.wait_until(lambda health: health["c"].up)


async def test_a_site_that_hangs_keeps_no_other_from_coming_back() -> None:
    async with cluster(timeout_s=60) as c:
        c["c"].fail(Fault.HANG)
        await c["c"].objects.hanging.wait()
        c["b"].fail(Fault.BEFORE)
        await c.grid.sites.wait_until(lambda health: not health["b"].up)
        c["b"].heal()
        async with asyncio.timeout(10):
            await c.grid.sites.wait_until(lambda health: health["b"].up)


async def test_a_site_that_hangs_at_the_start_is_not_waited_for() -> None:
    async with cluster(timeout_s=60) as c:
        c["c"].fail(Fault.HANG)
        again = Grid(
            [c.grid.sites[name] for name in NAMES],
            writing(straggler_grace_s=0.05, site_timeout_s=60),
        )
        async with asyncio.timeout(10):
            await again.start()
        assert [site.name for site in again.sites.up()] == ["a", "b"]
        c["c"].heal()
        await again.sites.wait_until(lambda health: health["c"].up)
        await again.close()


async def test_a_refusal_counts_the_site_that_took_it_though_others_failed_before() -> None:
    async with cluster(grace_s=30) as c:
        c["c"].fail(Fault.HANG, "put")
        for name in ("a", "b"):
            c[name].fail(Fault.BEFORE, "put")
        write = asyncio.create_task(c.grid.store(arrival(), PARTS))
        await c["c"].objects.hanging.wait()
        c["c"].heal()
        with pytest.raises(NotEnoughSites) as refused:
            await write
        assert refused.value.answered == 1
        assert set(refused.value.reasons) == {"a", "b"}


async def test_a_refusal_tells_of_the_sites_that_were_not_even_tried() -> None:
    async with cluster() as c:
        c["a"].fail(Fault.BEFORE)
        await c.grid.sites.wait_until(lambda health: not health["a"].up)
        c["b"].fail(Fault.OBJECT, "put")
        with pytest.raises(NotEnoughSites) as refused:
            await c.grid.store(arrival(), PARTS)
        assert (refused.value.answered, set(refused.value.reasons)) == (1, {"a", "b"})


async def test_an_object_fault_is_no_fault_of_the_site() -> None:
    async with cluster() as c:
        c["b"].fail(Fault.OBJECT, "put")
        stored = await c.grid.store(arrival(), PARTS)
        assert stored.owed == ("b",)
        assert c.grid.health()["b"].up


async def test_a_site_that_is_full_is_owed_and_not_written_to_any_more() -> None:
    async with cluster() as c:
        c["b"].fail(Fault.FULL, "put")
        stored = await c.grid.store(arrival(1), PARTS)
        assert stored.owed == ("b",)
        await c.check_acknowledged(stored.version.digest)
        assert c.grid.health()["b"].state is SiteState.FULL
        puts = len([call for call in c["b"].objects.calls if call.method == "put"])
        stored = await c.grid.store(arrival(2), [b"another"])
        assert stored.owed == ("b",)
        assert len([call for call in c["b"].objects.calls if call.method == "put"]) == puts


async def test_when_two_sites_are_full_the_refusal_names_them_and_says_why() -> None:
    async with cluster() as c:
        for name in ("a", "b"):
            c[name].fail(Fault.FULL, "put")
        for _ in range(2):  # the second time nobody is asked
            with pytest.raises(NotEnoughSites) as refused:
                await c.grid.store(arrival(), PARTS)
            assert set(refused.value.reasons) == {"a", "b"}
            assert all("full" in reason for reason in refused.value.reasons.values())


async def test_a_site_that_was_replaced_in_the_middle_of_a_write_is_no_copy() -> None:
    """The object went to the site that was; its row must not go to the one that took its place."""
    async with cluster(grace_s=60) as c:
        c["a"].fail(Fault.HANG, "put")
        writing = asyncio.create_task(c.grid.store(arrival(), PARTS))
        while not c["c"].object_digests():  # noqa: ASYNC110  # it is there, and tells nobody
            await asyncio.sleep(0)
        await c.replace("c")
        c["a"].heal()
        stored = await writing
        assert stored.owed == ("c",)
        await c.check_acknowledged(stored.version.digest)
        assert not await c["c"].rows()


async def test_the_newest_version_is_so_where_one_that_votes_and_took_no_row_knows_the_others() -> None:
    """Two versions at a and c; c has lost its disk, and a takes no third: that one goes to b and c."""
    async with cluster() as c:
        c["b"].fail(Fault.BEFORE)
        await c.grid.sites.probe()
        for old in ([b"meta", b"one"], [b"meta", b"two"]):
            await c.grid.store(arrival(), old)
        c["b"].heal()
        await c.replace("c")
        c["a"].fail(Fault.BEFORE, "put")
        newest = await c.grid.store(arrival(), PARTS)
        assert newest.order == 3
        await c.heal()
        await c.repair()
        current, *_ = await c.grid.rows_of(arrival().instance)
        assert current.version.digest == newest.version.digest
        await c.check_everywhere(newest.version.digest)


async def test_orders_that_differ_are_made_the_same(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        c["c"].fail(Fault.BEFORE)
        await c.grid.sites.probe()
        for content in (b"first", b"second", b"third"):
            await c.grid.store(arrival(), [content])
        c["c"].heal()
        await c.grid.sites.probe()
        stored = await c.grid.store(arrival(), [b"fourth"])
        assert stored.copies == NAMES
        await c.check_everywhere(stored.version.digest)
        await c.repair()
        orders = [await site.rows() for site in c.sites.values()]
        assert orders[0] == orders[1] == orders[2]
        current, *_ = await c.grid.rows_of(arrival().instance)
        assert current.version == stored.version


async def test_the_same_instance_twice_is_the_same_version(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        stored = await asyncio.gather(*(c.grid.store(arrival(), PARTS) for _ in range(5)))
        assert len({one.version for one in stored}) == 1
        await c.grid.tasks.drain()
        await c.check_everywhere(stored[0].version.digest)
        assert len(await c.grid.rows_of(arrival().instance)) == 1


async def test_a_write_that_is_cancelled_anywhere_goes_on_to_its_end() -> None:
    """Cancelled after 0, 1, 2, … turns of the loop, up to a turn in which it is done."""
    for turns in range(200):
        async with cluster() as c:
            write = asyncio.create_task(c.grid.store(arrival(), PARTS))
            for _ in range(turns):
                await asyncio.sleep(0)
            if write.done():
                assert turns > 5
                return
            write.cancel()
            with pytest.raises(asyncio.CancelledError):
                await write
            await c.grid.tasks.drain()
            digests = {digest for site in c.sites.values() for digest in await site.rows()}
            for digest in digests:
                await c.check_everywhere(digest)
            assert len(digests) == 1 or turns < 3
    raise AssertionError("it never ended")


async def test_close_waits_for_stragglers() -> None:
    async with cluster(grace_s=0.05) as c:
        c["c"].fail(Fault.HANG, "put")
        stored = await c.grid.store(arrival(), PARTS)
        closing = asyncio.create_task(c.grid.close())
        await asyncio.sleep(0)
        c["c"].heal()
        await closing
        await c.check_everywhere(stored.version.digest)


async def test_folders_that_are_moved_away_while_we_write_cost_no_acknowledged_instance(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path, grace_s=1.0) as c:
        digests: list[str] = []

        async def write(first: int) -> None:
            for number in range(first, first + 10):
                stored = await c.grid.store(arrival(number), [b"%d" % number])
                digests.append(stored.version.digest)
                if len(digests) == 6:
                    (tmp_path / "b").rename(tmp_path / "b-away")

        await asyncio.gather(*(write(first) for first in (0, 100, 200)))
        assert not (tmp_path / "b").exists()
        (tmp_path / "b-away").rename(tmp_path / "b")
        await c.grid.sites.wait_until(lambda health: health["b"].up)
        for digest in digests:
            await c.check_acknowledged(digest)
        await c.grid.tasks.drain()
        report = await c.repair()
        assert report.open == 0
        for digest in digests:
            await c.check_everywhere(digest)


async def test_a_fault_of_our_own_is_a_failed_site_and_no_endless_wait() -> None:
    def script(call: Call) -> Fault | None:
        if call.method == "put":
            raise ZeroDivisionError
        return None

    async with cluster() as c:
        c["a"].objects.script = script
        stored = await c.grid.store(arrival(), PARTS)
        assert stored.owed == ("a",)
        await c.check_acknowledged(stored.version.digest)


async def test_a_fault_of_our_own_in_a_probe_is_not_the_last_of_all_probes() -> None:
    def script(call: Call) -> Fault | None:
        if call.method == "identity":
            raise ZeroDivisionError
        return None

    async with cluster() as c:
        c["a"].fail(Fault.BEFORE)
        await c.grid.sites.wait_until(lambda health: not health["a"].up)
        probes = len(c["a"].objects.calls)
        c["a"].objects.script = script
        while len(c["a"].objects.calls) < probes + 3:  # noqa: ASYNC110  # it is called, and tells nobody
            await asyncio.sleep(0.01)
        c["a"].heal()
        await c.grid.sites.wait_until(lambda health: health["a"].up)


async def test_halves_of_different_sites_are_no_site(tmp_path: Path) -> None:
    async with cluster() as c:
        memory = c["b"].objects.objects
        assert isinstance(memory, MemoryObjects)
        memory.expected = SiteIdentity("b", "another", 1)
        await c.grid.sites.wait_until(lambda health: not health["b"].up)
        assert "different sites" in c.grid.health()["b"].why


async def test_two_sites_whose_writes_failed_at_different_times_are_tried_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the third one down a write needs both: who finds a single one to try does not use up its turn."""
    monkeypatch.setattr(health, "WRITE_TRIAL_INTERVAL_S", 0.2)
    async with cluster() as c:
        c["a"].fail(Fault.BEFORE)
        await c.grid.sites.probe()
        for name in ("b", "c"):
            c[name].fail(Fault.FULL, "put")
            site = c.grid.sites[name]
            with pytest.raises(SiteFailed):
                await c.grid.sites.ask(site, site.objects.put("key", [b""], digest="", metadata={}))
            c[name].heal()
            await asyncio.sleep(0.1)
        async with asyncio.timeout(2):
            while True:
                try:
                    stored = await c.grid.store(arrival(), PARTS)
                except NotEnoughSites:
                    await asyncio.sleep(0.02)
                else:
                    break
        assert stored.copies == ("b", "c")
