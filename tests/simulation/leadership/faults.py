"""What may go wrong, or be done by operators, in one history of an election."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Final, TypeAlias

from balancer.leadership import operating, orders
from tests.simulation.leadership.host import LEASE_S, Host
from tests.simulation.leadership.world import LONGEST_LEASE_S, World

Fault: TypeAlias = Callable[[World, Random], None]


def some(random: Random) -> list[Fault]:
    """Choose what may happen in one history: of all there is, one thing would often undo another."""
    return [fault for fault in FAULTS if fault in MENDS or random.random() < 0.5]


def happen(world: World, random: Random, among: Sequence[Fault]) -> None:
    """Let one thing happen."""
    world.disturb()
    random.choice(among)(world, random)


def mend(host: Host) -> None:
    """Let a host be well again."""
    host.reaches_store = host.hears_store = True
    host.unheard_by.clear()
    host.kernel.refuses.clear()
    host.lease_s = LEASE_S
    host.go_on()
    if not host.is_up:
        host.start()


def _one(world: World, random: Random) -> Host:
    return random.choice(list(world.hosts.values()))


def _cut_off(world: World, random: Random) -> None:
    host = _one(world, random)
    host.reaches_store = False
    world.note(f"{host.name} does not reach the store")


def _answers_lost(world: World, random: Random) -> None:
    host = _one(world, random)
    host.hears_store = False
    world.note(f"{host.name} does not hear the store")


def _store_away(world: World, random: Random) -> None:
    for host in world.hosts.values():
        host.reaches_store = False
    world.note("the store is away")


def _store_there(world: World, random: Random) -> None:
    for host in world.hosts.values():
        host.reaches_store = host.hears_store = True
    world.note("the store is there")


def _store_loses_leader(world: World, random: Random) -> None:
    for_s = random.uniform(0.1, 2)
    world.disturb(for_s)
    world.spawn(world.store.lose_leader(for_s))
    world.note(f"the store has no leader for {for_s:.1f} s")


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


def _configure(world: World, random: Random) -> None:
    """Give the next process of a host another lease."""
    host = _one(world, random)
    host.lease_s = random.choice((2.0, LEASE_S, LONGEST_LEASE_S)) if world.leases_differ else LEASE_S


def _kernel_refuses(world: World, random: Random) -> None:
    host = _one(world, random)
    what = random.sample(("hold", "drop", "park", "unpark", "begin", "end"), random.choice((1, 1, 2, 6)))
    host.kernel.refuses.update(what)
    world.note(f"the kernel of {host.name} refuses to {', '.join(what)}")


def _kernels_obey(world: World, random: Random) -> None:
    for host in world.hosts.values():
        host.kernel.refuses.clear()


def _retire(world: World, random: Random) -> None:
    _one(world, random).retire()


def _hand_over(world: World, random: Random) -> None:
    """Operators ask the leader to hand over; sometimes two at once."""
    for _ in range(random.choice((1, 1, 2))):
        to = random.choice((None, *world.hosts))
        world.spawn(order(world, to))


async def order(world: World, to: str | None) -> None:
    """Ask the leader to hand over, as `orders.give` does."""
    world.note(f"the leader is to hand over to {to or 'another'}")
    lease = await world.store.grant(LEASE_S)
    await world.store.put(f"{orders.PREFIX}{lease.id}", json.dumps({"to": to}).encode(), lease=lease)


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


FAULTS: Final[tuple[Fault, ...]] = (
    *(_cut_off, _cut_off, _answers_lost, _store_away, _store_there, _store_there, _store_loses_leader),
    *(_deaf, _all_hear, _all_hear, _kernel_refuses, _kernels_obey, _kernels_obey),
    *(_stop, _go_on, _kill, _all_up, _all_up, _retire, _forget, _hand_over, _hand_over, _configure),
)
MENDS: Final[frozenset[Fault]] = frozenset({_store_there, _all_hear, _kernels_obey, _go_on, _all_up})
