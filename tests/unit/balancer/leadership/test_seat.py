"""What the kernel may still have is not taken for dropped."""

from __future__ import annotations

import asyncio

from balancer.address.faults import AddressFault
from balancer.leadership.known import Known
from balancer.leadership.promises import Wish
from balancer.leadership.seat import Seat
from balancer.leadership.stance import Role, Stance

LEASE_S = 3.0
LISTED = Known({"lb1": None, "lb2": None}, 10)


class Kernel:
    """A kernel that stops doing anything."""

    def __init__(self) -> None:
        self.refuses = False

    async def hold(self, until: float) -> None:
        self._do()

    async def drop(self) -> None:
        self._do()

    def announce(self) -> None: ...

    async def park(self) -> None:
        self._do()

    async def unpark(self) -> None:
        self._do()

    def _do(self) -> None:
        if self.refuses:
            raise AddressFault("no file descriptor is left")


def role(stance: Stance) -> Role:
    return stance.role


async def a_leader() -> tuple[Stance, Seat, Kernel, float]:
    """Return one that has the address, and the time."""
    now = asyncio.get_running_loop().time
    stance, kernel = Stance("lb1", lease_s=LEASE_S, now=now() - 100, kept_s=LEASE_S), Kernel()
    stance.learn(LISTED)
    seat = Seat(stance, kernel, now)
    stance.campaign(now())
    assert stance.won(now() + LEASE_S, now())
    await seat.settle()
    assert seat.is_held
    return stance, seat, kernel, now()


async def test_an_address_that_can_be_neither_held_nor_dropped_is_renewed_no_more_nor_left_to_others() -> (
    None
):
    stance, seat, kernel, now = await a_leader()
    kernel.refuses = True
    assert stance.renewed(now + LEASE_S + 0.5, now)
    await seat.settle()
    assert role(stance) is Role.YIELDING
    assert not stance.asked(Wish("lb2", LEASE_S, holds=False, known=LISTED), now).promised
    assert stance.promise is None
    stance.settle(now + LEASE_S + 0.5)
    assert role(stance) is Role.STANDBY


async def test_it_is_told_whether_an_address_that_cannot_be_parked_is_gone() -> None:
    stance, seat, kernel, _ = await a_leader()
    kernel.refuses = True
    assert not await seat.park()
    assert role(stance) is Role.YIELDING
    kernel.refuses = False
    assert await seat.park()
    assert role(stance) is Role.STANDBY


async def test_it_is_told_at_the_end_whether_the_address_is_gone() -> None:
    _, seat, kernel, _ = await a_leader()
    kernel.refuses = True
    assert not await seat.close()
    kernel.refuses = False
    assert await seat.close()
