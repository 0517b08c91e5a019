"""A connection that began goes on to its end, however often another is asked to lead."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from tests.simulation.leadership.faults import order
from tests.simulation.leadership.history import play
from tests.simulation.leadership.host import LEASE_S
from tests.simulation.leadership.world import World

OPERATED_S = 60.0


def operated(names: tuple[str, ...], seed: int) -> str:
    """Let operators hand over and restart as they like while nothing fails; return what must not be."""

    async def body(world: World) -> str:
        world.hiccups = 0.0
        operators = Random(f"{seed} operators")
        for host in world.hosts.values():
            host.start()
        await asyncio.sleep(4 * LEASE_S)
        world.spawn(world.flows.run(Random(f"{seed} clients")))
        ends_at = world.now_s + OPERATED_S
        while world.now_s < ends_at:
            for _ in range(operators.choice((1, 1, 2))):
                world.spawn(order(world, operators.choice((None, *names))))
            host = world.hosts[operators.choice(names)]
            if not host.is_up:
                host.start()
            elif operators.random() < 0.2 and not any(other.is_ending for other in world.hosts.values()):
                host.retire()
            await asyncio.sleep(operators.expovariate(1 / operators.choice((0.3, 2.0, 8.0))))
        assert world.flows.ended > OPERATED_S / 2
        return "; ".join((*world.violations, *world.flows.broken))

    world, wrong = play(names, seed, body)
    return "\n".join((*world.trace, f"seed {seed}: {wrong}")) if wrong else ""


@pytest.mark.parametrize("names", [("lb1", "lb2"), ("lb1", "lb2", "lb3")], ids=len)
def test_no_flow_is_reset_by_hand_overs_and_restarts_that_are_planned(names: tuple[str, ...]) -> None:
    for seed in range(8):
        wrong = operated(names, seed)
        assert not wrong, wrong
