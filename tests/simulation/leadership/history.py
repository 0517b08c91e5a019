"""One history of an election with failures, from a seed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from balancer.leadership import operating
from tests.simulation.leadership.loop import StoppableLoop
from tests.simulation.leadership.world import LEASE_S, Host, World

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
        watching = world.spawn(_measure(world, held))
        for host in world.hosts.values():
            host.start()
            await asyncio.sleep(random.choice((0, 0, 1, 6)))
        ends_at = world.loop.time() + FAULTS_S
        while world.loop.time() < ends_at and not world.violations:
            _fault(world, random)
            await asyncio.sleep(random.expovariate(1 / random.choice((0.3, 2.0, 5.0))))
        watching.cancel()
        for _ in range(2):  # who was told to end before does so first
            for host in world.hosts.values():
                _mend(host)
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
        faults = [fault for fault in loop.faults if "it is pending" not in fault]  # of those that were killed
        return world, violation or (faults[0] if faults else "")
    finally:
        loop.abandon()
        loop.close()


async def _measure(world: World, held: list[float]) -> None:
    while True:
        await asyncio.sleep(0.1)
        if world.holders():
            held.append(0.1)


def _mend(host: Host) -> None:
    host.reaches_store = True
    host.unheard_by.clear()
    host.go_on()
    if not host.is_up:
        host.start()


def _fault(world: World, random: Random) -> None:
    fault = random.choice(FAULTS)
    fault(world, random)


def _one(world: World, random: Random) -> Host:
    return random.choice(list(world.hosts.values()))


def _cut_off(world: World, random: Random) -> None:
    host = _one(world, random)
    host.reaches_store = False
    world.note(f"{host.name} does not reach the store")


def _store_away(world: World, random: Random) -> None:
    for host in world.hosts.values():
        host.reaches_store = False
    world.note("the store is away")


def _store_there(world: World, random: Random) -> None:
    for host in world.hosts.values():
        host.reaches_store = True
    world.note("the store is there")


def _deaf(world: World, random: Random) -> None:
    host, other = _one(world, random), _one(world, random)
    host.unheard_by.add(other.name)
    world.note(f"{other.name} does not hear {host.name}")


def _all_hear(world: World, random: Random) -> None:
    for host in world.hosts.values():
        host.unheard_by.clear()
    world.note("all hear each other")


def _stop(world: World, random: Random) -> None:
    _one(world, random).stop()


def _go_on(world: World, random: Random) -> None:
    _one(world, random).go_on()


def _kill(world: World, random: Random) -> None:
    host = _one(world, random)
    host.kill()
    if random.random() < 0.3:
        host.disk = None
        world.note(f"{host.name} has lost its disk")


def _all_up(world: World, random: Random) -> None:
    for host in world.hosts.values():
        if host.is_up:
            host.go_on()
        else:
            host.start()


def _retire(world: World, random: Random) -> None:
    _one(world, random).retire()


def _forget(world: World, random: Random) -> None:
    """An operator says of one that does not run that it will not do so any more."""
    host = _one(world, random)
    if not host.is_up:
        world.note(f"{host.name} is forgotten")
        world.announced.pop(host.name, None)
        world.spawn(_forget_for_good(world, host))


async def _forget_for_good(world: World, host: Host) -> None:
    """Forget it; the last in the list does not come back with what it knew, as an operator is told."""
    await operating.forget(world.store, host.name)
    if not any(one.is_listed for one in await operating.balancers(world.store)):
        host.disk = None


FAULTS: Final = (
    *(_cut_off, _cut_off, _store_away, _store_there, _store_there),
    *(_deaf, _all_hear, _all_hear),
    *(_stop, _go_on, _kill, _all_up, _all_up, _retire, _forget),
)
