"""The loop that waits for nothing."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from tests.simulation.loop import BEGIN, Deadlock, SimulatedLoop


@pytest.fixture
def loop() -> SimulatedLoop:
    return SimulatedLoop(lambda task, context: None)


def test_sleeping_for_a_year_takes_no_time_and_moves_both_clocks(loop: SimulatedLoop) -> None:
    year_s = 365 * 24 * 3600.0
    loop.run_until_complete(asyncio.sleep(year_s))
    loop.close()
    assert loop.time() == pytest.approx(year_s)
    assert loop.now() - BEGIN >= timedelta(days=365)


def test_waiting_for_what_never_happens_is_a_deadlock(loop: SimulatedLoop) -> None:
    async def wait() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock):
        loop.run_until_complete(wait())
    loop.abandon()
    loop.close()


def test_a_set_of_tasks_is_walked_in_the_order_in_which_they_began(loop: SimulatedLoop) -> None:
    async def begin() -> None:
        tasks = [asyncio.ensure_future(asyncio.sleep(0, number)) for number in range(100)]
        assert [await task for task in set(tasks)] == list(range(100))

    loop.run_until_complete(begin())
    loop.close()


def test_what_would_run_in_a_thread_is_done_at_once(loop: SimulatedLoop) -> None:
    async def ask() -> int:
        return await asyncio.to_thread(sum, [1, 2])

    assert loop.run_until_complete(ask()) == 3
    loop.close()


def test_an_exception_that_nobody_retrieves_is_noted(loop: SimulatedLoop) -> None:
    async def fail() -> None:
        raise ValueError("nobody looks")

    async def begin() -> None:
        task = asyncio.ensure_future(fail())
        await asyncio.wait([task])

    loop.run_until_complete(begin())
    loop.close()
    assert len(loop.faults) == 1
