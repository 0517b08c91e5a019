"""Two workers and two repairers at the same sites, which do at random what is asked, late, or not."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from datetime import timedelta

import pytest

from cluster.settings import Upkeep
from storage_node.grid.grid import Grid
from storage_node.grid.write import NotEnoughSites
from storage_node.site.failing import Call, Fault, Script
from storage_node.upkeep.repair import Repair
from tests.integration.grid.cluster import NAMES, PROVENANCE, Cluster, arrival, cluster, writing

TIMEOUT_S = 0.05
UPKEEP = Upkeep(repair_interval_s=0.005)
CONTENTS = [[b"%d" % number] for number in range(4)]
"""Versions of one instance: what two writers have to agree on."""


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_two_workers_do_at_once_all_sites_come_to_the_same(seed: int) -> None:
    chance = random.Random(seed)
    async with cluster(grace_s=0.005, timeout_s=TIMEOUT_S) as c:
        other = second_worker(c)
        await other.start()
        for site in c.sites.values():
            site.script(faults(chance))
        repairs = [asyncio.create_task(Repair(grid, UPKEEP).run_forever()) for grid in (c.grid, other)]
        acknowledged = set().union(
            *await asyncio.gather(*(write(grid, chance) for grid in (c.grid, other) * 2))
        )
        for repair in repairs:
            repair.cancel()
        await asyncio.wait(repairs)
        await c.heal()
        await asyncio.gather(c.grid.tasks.drain(), other.tasks.drain())
        for digest in acknowledged:
            await c.check_acknowledged(digest)
        await c.grid.sites.wait_until(lambda health: all(site.up for site in health.values()))
        await c.repair()
        for digest in acknowledged:
            await c.check_everywhere(digest)
        await other.close()


def second_worker(c: Cluster) -> Grid:
    return Grid(
        [c.grid.sites[name] for name in NAMES],
        writing(straggler_grace_s=0.005, site_timeout_s=TIMEOUT_S, probe_interval_s=0.02),
    )


def faults(chance: random.Random) -> Script:
    """Have one call in eight go wrong."""

    def script(call: Call) -> Fault | None:
        if call.method in ("identity", "counts") or chance.random() > 1 / 8:
            return None
        return chance.choice([Fault.BEFORE, Fault.AFTER, Fault.HANG])

    return script


async def write(grid: Grid, chance: random.Random) -> set[str]:
    """Store versions, of which several are stored by others as well; return those that were acknowledged."""
    acknowledged = set()
    for _ in range(4):
        received_at = PROVENANCE.received_at + timedelta(seconds=chance.randrange(100))
        sent = replace(arrival(), provenance=replace(PROVENANCE, received_at=received_at))
        try:
            stored = await grid.store(sent, chance.choice(CONTENTS))
        except NotEnoughSites:
            await grid.sites.wait_until(lambda health: sum(site.up for site in health.values()) > 1)
        else:
            acknowledged.add(stored.version.digest)
    return acknowledged
