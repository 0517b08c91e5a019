"""Anti-entropy turns differences between the catalogues into debts, which repair pays.

As a rule a site that lacks a version is noted as a debt before the version is acknowledged. Differences
without a debt are what a worker left that died in the middle of a write, what a refused write left, and what
a site lacks that was brought back from an older copy of itself.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from prometheus_client import Counter

from cluster.nouns import Debt
from storage_node.grid.sites import SiteFailed
from storage_node.grid.write import NotEnoughSites
from storage_node.upkeep.walk import union

if TYPE_CHECKING:
    from cluster.nouns import Instance
    from storage_node.grid.grid import Grid

_FOUND = Counter("atria_anti_entropy_found_total", "Versions that a site lacked without a debt", ["site"])

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Comparison:
    """What one run found."""

    versions: int
    """Versions that any catalogue knows."""
    found: int
    """Debts that were noted."""


class AntiEntropy:
    """Compares the catalogues of all sites. Any number may run at once: a debt is noted once."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._sites = grid.sites
        self._wanted = asyncio.Event()

    def run_soon(self) -> None:
        """Have `run_forever` compare now: something happened that leaves differences."""
        self._wanted.set()

    async def run_forever(self, interval_s: float) -> None:
        """Compare again and again, until cancelled; the first time as soon as all sites are up."""
        while True:
            await self._sites.wait_until(lambda health: all(state.up for state in health.values()))
            self._wanted.clear()
            try:
                await self.run_once()
            except Exception:  # a fault of one run must not be the last of all runs
                log.exception("anti_entropy.failed")
            # Not wait_for: until Python 3.12 it swallows a cancellation that comes with what it waits for.
            with suppress(TimeoutError):
                async with asyncio.timeout(interval_s):
                    await self._wanted.wait()

    async def run_once(self) -> Comparison:
        """Compare the catalogues that can be read to their end."""
        failed: set[str] = set()
        versions = found = 0
        async with aclosing(union(self._sites, failed)) as entries:
            async for (instance, digest, _), keys in entries:
                versions += 1
                if len(keys) + len(failed) < len(self._sites.names):
                    found += await self._owe(instance, digest)
        if found:
            log.info("anti_entropy.found", versions=versions, debts=found)
        return Comparison(versions, found)

    async def _owe(self, instance: Instance, digest: str) -> int:
        """Note what the sites lack now: while the catalogues were walked, a write may have gone on."""
        try:
            at_sites = await self._grid.rows_at_sites(instance)
        except NotEnoughSites:
            return 0
        lacking = [
            name for name, rows in at_sites.items() if digest not in {row.version.digest for row in rows}
        ]
        debts = [Debt(name, instance, digest) for name in lacking]
        for site in self._sites.up():
            if debts and site.name not in lacking:
                try:
                    await self._sites.ask(site, site.catalogue.owe(debts))
                except SiteFailed as error:
                    log.warning("anti_entropy.not_noted", site=site.name, reason=error.reason)
        for name in lacking:
            _FOUND.labels(site=name).inc()
        return len(debts)
