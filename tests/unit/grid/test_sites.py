"""How sites are asked: limits, turns, what a hang costs, and which of them are worth asking."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from cluster.nouns import Membership, SiteIdentity
from cluster.settings import Writing
from storage_node.catalogue.memory import MemoryCatalogue
from storage_node.grid.health import WRITE_FAULTS_LIMIT
from storage_node.grid.sites import GridSite, SiteFailed, Sites, SiteState
from storage_node.site.failing import FailingObjects, Fault
from storage_node.site.memory import MemoryObjects
from storage_node.site.protocol import ObjectFault, ObjectMissing
from tests.waiting import soon

LONG_S = 60.0
"""So long that a test which waits for it has failed."""
QUICK: Mapping[str, Any] = {
    "site_timeout_s": LONG_S,
    "probe_interval_s": LONG_S,
    "probe_timeout_s": 0.05,
    "free_space_low_bytes": 1000,
}


def identity(name: str, generation: int = 1) -> SiteIdentity:
    return SiteIdentity(name, f"id-{name}-{generation}", generation)


def open_site(name: str, generation: int = 1, *, filling: bool = False) -> tuple[GridSite, FailingObjects]:
    this = identity(name, generation)
    objects = FailingObjects(MemoryObjects(name, this))
    return GridSite(name, objects, MemoryCatalogue(name, this), Membership(this, filling)), objects


@dataclass
class Roster:
    """A record that tests write into."""

    known: dict[str, Membership]
    opened: list[FailingObjects] = field(default_factory=list)

    def memberships(self) -> Mapping[str, Membership]:
        return self.known

    def open(self, membership: Membership) -> GridSite:
        this = membership.identity
        site, objects = open_site(this.name, this.generation, filling=membership.filling)
        self.opened.append(objects)
        return site

    async def filled(self, identity: SiteIdentity) -> None:
        raise NotImplementedError


@dataclass
class World:
    sites: Sites
    objects: dict[str, FailingObjects]
    roster: Roster

    def states(self) -> list[SiteState]:
        return [health.state for health in self.sites.health().values()]

    async def get(self, name: str, key: str = "key", **how: Any) -> bytes:
        site = self.sites[name]
        return await self.sites.ask(site, site.objects.get(key), **how)

    async def put(self, name: str, key: str = "key", **how: Any) -> None:
        site = self.sites[name]
        putting = site.objects.put(key, [b"bytes"], digest="", metadata={})
        await self.sites.ask(site, putting, writes=key, **how)

    def memory(self, name: str) -> MemoryObjects:
        memory = self.objects[name].objects
        assert isinstance(memory, MemoryObjects)
        return memory


@asynccontextmanager
async def world(*, watched: bool = False, **settings: Any) -> AsyncIterator[World]:
    opened = {name: open_site(name) for name in ("a", "b", "c")}
    roster = Roster({name: site.membership for name, (site, _) in opened.items()})
    sites = Sites(
        [site for site, _ in opened.values()],
        Writing.model_validate({**QUICK, **settings}),
        roster=roster,
    )
    await sites.probe()
    watch = asyncio.create_task(sites.watch()) if watched else None
    try:
        yield World(sites, {name: objects for name, (_, objects) in opened.items()}, roster)
    finally:
        if watch is not None:
            watch.cancel()
            await asyncio.wait({watch})
        await sites.close()


def fail(objects: FailingObjects, fault: Fault, *methods: str) -> None:
    objects.script = lambda call: fault if not methods or call.method in methods else None


async def outcomes(calls: list[asyncio.Task[Any]]) -> list[Any]:
    async with soon("the calls have ended", seen=lambda: calls):
        return await asyncio.gather(*calls, return_exceptions=True)


async def test_a_hung_site_with_fifty_calls_in_flight_costs_them_one_probe() -> None:
    async with world(probe_interval_s=0.02, watched=True) as w:
        fail(w.objects["b"], Fault.HANG)
        began_s = asyncio.get_running_loop().time()
        found = await outcomes([asyncio.create_task(w.get("b")) for _ in range(50)])
        assert asyncio.get_running_loop().time() - began_s < LONG_S / 2
        assert all(isinstance(error, SiteFailed) for error in found)
        assert {error.reason for error in found} == {"no answer to a probe within 0.05 s"}
        assert [site.name for site in w.sites.up()] == ["a", "c"]


async def test_the_first_call_that_times_out_ends_all_others() -> None:
    async with world() as w:
        fail(w.objects["b"], Fault.HANG, "get")
        calls = [asyncio.create_task(w.get("b")) for _ in range(49)]
        await w.objects["b"].hanging.wait()
        calls.append(asyncio.create_task(w.get("b", timeout_s=0.05)))
        found = await outcomes(calls)
        assert {str(error) for error in found} == {"site b: no answer within 0.05 s"}


async def test_calls_that_wait_for_their_turn_at_a_site_that_hangs_fail_with_the_others() -> None:
    async with world(site_requests=2) as w:
        fail(w.objects["b"], Fault.HANG, "get")
        calls = [asyncio.create_task(w.get("b")) for _ in range(20)]
        await w.objects["b"].hanging.wait()
        fail(w.objects["b"], Fault.HANG)
        await w.sites.probe()
        found = await outcomes(calls)
        assert all(isinstance(error, SiteFailed) for error in found)
        assert sum(call.method == "get" for call in w.objects["b"].calls) == 2


async def test_a_site_that_is_down_is_not_asked_unless_its_caller_wants_it_so() -> None:
    async with world() as w:
        w.memory("b").keep("key", b"bytes", {})
        fail(w.objects["b"], Fault.BEFORE, "identity")
        await w.sites.probe()
        with pytest.raises(SiteFailed, match="identity fails on purpose"):
            await w.get("b")
        assert not any(call.method == "get" for call in w.objects["b"].calls)
        assert await w.get("b", even_down=True) == b"bytes"


async def test_a_call_at_a_site_that_is_down_is_not_ended_by_its_next_probes() -> None:
    async with world() as w:
        w.memory("b").keep("key", b"bytes", {})
        fail(w.objects["b"], Fault.BEFORE, "identity")
        await w.sites.probe()
        w.objects["b"].script = lambda call: Fault.HANG if call.method == "get" else Fault.BEFORE
        call = asyncio.create_task(w.get("b", even_down=True))
        await w.objects["b"].hanging.wait()
        await w.sites.probe()
        w.objects["b"].release()
        assert await outcomes([call]) == [b"bytes"]


async def test_a_call_that_is_quick_to_fail_leaves_the_others_alone_until_a_probe_fails() -> None:
    async with world() as w:
        w.memory("b").keep("key", b"bytes", {})
        fail(w.objects["b"], Fault.HANG, "get")
        call = asyncio.create_task(w.get("b"))
        await w.objects["b"].hanging.wait()
        fail(w.objects["b"], Fault.BEFORE, "put")
        with pytest.raises(SiteFailed):
            await w.put("b")
        assert w.states() == [SiteState.UP, SiteState.DOWN, SiteState.UP]
        w.objects["b"].release()
        assert await outcomes([call]) == [b"bytes"]


async def test_after_a_failed_call_a_site_is_probed_at_once() -> None:
    async with world(watched=True) as w:
        fail(w.objects["b"], Fault.BEFORE, "put")
        with pytest.raises(SiteFailed):
            await w.put("b")
        async with soon("the sites are so", seen=w.sites.health):
            await w.sites.wait_until(lambda health: health["b"].up)


async def test_a_site_that_takes_its_probes_time_is_down_and_back_with_the_next_good_probe() -> None:
    async with world() as w:
        fail(w.objects["b"], Fault.HANG, "identity")
        await w.sites.probe()
        assert w.sites.health()["b"].why == "no answer to a probe within 0.05 s"
        w.objects["b"].release()
        await w.sites.probe()
        assert w.states() == [SiteState.UP] * 3


async def test_a_site_that_answers_others_while_a_probe_waits_is_busy_and_not_down() -> None:
    async with world() as w:
        w.memory("b").keep("key", b"bytes", {})
        fail(w.objects["b"], Fault.HANG, "identity")
        probe = asyncio.create_task(w.sites.probe())
        await w.objects["b"].hanging.wait()
        await w.get("b")
        await outcomes([probe])
        assert w.states() == [SiteState.UP] * 3
        assert [site.name for site in w.sites.by_health()] == ["a", "c", "b"]
        await w.sites.probe()
        assert w.states() == [SiteState.UP, SiteState.DOWN, SiteState.UP]


async def test_a_process_that_stood_still_does_not_blame_the_sites() -> None:
    async with world() as w:
        fail(w.objects["b"], Fault.HANG, "get", "identity")
        calls = [asyncio.create_task(w.get("b", timeout_s=0.05)), asyncio.create_task(w.sites.probe())]
        for _ in range(5):
            await asyncio.sleep(0)
        time.sleep(0.4)  # noqa: ASYNC251  # that is how a process stands still
        (failure, _) = await outcomes(calls)
        assert isinstance(failure, SiteFailed)
        assert w.states() == [SiteState.UP] * 3


async def test_a_missing_object_and_a_fault_of_one_say_nothing_of_the_site() -> None:
    async with world() as w:
        with pytest.raises(ObjectMissing):
            await w.get("b")
        fail(w.objects["b"], Fault.OBJECT, "get", "put")
        with pytest.raises(ObjectFault):
            await w.get("b")
        for _ in range(10):
            with pytest.raises(ObjectFault):
                await w.put("b", "wedged")
        assert w.states() == [SiteState.UP] * 3
        assert len(w.sites.writable()) == 3


async def test_several_objects_that_cannot_be_written_make_a_site_read_only() -> None:
    async with world() as w:
        w.memory("b").keep("key", b"bytes", {})
        fail(w.objects["b"], Fault.OBJECT, "put")
        for number in range(WRITE_FAULTS_LIMIT):
            with pytest.raises(ObjectFault):
                await w.put("b", f"key-{number}")
        assert w.states() == [SiteState.UP, SiteState.READ_ONLY, SiteState.UP]
        assert [site.name for site in w.sites.writable()] == ["a", "c"]
        assert len(w.sites.voters()) == 3
        assert await w.get("b") == b"bytes"
        fail(w.objects["b"], Fault.BEFORE, "nothing")
        await w.put("b", "tried")
        assert [site.name for site in w.sites.writable()] == ["a", "b", "c"]


async def test_a_site_that_has_no_room_for_a_write_is_full_and_stays_up() -> None:
    async with world() as w:
        fail(w.objects["b"], Fault.FULL, "put")
        with pytest.raises(SiteFailed, match="full on purpose"):
            await w.put("b")
        health = w.sites.health()["b"]
        assert (health.state, health.why, health.up) == (SiteState.FULL, "it is full on purpose", True)
        assert [site.name for site in w.sites.writable()] == ["a", "c"]


async def test_a_probe_finds_a_site_full_before_a_write_does() -> None:
    async with world() as w:
        w.memory("b").capacity_bytes = 999
        await w.sites.probe()
        assert w.states() == [SiteState.UP, SiteState.FULL, SiteState.UP]


async def test_a_site_that_does_not_say_how_much_room_it_has_is_no_worse_for_it() -> None:
    async with world() as w:
        w.memory("b").capacity_bytes = 999
        w.memory("c").capacity_bytes = 999
        fail(w.objects["a"], Fault.BEFORE, "free_bytes")
        fail(w.objects["b"], Fault.HANG, "free_bytes")
        await w.sites.probe()
        assert w.states() == [SiteState.UP, SiteState.UP, SiteState.FULL]


async def test_halves_of_different_sites_are_no_site() -> None:
    async with world() as w:
        w.memory("b").expected = identity("b", 2)
        await w.sites.probe()
        assert w.sites.health()["b"].why == "its objects and its catalogue are of different sites"


async def test_only_so_many_calls_are_under_way_at_once() -> None:
    async with world(site_requests=3) as w:
        w.memory("b").keep("key", b"bytes", {})
        fail(w.objects["b"], Fault.HANG, "get")
        calls = [asyncio.create_task(w.get("b")) for _ in range(10)]
        for _ in range(20):
            await asyncio.sleep(0)
        assert sum(call.method == "get" for call in w.objects["b"].calls) == 3
        w.objects["b"].release()
        assert await outcomes(calls) == [b"bytes"] * 10


async def test_who_waits_in_vain_for_a_turn_does_not_blame_the_site() -> None:
    async with world(site_requests=1) as w:
        fail(w.objects["b"], Fault.HANG, "get")
        call = asyncio.create_task(w.get("b"))
        await w.objects["b"].hanging.wait()
        with pytest.raises(SiteFailed, match="1 calls are under way"):
            await w.get("b", timeout_s=0.02)
        assert w.states() == [SiteState.UP] * 3
        call.cancel()
        await asyncio.wait({call})


async def test_a_site_that_does_not_keep_up_is_passed_over_until_what_it_holds_has_ended() -> None:
    async with world(site_held_bytes=100) as w:
        fail(w.objects["b"], Fault.HANG, "put")
        call = asyncio.create_task(w.put("b", size_bytes=100))
        await w.objects["b"].hanging.wait()
        assert [site.name for site in w.sites.writable()] == ["a", "c"]
        assert [site.name for site in w.sites.writable(at_least=2)] == ["a", "c"]
        assert [site.name for site in w.sites.writable(at_least=3)] == ["a", "b", "c"]
        call.cancel()
        await asyncio.wait({call})
        assert len(w.sites.writable()) == 3


async def test_a_call_that_fails_gives_back_what_it_held() -> None:
    async with world(site_held_bytes=100) as w:
        fail(w.objects["b"], Fault.HANG, "put")
        with pytest.raises(SiteFailed):
            await w.put("b", size_bytes=100, timeout_s=0.01)
        assert w.sites._stations["b"].bounds.keeps_up


async def test_sites_are_read_from_in_the_order_of_their_health() -> None:
    async with world() as w:
        w.sites.was_slow(w.sites["a"])
        assert [site.name for site in w.sites.by_health()] == ["b", "c", "a"]
        fail(w.objects["b"], Fault.BEFORE)
        await w.sites.probe()
        assert [site.name for site in w.sites.by_health()] == ["a", "c", "b"]


async def test_a_site_that_begins_to_be_filled_loses_its_vote_and_gets_it_back() -> None:
    async with world(probe_interval_s=0.01, watched=True) as w:
        before = w.sites["b"]
        w.roster.known["b"] = Membership(identity("b"), filling=True)
        async with soon("the sites are so", seen=w.sites.health):
            await w.sites.wait_until(lambda health: health["b"].state is SiteState.FILLING)
        assert [site.name for site in w.sites.voters()] == ["a", "c"]
        assert [site.name for site in w.sites.by_health()] == ["a", "c", "b"]
        assert len(w.sites.writable()) == 3
        assert w.sites["b"].membership.filling
        with pytest.raises(ObjectMissing):
            await w.sites.ask(before, before.objects.get("key"))
        w.roster.known["b"] = Membership(identity("b"))
        async with soon("the sites are so", seen=w.sites.health):
            await w.sites.wait_until(lambda health: health["b"].votes)


async def test_another_generation_is_opened_and_the_one_before_let_go() -> None:
    async with world(probe_interval_s=0.01, watched=True) as w:
        before = w.sites["b"]
        fail(w.objects["b"], Fault.HANG, "get")
        call = asyncio.create_task(w.get("b"))
        await w.objects["b"].hanging.wait()
        w.roster.known["b"] = Membership(identity("b", 2), filling=True)
        async with soon("the sites are so", seen=w.sites.health):
            await w.sites.wait_until(lambda health: health["b"].state is SiteState.FILLING)
        (found,) = await outcomes([call])
        assert found.reason == "another has taken its place"
        assert w.sites["b"].objects is w.roster.opened[0]
        with pytest.raises(SiteFailed, match="another has taken its place"):
            await w.sites.ask(before, before.objects.get("key"))
        await w.sites._retired.drain()
        assert w.memory("b")._closed


async def test_a_record_that_cannot_be_read_does_not_end_the_probes() -> None:
    async with world(probe_interval_s=0.01, watched=True) as w:
        known, w.roster.known = w.roster.known, {"b": None}  # type: ignore[dict-item]  # a broken record
        fail(w.objects["b"], Fault.BEFORE, "get")
        with pytest.raises(SiteFailed):
            await w.get("b")
        await asyncio.sleep(0.05)
        w.roster.known = known
        async with soon("the sites are so", seen=w.sites.health):
            await w.sites.wait_until(lambda health: health["b"].up)
