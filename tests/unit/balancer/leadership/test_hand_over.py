"""A planned change of leader: what comes late, and what happens while a step is under way."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

from balancer.address.absent import NoAddress
from balancer.leadership.hand_over import HandOver
from balancer.leadership.interfaces import Peers
from balancer.leadership.known import Known
from balancer.leadership.seat import Seat
from balancer.leadership.stance import Role, Stance
from balancer.leadership.tenure import ELECTION, Tenure
from cluster.coordination.memory import MemoryCoordination
from cluster.coordination.protocol import ABSENT, Entry, Snapshot
from cluster.coordination.registry import Address
from cluster.proxy_protocol import Endpoint, IPAddress

LEASE_S = 3.0
LISTED = Known({"lb1": Address("127.0.0.1", 1), "lb2": Address("127.0.0.2", 1)}, 10)
TERM = 20
PREPARE = {"known": LISTED.to_json(), "lease_s": LEASE_S, "token": TERM}


class Way:
    """A detour that remembers where it leads."""

    def __init__(self) -> None:
        self.towards: IPAddress | None = None

    async def begin(self, towards: IPAddress, own: Collection[Endpoint]) -> None:
        self.towards = towards

    async def end(self) -> None:
        self.towards = None


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


def a_taker(
    store: MemoryCoordination, lock: asyncio.Lock | None = None, peers: Peers | None = None
) -> tuple[Stance, Tenure, HandOver]:
    """Return `lb1`, which is ready to stand by, and its parts."""
    now = asyncio.get_running_loop().time
    stance = Stance("lb1", lease_s=LEASE_S, now=now() - 100, kept_s=LEASE_S)
    stance.learn(LISTED)
    stance.settle(now())
    tenure = Tenure(store, "lb1", LEASE_S)
    taker = HandOver(
        stance,
        tenure,
        Seat(stance, NoAddress(), now),
        peers=peers,
        detour=Way(),
        flows=tuple,
        now=now,
        store=lock or asyncio.Lock(),
        lease_s=LEASE_S,
    )
    return stance, tenure, taker


async def test_a_vacancy_from_before_the_givers_term_does_not_end_the_preparation() -> None:
    stance, _, taker = a_taker(MemoryCoordination())
    assert "lease" in await taker.prepare("lb2", PREPARE)
    for seen in (None, Snapshot(TERM - 1, {}), Snapshot(TERM, {ELECTION: Entry(b"lb2", TERM, 1)})):
        await taker.wait(seen)
        assert stance.role is Role.PREPARED
    await taker.wait(Snapshot(TERM + 1, {}))
    assert stance.role is Role.STANDBY


async def test_a_term_that_was_given_lasts_although_the_preparation_was_abandoned() -> None:
    """Its giver may hold the address, and not know yet that it has given."""
    store = MemoryCoordination()
    giver = Tenure(store, "lb2", LEASE_S)
    assert await giver.win() is not None
    stance, tenure, taker = a_taker(store)
    await taker.prepare("lb2", {**PREPARE, "token": ABSENT})
    assert tenure.lease is not None
    await giver.give("lb1", tenure.lease)
    await taker.abandon("lb2", {})
    assert stance.role is Role.STANDBY
    assert await tenure.win() is None


async def test_a_preparation_lasts_while_its_lease_waits_for_what_is_under_way() -> None:
    lock = asyncio.Lock()
    stance, _, taker = a_taker(MemoryCoordination(), lock)
    async with lock:
        preparing = asyncio.create_task(taker.prepare("lb2", PREPARE))
        await asyncio.sleep(0)
        await taker.wait(None)
    assert "lease" in await preparing
    assert stance.role is Role.PREPARED


async def test_a_preparation_that_was_abandoned_meanwhile_offers_no_lease() -> None:
    """The lease would be ended, and a term that hangs on it while its giver still has the address."""
    lock = asyncio.Lock()
    _, _, taker = a_taker(MemoryCoordination(), lock)
    async with lock:
        preparing = asyncio.create_task(taker.prepare("lb2", PREPARE))
        await asyncio.sleep(0)
        await taker.abandon("lb2", {})
    assert "lease" not in await preparing
    assert taker.detour_to is None


async def test_a_word_to_take_from_a_former_hand_over_takes_nothing() -> None:
    """The giver of then may be the one of now, and have the address."""
    stance, _, taker = a_taker(MemoryCoordination())
    await taker.prepare("lb2", PREPARE)
    assert await taker.take("lb2", {"token": TERM - 1}) == {"taken": False}
    assert stance.role is Role.PREPARED
    assert await taker.take("lb2", {"token": TERM + 1}) == {"taken": True}


async def test_that_no_flow_was_left_before_a_detour_began_does_not_end_it() -> None:
    former = Former()
    stance, _, taker = a_taker(MemoryCoordination(), peers=former)
    await taker.prepare("lb2", PREPARE)
    await taker.take("lb2", {"token": TERM + 1})
    watching = asyncio.create_task(taker.watch_flows())
    await former.asked.wait()
    stance.let_go()
    await taker.prepare("lb2", {**PREPARE, "token": TERM + 2})
    former.answers.set()
    former.asked.clear()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert taker.detour_to == "lb2"
    watching.cancel()
    await asyncio.wait([watching])


async def test_flows_of_a_former_leader_are_waited_for_or_given_back() -> None:
    """Who leads next sends what did not begin there to this balancer, which sends it no further then."""
    former = Former()
    former.answers.set()
    _, _, taker = a_taker(MemoryCoordination(), peers=former)
    await taker.prepare("lb2", PREPARE)
    await taker.take("lb2", {"token": TERM + 1})
    former.flows = 3
    assert "associations of lb2 still run" in (await taker.reason_to_wait("lb3") or "")
    assert await taker.reason_to_wait("lb2") is None
    former.flows = 0
    assert await taker.reason_to_wait("lb3") is None
