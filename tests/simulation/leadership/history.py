"""One history of an election with failures, from a seed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from tests.simulation.leadership import faults
from tests.simulation.leadership.host import LEASE_S
from tests.simulation.leadership.loop import StoppableLoop
from tests.simulation.leadership.watching import Watch
from tests.simulation.leadership.world import LONGEST_LEASE_S, World

FAULTS_S: Final = 60.0
SETTLED_S: Final = 8 * LEASE_S
"""When everything is well again, somebody leads after so long."""


@dataclass(frozen=True, slots=True)
class Outcome:
    violation: str
    trace: tuple[str, ...]
    held_s: float
    """For how long, while there were faults, the address was anywhere."""


def run(seed: int) -> Outcome:
    """Play a history of two or three balancers in which anything fails, and then nothing."""
    names = ("lb1", "lb2", "lb3")[: 2 + seed // 2 % 2]
    held: list[float] = []

    async def body(world: World) -> str:
        random = Random(f"{seed} nemesis")
        among = faults.some(random)
        watch = Watch(world, LONGEST_LEASE_S if world.leases_differ else LEASE_S)
        watching = world.spawn(watch.run())
        world.spawn(world.flows.run(Random(f"{seed} clients")))
        for host in world.hosts.values():
            host.start()
            await asyncio.sleep(random.choice((0, 0, 1, 6)))
        ends_at = world.now_s + FAULTS_S
        while world.now_s < ends_at and not world.violations:
            faults.happen(world, random, among)
            await asyncio.sleep(random.expovariate(1 / random.choice((0.3, 2.0, 5.0))))
        watching.cancel()
        held.append(watch.held_s)
        if world.violations:
            return world.violations[0]
        for _ in range(2):  # who was told to end before does so first
            for host in world.hosts.values():
                faults.mend(host)
            await asyncio.sleep(SETTLED_S)
        if world.violations:
            return world.violations[0]
        if not world.holders():
            for host in world.hosts.values():
                world.note(f"{host.name}: {host.leadership and host.leadership.status()}")
            return "everything is well, and nobody holds the address"
        return ""

    world, violation = play(names, seed, body)
    return Outcome(violation, tuple(world.trace[-80:]), sum(held))


def play(
    names: tuple[str, ...], seed: int, body: Callable[[World], Coroutine[Any, Any, str]]
) -> tuple[World, str]:
    """Run something in a world of its own."""
    loop = StoppableLoop()
    asyncio.set_event_loop(None)

    async def run() -> tuple[World, str]:
        world = World(loop, names, seed)
        return world, await body(world)

    try:
        world, violation = loop.run_until_complete(run())
        of_the_living = [fault for fault in loop.faults if "it is pending" not in fault]
        return world, violation or next(iter(of_the_living), "")
    finally:
        loop.abandon()
        loop.close()
