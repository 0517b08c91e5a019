"""One upkeep process: what runs in the background of a cluster, without which nothing is lost at once."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
from contextlib import aclosing
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final

from cluster.coordination.leading import Leading
from cluster.coordination.registry import Address, Member
from cluster.http import Pages, StatusServer
from storage_node.upkeep.anti_entropy import AntiEntropy
from storage_node.upkeep.collection import Collection
from storage_node.upkeep.fill import Fill
from storage_node.upkeep.listing import Listing
from storage_node.upkeep.purging import Purging
from storage_node.upkeep.rebuild import Rebuild
from storage_node.upkeep.repair import Repair
from storage_node.upkeep.scrub import Scrub

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping

    from cluster.coordination.registry import Registry
    from cluster.settings import Settings
    from deploy.compose import Cluster
    from deploy.roster import RecordRoster
    from storage_node.grid.grid import Grid

_HOST: Final = "127.0.0.1"


async def run(
    grid: Grid,
    cluster: Cluster,
    stop: asyncio.Event,
    *,
    name: str,
    settings: Settings,
    roster: RecordRoster,
) -> None:
    """Do all upkeep until `stop` is set: each daemon as its own task, at its own interval.

    Raises
    ------
    OSError
        No address for the status pages could be had.
    """
    upkeep = settings.upkeep
    anti_entropy = AntiEntropy(grid, upkeep)
    one_at_a_time = (
        Rebuild(grid, roster, header_limit_bytes=settings.limits.header_limit_bytes),
        Fill(grid, upkeep, roster),
    )
    daemons = (
        Repair(grid, upkeep),
        anti_entropy,
        Listing(grid, upkeep),
        Purging(grid, upkeep),
        Collection(grid, upkeep),
        Scrub(grid, upkeep),
    )

    async def status() -> Mapping[str, object]:
        return {
            "name": name,
            "kind": "upkeep",
            "sites": {site: state.to_json() for site, state in grid.health().items()},
            "rounds": {daemon.rounds.name: daemon.rounds.to_json() for daemon in (*one_at_a_time, *daemons)},
        }

    def not_ready() -> str | None:
        up = [state.up for state in grid.health().values()]
        return None if sum(up) >= min(2, len(up)) else f"{sum(up)} of 2 sites needed to repair are up"

    server = StatusServer(Pages(not_ready=not_ready, status=status))
    port = await server.start(_HOST, 0)
    member = Member(
        "upkeep",
        name,
        Address(_HOST, port),
        os.getpid(),
        importlib.metadata.version("atria"),
        datetime.now(UTC),
    )
    try:
        async with asyncio.TaskGroup() as tasks, await cluster.registry.announce(member):
            working = [tasks.create_task(daemon.run_forever()) for daemon in daemons]
            working.append(tasks.create_task(_look_after_the_dead(cluster.registry, anti_entropy)))
            filling = partial(_run_all, one_at_a_time)
            if cluster.coordination is None:
                working.append(tasks.create_task(filling()))
            else:
                leading = Leading(cluster.coordination, "fill", name, settings.etcd.membership_lease_s)
                working.append(tasks.create_task(leading.run()))
                working.append(tasks.create_task(_unless_another_leads(leading, filling)))
            await stop.wait()
            for task in working:
                task.cancel()
    finally:
        await server.close()


async def _run_all(daemons: Iterable[Fill | Rebuild]) -> None:
    async with asyncio.TaskGroup() as tasks:
        for daemon in daemons:
            tasks.create_task(daemon.run_forever())


async def _unless_another_leads(leading: Leading, work: Callable[[], Coroutine[None, None, None]]) -> None:
    """Do work that one is enough for. With etcd away all do it: that costs a little, and copies are made."""
    while True:
        await leading.until(stands_back=False)
        async with asyncio.TaskGroup() as tasks:
            working = tasks.create_task(work())
            await leading.until(stands_back=True)
            working.cancel()


async def _look_after_the_dead(registry: Registry, anti_entropy: AntiEntropy) -> None:
    """Compare the catalogues whenever a worker has gone: it may have died between two rows."""
    known: set[int] = set()
    async with aclosing(registry.watch()) as memberships:
        async for members in memberships:
            workers = {member.pid for member in members if member.kind == "worker"}
            if known - workers:
                anti_entropy.run_soon()
            known = workers
