"""A planned change of leader may stop anywhere: nobody shares the address, and somebody has it soon."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.simulation.leadership.history import play
from tests.simulation.leadership.host import LEASE_S, Host
from tests.simulation.leadership.world import World

NAMES = ("lb1", "lb2")
STEPS = 40
"""More than a hand-over has, with the beats that come in between."""
SOON_S = LEASE_S + 2.5
"""A lease, and some messages, which may take 0.2 s each here."""


async def begin(world: World) -> tuple[Host, Host]:
    """Have lb1 lead, and lb2 stand by; no message takes seconds."""
    world.hiccups = 0.0
    giver, taker = world.hosts.values()
    giver.start()
    await asyncio.sleep(LEASE_S)
    taker.start()
    await asyncio.sleep(3 * LEASE_S)
    assert world.holders() == ["lb1"]
    return giver, taker


def hand_over(world: World, giver: Host) -> asyncio.Task[str | None]:
    assert giver.life is not None
    assert giver.leadership is not None
    work = giver.leadership.hand_over("lb2")
    return world.loop.create_task(work, context=giver.life.context.copy())


def interrupted(seed: int, how: Callable[[World, Host, Host], None]) -> tuple[str, list[str]]:
    """Begin a hand-over in which something fails; return what must not be, and who leads in the end."""
    ends: list[str] = []

    async def body(world: World) -> str:
        giver, taker = await begin(world)
        how(world, giver, taker)
        handing = hand_over(world, giver)
        for _ in range(STEPS):
            await asyncio.sleep(0.1)
            if not (giver.is_up and taker.is_up):
                break
        giver.steps_left = taker.steps_left = None
        await asyncio.sleep(SOON_S)
        if not world.holders():
            return f"nobody has the address after {SOON_S} s"
        await asyncio.sleep(LEASE_S)
        ends.extend(world.holders())
        handing.cancel()
        return world.violations[0] if world.violations else "" if ends else "nobody keeps the address"

    world, violation = play(NAMES, seed, body)
    return "\n".join((*world.trace, violation)) if violation else "", ends


def test_the_other_leads_and_the_address_is_away_for_a_moment_only() -> None:
    away: list[float] = []

    async def body(world: World) -> str:
        giver, _ = await begin(world)
        work = hand_over(world, giver)
        while not work.done():
            away.append(0.0 if world.holders() else 0.01)
            await asyncio.sleep(0.01)
        assert work.result() is None
        return "" if world.holders() == ["lb2"] else f"{world.holders()} hold it"

    for seed in range(10):
        assert play(NAMES, seed, body)[1] == ""
        assert sum(away) <= 0.5  # two messages, which may take 0.2 s each here
        away.clear()


@pytest.mark.parametrize("who", NAMES)
def test_either_may_die_at_any_step(who: str) -> None:
    takers = set()
    for steps in range(STEPS):

        def die(world: World, giver: Host, taker: Host, left: int = steps) -> None:
            world.hosts[who].steps_left = left

        violation, ends = interrupted(steps, die)
        assert not violation, violation
        takers.update(ends)
    assert "lb2" in takers if who == "lb1" else takers


@pytest.mark.parametrize("delay_s", [step / 200 for step in range(0, 40, 2)])
def test_the_link_or_the_store_may_be_cut_at_any_moment(delay_s: float) -> None:
    def link(world: World, giver: Host, taker: Host) -> None:
        world.loop.call_later(delay_s, giver.unheard_by.add, taker.name)

    def answers(world: World, giver: Host, taker: Host) -> None:
        world.loop.call_later(delay_s, taker.unheard_by.add, giver.name)

    def store_of_giver(world: World, giver: Host, taker: Host) -> None:
        world.loop.call_later(delay_s, setattr, giver, "reaches_store", False)

    def store_of_taker(world: World, giver: Host, taker: Host) -> None:
        world.loop.call_later(delay_s, setattr, taker, "reaches_store", False)

    for seed, cut in enumerate((link, answers, store_of_giver, store_of_taker)):
        violation, _ = interrupted(seed, cut)
        assert not violation, violation


@pytest.mark.parametrize("how_often", [1, 3])
def test_a_taker_that_gives_no_answer_does_not_cost_the_giver_the_address(how_often: int) -> None:
    async def body(world: World) -> str:
        giver, taker = await begin(world)
        taker.stop()
        for _ in range(how_often):
            work = hand_over(world, giver)
            while not work.done():
                if not world.holders():
                    return f"nobody holds the address at {world.loop.time():.3f}"
                await asyncio.sleep(0.01)
            assert "gives no answer" in (work.result() or "")
        await asyncio.sleep(LEASE_S)
        return "" if world.holders() == ["lb1"] else f"{world.holders()} hold it"

    for seed in range(10):
        world, violation = play(NAMES, seed, body)
        assert violation == "", "\n".join((*world.trace, f"seed {seed}: {violation}"))


def left_over(giver: Host, taker: Host) -> tuple[bool, object]:
    assert taker.leadership is not None
    return giver.kernel.is_parked, taker.leadership.status()["detour_to"]


def test_a_kernel_that_refuses_to_tidy_up_ends_no_balancer_and_is_asked_again() -> None:
    async def body(world: World) -> str:
        giver, taker = await begin(world)
        giver.kernel.refuses, taker.kernel.refuses = {"unpark"}, {"end"}
        assert await hand_over(world, giver) is None
        await asyncio.sleep(2 * LEASE_S)
        assert left_over(giver, taker) == (True, "lb1")
        giver.kernel.refuses, taker.kernel.refuses = set(), set()
        await asyncio.sleep(LEASE_S)
        assert left_over(giver, taker) == (False, None)
        return "" if giver.is_up and world.holders() == ["lb2"] else f"{world.holders()} hold it"

    assert play(NAMES, 0, body)[1] == ""


def test_an_address_that_is_held_in_part_only_is_dropped_before_another_takes_it() -> None:
    async def body(world: World) -> str:
        giver, taker = await begin(world)
        giver.kernel.refuses = {"unpark"}
        assert await hand_over(world, giver) is None
        assert taker.leadership is not None
        assert taker.life is not None
        back = taker.leadership.hand_over("lb1")
        await world.loop.create_task(back, context=taker.life.context.copy())
        await asyncio.sleep(LEASE_S)
        if world.violations:
            return world.violations[0]
        return "" if world.holders() == ["lb2"] else f"{world.holders()} hold it"

    for seed in range(4):
        assert play(NAMES, seed, body)[1] == ""


def test_an_address_that_the_giver_cannot_let_go_is_taken_when_its_time_is_over() -> None:
    async def body(world: World) -> str:
        giver, _ = await begin(world)
        giver.kernel.refuses = {"park", "drop"}
        assert await hand_over(world, giver) is None
        await asyncio.sleep(SOON_S)
        if world.violations:
            return world.violations[0]
        return "" if world.holders() == ["lb2"] else f"{world.holders()} hold it"

    for seed in range(4):
        assert play(NAMES, seed, body)[1] == ""


def test_a_taker_that_cannot_have_the_address_is_told_of_and_somebody_has_it_soon() -> None:
    async def body(world: World) -> str:
        giver, taker = await begin(world)
        taker.kernel.refuses = {"hold"}
        assert "did not take the address" in (await hand_over(world, giver) or "")
        await asyncio.sleep(SOON_S)
        return "" if world.holders() == ["lb1"] else f"{world.holders()} hold it"

    for seed in range(4):
        assert play(NAMES, seed, body)[1] == ""


def test_who_is_told_to_end_waits_for_another_that_has_just_begun() -> None:
    async def body(world: World) -> str:
        giver, taker = await begin(world)
        taker.kill()
        taker.start()
        await asyncio.sleep(0.1)
        giver.retire()
        while giver.is_up:
            if not world.holders():
                away.append(0.01)
            await asyncio.sleep(0.01)
        return "" if world.holders() == ["lb2"] else f"{world.holders()} hold it"

    for seed in range(4):
        away: list[float] = []
        assert play(NAMES, seed, body)[1] == ""
        assert sum(away) <= 0.5  # two messages, which may take 0.2 s each here
