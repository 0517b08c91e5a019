"""One upkeep process: what runs in the background of a cluster, without which nothing is lost at once."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from cluster.coordination.protocol import Address, Member
from cluster.http import Pages, StatusServer
from storage_node.upkeep.repair import Repair

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cluster.coordination.protocol import Registry
    from storage_node.grid.grid import Grid

_REPAIR_INTERVAL_S: Final = 1.0
_HOST: Final = "127.0.0.1"


async def run(grid: Grid, registry: Registry, stop: asyncio.Event, *, name: str) -> None:
    """Pay debts until `stop` is set.

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
    repairing = asyncio.create_task(Repair(grid).run_forever(_REPAIR_INTERVAL_S))
    try:
        async with await registry.announce(member):
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait({stopping, repairing}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
    finally:
        repairing.cancel()
        await asyncio.wait({repairing})
        await server.close()
    if not repairing.cancelled():
        repairing.result()
