"""Is every instance at every site? Rows and objects are looked for; no object's bytes are read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import structlog

from storage_node.grid.sites import SiteFailed
from storage_node.grid.write import NotEnoughSites
from storage_node.site.protocol import ObjectFault, ObjectMissing
from storage_node.upkeep.walk import union

if TYPE_CHECKING:
    from storage_node.grid.grid import Grid
    from storage_node.upkeep.walk import Entry

_AT_ONCE: Final = 64
"""Instances that are looked for at the same time."""
_NOT_READ: Final = "its catalogue could not be read to its end"

log = structlog.get_logger()

Progress: TypeAlias = Callable[[int, int], None]
"""Told how many versions were looked for, and how many there are by the catalogue that knows of most."""


@dataclass(frozen=True, slots=True)
class SiteCheck:
    """What one site has of what the cluster knows."""

    site: str
    up: bool
    why: str
    """Why it is down; empty when it is up."""
    rows: int
    """Versions that have a row here."""
    objects: int
    """Versions that have an object of the right size here."""
    missing: int
    """Versions known anywhere that lack one of the two here."""
    debts: int
    """Debts that are noted here, of whatever site."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What all sites have of what the cluster knows."""

    versions: int
    """Versions that any catalogue that could be reached knows."""
    sites: tuple[SiteCheck, ...]

    @property
    def complete(self) -> bool:
        """Whether each site is up, has everything, and knows of no copy that is owed or bad."""
        return all(site.up and not site.missing and not site.debts for site in self.sites)


@dataclass(slots=True)
class _Tally:
    rows: int = 0
    objects: int = 0
    copies: int = 0
    debts: int = 0


async def verify(grid: Grid, progress: Progress | None = None) -> Verification:
    """Look for every version that any catalogue knows, at every site.

    A site that is down, or goes down meanwhile, counts as lacking what it was not found to have.
    """
    tallies = {name: _Tally() for name in grid.sites.names}
    failed: set[str] = set()
    known = 0
    for site in grid.sites.up():
        try:
            counts = await grid.sites.ask(site, site.catalogue.counts())
        except SiteFailed:
            failed.add(site.name)
            continue
        tallies[site.name].debts = counts.debts
        known = max(known, counts.versions)
    versions = 0
    async with aclosing(union(grid.sites, failed)) as entries:
        batch: list[tuple[Entry, Mapping[str, str]]] = []
        async for entry in entries:
            batch.append(entry)
            if len(batch) == _AT_ONCE:
                versions += await _look(grid, batch, tallies)
                batch.clear()
                if progress is not None:
                    progress(versions, max(known, versions))
        versions += await _look(grid, batch, tallies)
    if progress is not None:
        progress(versions, max(known, versions))
    return Verification(
        versions,
        tuple(
            SiteCheck(
                name,
                health.up and name not in failed,
                health.why or (_NOT_READ if name in failed else ""),
                tally.rows,
                tally.objects,
                versions - tally.copies,
                tally.debts,
            )
            for (name, tally), health in zip(tallies.items(), grid.health().values(), strict=True)
        ),
    )


async def _look(grid: Grid, batch: list[tuple[Entry, Mapping[str, str]]], tallies: dict[str, _Tally]) -> int:
    await asyncio.gather(*(_look_for(grid, entry, keys, tallies) for entry, keys in batch))
    return len(batch)


async def _look_for(grid: Grid, entry: Entry, keys: Mapping[str, str], tallies: dict[str, _Tally]) -> None:
    instance, digest, key = entry
    try:
        sizes = {row.version.digest: row.version.size_bytes for row in await grid.rows_of(instance)}
    except NotEnoughSites:
        sizes = {}
    for site in grid.sites.up():
        own_key = keys.get(site.name, key)
        try:
            found = (await grid.sites.ask(site, site.objects.head(own_key))).size_bytes == sizes.get(digest)
        except (SiteFailed, ObjectMissing, ObjectFault):
            found = False
        tally = tallies[site.name]
        tally.rows += site.name in keys
        tally.objects += found
        tally.copies += found and site.name in keys
