"""Whatever fails, no two hold the address, and somebody does when all is well."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.simulation.leadership import mutations
from tests.simulation.leadership.history import play, run
from tests.simulation.leadership.host import LEASE_S
from tests.simulation.leadership.world import World
from tests.simulation.mutation import Mutation

HISTORIES = 200
ANSWER_S = 0.4
"""What a question and its answer take at most here, when nothing fails."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("tenth", range(10))
def test_no_two_hold_the_address_and_somebody_does_when_all_is_well(tenth: int) -> None:
    first = tenth * HISTORIES // 10
    for seed in range(first, first + HISTORIES // 10):
        outcome = run(seed)
        assert not outcome.violation, "\n".join((*outcome.trace, f"seed {seed}: {outcome.violation}"))


def test_a_seed_is_one_history() -> None:
    assert run(7) == run(7)


async def settle(world: World) -> str:
    """Start all, wait until all are in the list, and return who leads."""
    for host in world.hosts.values():
        host.start()
    await asyncio.sleep(5 * LEASE_S)
    (leader,) = world.holders()
    return leader


async def failover_s(world: World, leader: str) -> float:
    """Kill the leader, and return how long it took until another has the address."""
    world.hosts[leader].kill()
    killed_at = world.now_s
    while world.holders() in ([leader], []):  # noqa: ASYNC110  a clock of its own
        await asyncio.sleep(0.01)
    return world.now_s - killed_at


def test_when_the_leader_is_killed_another_has_the_address_within_a_lease() -> None:
    """Beyond the lease: news of its end, and the questions of a campaign (lease, term, list)."""

    async def body(world: World) -> str:
        took_s = await failover_s(world, await settle(world))
        return "" if took_s <= LEASE_S + 4 * ANSWER_S else f"it took {took_s:.2f} s"

    for seed in range(20):
        _, violation = play(("lb1", "lb2", "lb3")[: 2 + seed % 2], seed, body)
        assert not violation, f"seed {seed}: {violation}"


def test_one_that_does_not_reach_the_store_keeps_no_other_from_leading() -> None:
    """It asks the others again and again: one that had promised would not campaign for a lease."""

    async def body(world: World) -> str:
        world.hiccups = 0.0
        leader = await settle(world)
        next(host for name, host in world.hosts.items() if name != leader).reaches_store = False
        await asyncio.sleep(world.random.uniform(2, 4) * LEASE_S)
        took_s = await failover_s(world, leader)
        return "" if took_s <= LEASE_S + 4 * ANSWER_S else f"it took {took_s:.2f} s"

    for seed in range(10):
        _, violation = play(("lb1", "lb2", "lb3"), seed, body)
        assert not violation, f"seed {seed}: {violation}"


def test_while_the_store_is_away_the_same_one_leads_throughout_and_somebody_after_a_cold_start() -> None:
    async def body(world: World) -> str:
        world.hiccups = 0.0
        leader = await settle(world)
        for host in world.hosts.values():
            host.reaches_store = False
        for _ in range(100):
            await asyncio.sleep(LEASE_S / 20)
            if world.holders() != [leader]:
                return f"{world.holders()} have it at {world.now_s:.3f}, and not {leader}"
        for host in world.hosts.values():
            host.kill()
            host.start()
        await asyncio.sleep(4 * LEASE_S)
        return "" if world.holders() else "nobody has it after a cold start"

    for seed in range(6):
        _, violation = play(("lb1", "lb2", "lb3")[: 2 + seed % 2], seed, body)
        assert not violation, f"seed {seed}: {violation}"


def test_it_is_said_once_that_nobody_leads_however_long_that_is_so() -> None:
    async def body(world: World) -> str:
        for host in world.hosts.values():
            host.start()
        await asyncio.sleep(5 * LEASE_S)
        for host in world.hosts.values():
            host.reaches_store = False
            host.unheard_by.update(world.hosts)
        await asyncio.sleep(100 * LEASE_S)
        return "" if not world.holders() else f"{world.holders()} hold it"

    with capture_logs() as logs:
        assert play(("lb1", "lb2"), 0, body)[1] == ""
    assert len([line for line in logs if line["event"] == "leadership.nobody_leads"]) == 2  # one by each
    assert len([line for line in logs if line["log_level"] == "warning"]) < 15  # once by each who looks


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutation", mutations.ALL, ids=lambda mutation: mutation.name)
def test_a_mutation_of_the_shipped_code_is_caught(mutation: Mutation) -> None:
    arguments = ("10", str(mutation.caught_by), mutation.name)
    found = subprocess.run(
        [sys.executable, "-m", "tests.simulation.leadership", *arguments],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert not found.stderr, found.stderr
    assert found.returncode == 1, f"{mutation.name} is not caught: {found.stdout}"
    assert "hold it at" in found.stdout, f"{mutation.name} does not work, rather than wrongly: {found.stdout}"
