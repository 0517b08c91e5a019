"""Who is prepared for a term goes by what the store said after that term began."""

from __future__ import annotations

import asyncio

from balancer.address.absent import NoAddress, NoDetour
from balancer.leadership.hand_over import HandOver
from balancer.leadership.known import Known
from balancer.leadership.seat import Seat
from balancer.leadership.stance import Role, Stance
from balancer.leadership.tenure import ELECTION, Tenure
from cluster.coordination.memory import MemoryCoordination
from cluster.coordination.protocol import ABSENT, Entry, Snapshot
from cluster.coordination.registry import Address

LEASE_S = 3.0
LISTED = Known({"lb1": Address("127.0.0.1", 1), "lb2": Address("127.0.0.2", 1)}, 10)
TERM = 20


def a_taker(store: MemoryCoordination) -> tuple[Stance, Tenure, HandOver]:
    """Return `lb1`, which is ready to stand by, and its parts."""
    now = asyncio.get_running_loop().time
    stance = Stance("lb1", lease_s=LEASE_S, now=now() - 100, grace_s=LEASE_S)
    stance.learn(LISTED)
    stance.settle(now())
    tenure = Tenure(store, "lb1", LEASE_S)
    taker = HandOver(
        stance,
        tenure,
        Seat(stance, NoAddress(), now),
        peers=None,
        detour=NoDetour(),
        flows=tuple,
        now=now,
        store=asyncio.Lock(),
        lease_s=LEASE_S,
    )
    return stance, tenure, taker


async def test_a_vacancy_from_before_the_givers_term_does_not_end_the_preparation() -> None:
    stance, _, taker = a_taker(MemoryCoordination())
    answer = await taker.prepare("lb2", {"known": LISTED.to_json(), "lease_s": LEASE_S, "token": TERM})
    assert "lease" in answer
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
    await taker.prepare("lb2", {"known": LISTED.to_json(), "lease_s": LEASE_S, "token": ABSENT})
    assert tenure.lease is not None
    await giver.give("lb1", tenure.lease)
    await taker.abandon("lb2", {})
    assert stance.role is Role.STANDBY
    assert await tenure.win() is None
