"""What was purged is brought back while bytes of it are left: they are stored, as if they were sent again.

Collection may remove them at any moment. What is put anew is young, and the fact that says so is at W sites
before anybody is told (`storage_node.upkeep.collection`).
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from storage_node.grid.arrival import Arrival
from storage_node.grid.facts import Gone
from storage_node.grid.read import NoCopy

if TYPE_CHECKING:
    from cluster.nouns import Instance
    from storage_node.catalogue.protocol import Row
    from storage_node.grid.grid import Grid


async def bring_back(grid: Grid, instance: Instance) -> None:
    """Store each version of an instance again of which a site has a good copy, the current one last.

    Raises
    ------
    Gone
        No site that can be reached has one.
    NotEnoughSites
    """
    rows = await grid.rows_of(instance)
    came_back = [await _store_again(grid, row) for row in reversed(rows)]
    if not any(came_back):
        raise Gone(instance)


async def _store_again(grid: Grid, row: Row) -> bool:
    """Store a version with what is known of it; return False if nobody has its bytes."""
    version = row.version
    arrival = Arrival(
        version.instance,
        version.sop_class_uid,
        version.transfer_syntax_uid,
        version.data_set_offset_bytes,
        row.provenance,
        row.header,
        row.flags,
    )
    try:
        async with aclosing(grid.read(version)) as pieces:
            if not version.block_digests:
                await grid.store(arrival, [piece async for piece in pieces])
                return True
            async with await grid.stream(version.instance) as stream:
                async for piece in pieces:
                    await stream.write([piece])
                await stream.complete(arrival)
    except NoCopy:
        return False
    return True
