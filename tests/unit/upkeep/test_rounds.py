"""Rounds: they go on after a fault, come at once when they are asked for, and end when they are told to."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime

from prometheus_client import REGISTRY

from storage_node.upkeep.rounds import Rounds

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Report:
    number: int


class Daemon:
    def __init__(self, *, faults: int = 0) -> None:
        self.reports: asyncio.Queue[Report] = asyncio.Queue()
        self.faults = faults
        self.rounds = Rounds("test", self.once, lambda: NOON)

    async def once(self) -> Report:
        if self.faults:
            self.faults -= 1
            raise ZeroDivisionError
        report = Report(self.reports.qsize())
        self.reports.put_nowait(report)
        return report


async def end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()


async def test_it_runs_again_at_once_when_it_is_asked_to() -> None:
    daemon = Daemon()
    running = asyncio.create_task(daemon.rounds.run_forever(3600))
    async with asyncio.timeout(10):
        await daemon.reports.get()
        daemon.rounds.run_soon()
        await daemon.reports.get()
    await end(running)


async def test_a_fault_of_one_round_is_not_the_last_of_all_rounds() -> None:
    daemon = Daemon(faults=2)
    running = asyncio.create_task(daemon.rounds.run_forever(0.001))
    async with asyncio.timeout(10):
        await daemon.reports.get()
    await end(running)
    assert REGISTRY.get_sample_value("atria_upkeep_failed_rounds_total", {"daemon": "test"}) == 2


async def test_it_ends_when_it_is_cancelled_in_the_moment_in_which_it_is_asked_to_run() -> None:
    daemon = Daemon()
    running = asyncio.create_task(daemon.rounds.run_forever(3600))
    async with asyncio.timeout(10):
        await daemon.reports.get()
        await asyncio.sleep(0)
        daemon.rounds.run_soon()
        await asyncio.sleep(0)
        await end(running)


async def test_it_says_when_it_ran_last_and_what_came_of_it() -> None:
    daemon = Daemon(faults=1)
    assert daemon.rounds.to_json() is None
    ready = asyncio.Event()

    async def is_ready() -> None:
        await ready.wait()

    running = asyncio.create_task(daemon.rounds.run_forever(0.001, ready=is_ready))
    await asyncio.sleep(0)
    assert daemon.faults == 1, "not ready yet"
    ready.set()
    async with asyncio.timeout(10):
        while "failed" not in (daemon.rounds.to_json() or {}):  # noqa: ASYNC110  # it tells nobody
            await asyncio.sleep(0)
        await daemon.reports.get()
        await asyncio.sleep(0)
    assert daemon.rounds.to_json() == {
        "began_at": NOON.isoformat(),
        "ended_at": NOON.isoformat(),
        "number": 0,
    }
    await end(running)
    last = REGISTRY.get_sample_value("atria_upkeep_last_round_timestamp_seconds", {"daemon": "test"})
    assert last == NOON.timestamp()
