"""A planned change of leader: what comes late, and what happens while a step is under way."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from balancer.address.absent import NoAddress, NoDetour
from balancer.leadership.former_flows import FormerFlows
from balancer.leadership.interfaces import Outside, Peers
from balancer.leadership.known import Known
from balancer.leadership.parts import Parts
from balancer.leadership.remembered import FileNotebook
from balancer.leadership.seat import Seat
from balancer.leadership.stance import Role, Stance
from balancer.leadership.taking import Taking
from balancer.leadership.tenure import ELECTION, Tenure
from balancer.leadership.view import View
from cluster.coordination.leased_registry import LeasedRegistry
from cluster.coordination.memory import MemoryCoordination
from cluster.coordination.protocol import ABSENT, Entry, Snapshot
from cluster.coordination.registry import Address

LEASE_S = 3.0
LISTED = Known({"lb1": Address("127.0.0.1", 1), "lb2": Address("127.0.0.2", 1)}, 10)
TERM = 20
PREPARE = {"known": LISTED.to_json(), "lease_s": LEASE_S, "token": TERM}


class Former:
    """A former leader that tells how many flows it has when it is let."""

    def __init__(self) -> None:
        self.asked, self.answers = asyncio.Event(), asyncio.Event()
        self.flows = 0

    async def call(
        self, name: str, at: Address, what: str, body: Mapping[str, Any], timeout_s: float
    ) -> Mapping[str, Any]:
        self.asked.set()
        await self.answers.wait()
        return {"flows": self.flows}


class Taker:
    """`lb1`, which is ready to stand by."""

    def __init__(self, store: MemoryCoordination, peers: Peers | None = None) -> None:
        now = asyncio.get_running_loop().time
        self.stance = Stance("lb1", lease_s=LEASE_S, now=now() - 100, kept_s=LEASE_S)
        self.stance.learn(LISTED)
        self.stance.settle(now())
        self.tenure = Tenure(store, "lb1", LEASE_S)
        self.store = asyncio.Lock()
        address = NoAddress()
        parts = Parts(
            name="lb1",
            outside=Outside(
                store,
                LeasedRegistry(store, LEASE_S),
                FileNotebook(Path(os.devnull)),
                address,
                NoDetour(),
                peers,
                tuple,
            ),
            lease_s=LEASE_S,
            now=now,
            stance=self.stance,
            tenure=self.tenure,
            seat=Seat(self.stance, address, now),
            view=View(away_since=None),
            store=self.store,
        )
        self.former = FormerFlows(parts)
        self.taking = Taking(parts, self.former)


async def test_a_vacancy_from_before_the_givers_term_does_not_end_the_preparation() -> None:
    taker = Taker(MemoryCoordination())
    assert "lease" in await taker.taking.prepare("lb2", PREPARE)
    for seen in (None, Snapshot(TERM - 1, {}), Snapshot(TERM, {ELECTION: Entry(b"lb2", TERM, 1)})):
        await taker.taking.wait(seen)
        assert taker.stance.role is Role.PREPARED
    await taker.taking.wait(Snapshot(TERM + 1, {}))
    assert taker.stance.role is Role.STANDBY


async def test_who_sees_the_term_in_its_own_name_does_not_take_the_address_before_a_lease_is_over() -> None:
    """Its giver may not know yet that it has given, and have it for as long."""
    taker = Taker(MemoryCoordination())
    await taker.taking.prepare("lb2", PREPARE)
    assert taker.tenure.lease is not None
    given = Snapshot(TERM + 1, {ELECTION: Entry(b"lb1", TERM + 1, taker.tenure.lease.id)})
    for _ in range(2):
        await taker.taking.wait(given)
        assert taker.stance.role is Role.PREPARED


async def test_a_term_that_was_given_lasts_although_the_preparation_was_abandoned() -> None:
    """Its giver may hold the address, and not know yet that it has given."""
    store = MemoryCoordination()
    giver = Tenure(store, "lb2", LEASE_S)
    assert await giver.win() is not None
    taker = Taker(store)
    await taker.taking.prepare("lb2", {**PREPARE, "token": ABSENT})
    assert taker.tenure.lease is not None
    await giver.give("lb1", taker.tenure.lease)
    await taker.taking.abandon("lb2", {})
    assert taker.stance.role is Role.STANDBY
    assert await taker.tenure.win() is None


async def test_a_preparation_lasts_while_its_lease_waits_for_what_is_under_way() -> None:
    taker = Taker(MemoryCoordination())
    async with taker.store:
        preparing = asyncio.create_task(taker.taking.prepare("lb2", PREPARE))
        await asyncio.sleep(0)
        await taker.taking.wait(None)
    assert "lease" in await preparing
    assert taker.stance.role is Role.PREPARED


async def test_a_preparation_that_was_abandoned_meanwhile_offers_no_lease() -> None:
    """The lease would be ended, and a term that hangs on it while its giver still has the address."""
    taker = Taker(MemoryCoordination())
    async with taker.store:
        preparing = asyncio.create_task(taker.taking.prepare("lb2", PREPARE))
        await asyncio.sleep(0)
        await taker.taking.abandon("lb2", {})
    assert "lease" not in await preparing
    assert taker.former.detour_to is None


async def test_a_word_to_take_from_a_former_hand_over_takes_nothing() -> None:
    """The giver of then may be the one of now, and have the address."""
    taker = Taker(MemoryCoordination())
    await taker.taking.prepare("lb2", PREPARE)
    assert await taker.taking.take("lb2", {"token": TERM - 1}) == {"taken": False}
    assert taker.stance.role is Role.PREPARED
    assert await taker.taking.take("lb2", {"token": TERM + 1}) == {"taken": True}


async def test_that_no_flow_was_left_before_a_detour_began_does_not_end_it() -> None:
    former = Former()
    taker = Taker(MemoryCoordination(), former)
    await taker.taking.prepare("lb2", PREPARE)
    await taker.taking.take("lb2", {"token": TERM + 1})
    watching = asyncio.create_task(taker.former.watch())
    await former.asked.wait()
    taker.stance.let_go()
    await taker.taking.prepare("lb2", {**PREPARE, "token": TERM + 2})
    former.answers.set()
    former.asked.clear()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert taker.former.detour_to == "lb2"
    watching.cancel()
    await asyncio.wait([watching])


async def test_flows_of_a_former_leader_are_waited_for_or_given_back() -> None:
    """Who leads next sends what did not begin there to this balancer, which sends it no further then."""
    former = Former()
    former.answers.set()
    taker = Taker(MemoryCoordination(), former)
    await taker.taking.prepare("lb2", PREPARE)
    await taker.taking.take("lb2", {"token": TERM + 1})
    former.flows = 3
    assert "associations of lb2 still run" in (await taker.former.reason_to_wait("lb3") or "")
    assert await taker.former.reason_to_wait("lb2") is None
    former.flows = 0
    assert await taker.former.reason_to_wait("lb3") is None
