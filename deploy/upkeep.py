"""One upkeep process: what runs in the background of a cluster, without which nothing is lost at once."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
from contextlib import aclosing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from cluster.coordination.protocol import Address, Member
from cluster.http import Pages, StatusServer
from storage_node.upkeep.anti_entropy import AntiEntropy
from storage_node.upkeep.repair import Repair

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cluster.coordination.protocol import Registry
    from storage_node.grid.grid import Grid

_REPAIR_INTERVAL_S: Final = 1.0
_ANTI_ENTROPY_INTERVAL_S: Final = 3600.0
_HOST: Final = "127.0.0.1"


async def run(grid: Grid, registry: Registry, stop: asyncio.Event, *, name: str) -> None:
    """Find differences and pay debts until `stop` is set.

    Raises
    ------
    OSError
        No address for the status pages could be had.
    """

    async def status() -> Mapping[str, object]:
        sites = {site: state.to_json() for site, state in grid.health().items()}
        return {"name": name, "kind": "upkeep", "sites": sites}

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
        async with asyncio.TaskGroup() as tasks, await registry.announce(member):
            anti_entropy = AntiEntropy(grid)
            working = [
                tasks.create_task(Repair(grid).run_forever(_REPAIR_INTERVAL_S)),
                tasks.create_task(anti_entropy.run_forever(_ANTI_ENTROPY_INTERVAL_S)),
                tasks.create_task(_look_after_the_dead(registry, anti_entropy)),
            ]
            await stop.wait()
            for task in working:
                task.cancel()
    finally:
        await server.close()


async def _look_after_the_dead(registry: Registry, anti_entropy: AntiEntropy) -> None:
    """Compare the catalogues whenever a worker has gone: it may have died between two rows."""
    known: set[int] = set()
    async with aclosing(registry.watch()) as memberships:
        async for members in memberships:
            workers = {member.pid for member in members if member.kind == "worker"}
            if known - workers:
                anti_entropy.run_soon()
            known = workers
