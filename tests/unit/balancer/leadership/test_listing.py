"""The list of balancers is kept beside the lease, and does not keep names that never came to be in it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from random import Random

from balancer.address.absent import NoAddress, NoDetour
from balancer.leadership.interfaces import Outside
from balancer.leadership.known import KEY, Known
from balancer.leadership.leadership import Leadership
from balancer.leadership.remembered import Remembered, recall, remember
from cluster.coordination.memory import MemoryCoordination
from cluster.coordination.registry import Announcement, Kind, Member
from tests.waiting import soon

LEASE_S = 1.0


class Disk:
    """A notebook whose writing waits for as long as wanted."""

    def __init__(self) -> None:
        self.text: str | None = None
        self.goes_on = threading.Event()

    def read(self) -> str | None:
        return self.text

    def write(self, text: str) -> None:
        assert self.goes_on.wait(20)
        self.text = text


class Nobody:
    """A registry that shows nobody."""

    async def announce(self, member: Member) -> Announcement:
        raise NotImplementedError

    async def members(self, kind: Kind | None = None) -> list[Member]:
        return []

    async def watch(self) -> AsyncGenerator[list[Member], None]:
        yield []
        await asyncio.get_running_loop().create_future()


def leadership(store: MemoryCoordination, disk: Disk) -> Leadership:
    outside = Outside(store, Nobody(), disk, NoAddress(), NoDetour(), None, tuple)
    return Leadership("lb1", outside, lease_s=LEASE_S, cold_start_s=1.0, random=Random(1))


async def until_it_leads(leader: Leadership) -> None:
    async with soon("it leads", seen=leader.led_by):
        while leader.led_by() is not None:  # noqa: ASYNC110  its task tells nobody
            await asyncio.sleep(0.01)


async def test_a_disk_that_takes_long_does_not_cost_the_leader_its_lease() -> None:
    store, disk = MemoryCoordination(), Disk()
    await store.put(KEY, b'{"lb1": null, "lb2": null}')  # lb2 promises nothing: it is not there
    leader = leadership(store, disk)
    running = asyncio.create_task(leader.run())
    try:
        await until_it_leads(leader)
        term = leader.status()["term"]
        ends_at = asyncio.get_running_loop().time() + 2.5 * LEASE_S
        while asyncio.get_running_loop().time() < ends_at:
            assert leader.led_by() is None
            await asyncio.sleep(0.01)
        assert leader.status()["term"] == term
        assert disk.text is None
    finally:
        disk.goes_on.set()
        running.cancel()
        await asyncio.wait([running])


async def test_one_that_was_about_to_be_added_by_a_former_term_is_not_counted_for_ever() -> None:
    """Its write can come to be no more; and whoever still counts it would promise nobody anything."""
    store, disk = MemoryCoordination(), Disk()
    disk.goes_on.set()
    revision = await store.put(KEY, b'{"lb1": null}')
    remember(disk, Known({"lb1": None}, revision).adding({"gone": None}), LEASE_S)
    leader = leadership(store, disk)
    assert leader.status()["balancers"] == {"lb1": None, "gone": None}
    running = asyncio.create_task(leader.run())
    try:
        await until_it_leads(leader)
        async with asyncio.timeout(10):
            while recall(disk).known != Known({"lb1": None}, revision):  # noqa: ASYNC110  nor does a disk
                await asyncio.sleep(0.01)
        assert leader.status()["balancers"] == {"lb1": None}
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_another_lease_is_written_down_although_the_list_is_the_same() -> None:
    """What was promised for so long holds also when the next process has a shorter one."""
    store, disk = MemoryCoordination(), Disk()
    disk.goes_on.set()
    known = Known({"lb1": None, "lb2": None}, await store.put(KEY, b'{"lb1": null, "lb2": null}'))
    remember(disk, known, LEASE_S / 2)
    running = asyncio.create_task(leadership(store, disk).run())
    try:
        async with asyncio.timeout(10):
            while recall(disk) != Remembered(known, LEASE_S):  # noqa: ASYNC110  nor does a disk
                await asyncio.sleep(0.01)
    finally:
        running.cancel()
        await asyncio.wait([running])
