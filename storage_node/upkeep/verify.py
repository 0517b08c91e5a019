"""Is every instance at every site? Rows and objects are looked for; no object's bytes are read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import structlog

from storage_node.catalogue.protocol import CatalogueUnavailable
from storage_node.grid.sites import SiteFailed
from storage_node.grid.write import NotEnoughSites
from storage_node.site.protocol import ObjectFault, ObjectMissing

if TYPE_CHECKING:
    from cluster.nouns import Instance
    from storage_node.grid.grid import Grid
    from storage_node.grid.sites import GridSite, Sites

_AT_ONCE: Final = 64
"""Instances that are looked for at the same time."""

log = structlog.get_logger()

Progress: TypeAlias = Callable[[int, int], None]
"""Told how many versions were looked for, and how many there are by the catalogue that knows of most."""

_Entry: TypeAlias = "tuple[Instance, str, str]"


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
        """Whether each site is up and has everything."""
        return all(site.up and not site.missing for site in self.sites)


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
    known = 0
    for site in grid.sites.up():
        try:
            counts = await grid.sites.ask(site, site.catalogue.counts())
        except SiteFailed:
            continue
        tallies[site.name].debts = counts.debts
        known = max(known, counts.versions)
    versions = 0
    async with aclosing(_union(grid.sites)) as entries:
        batch: list[tuple[_Entry, frozenset[str]]] = []
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
                name, health.up, health.why, tally.rows, tally.objects, versions - tally.copies, tally.debts
            )
            for (name, tally), health in zip(tallies.items(), grid.health().values(), strict=True)
        ),
    )


async def _union(sites: Sites) -> AsyncGenerator[tuple[_Entry, frozenset[str]]]:
    """Yield each version known, in order, with the sites whose catalogue has its row."""
    walks = {site.name: _walk(site) for site in sites.up()}
    heads = {name: head for name, walk in walks.items() if (head := await anext(walk, None)) is not None}
    while heads:
        entry = min(heads.values())
        holders = frozenset(name for name, head in heads.items() if head[:2] == entry[:2])
        for name in holders:
            head = await anext(walks[name], None)
            if head is None:
                del heads[name]
            else:
                heads[name] = head
        yield entry, holders


async def _walk(site: GridSite) -> AsyncIterator[_Entry]:
    try:
        async for entry in site.catalogue.walk():
            yield entry
    except CatalogueUnavailable as error:
        log.warning("verify.walk_failed", site=site.name, reason=error.reason)


async def _look(grid: Grid, batch: list[tuple[_Entry, frozenset[str]]], tallies: dict[str, _Tally]) -> int:
    await asyncio.gather(*(_look_for(grid, entry, holders, tallies) for entry, holders in batch))
    return len(batch)


async def _look_for(grid: Grid, entry: _Entry, holders: frozenset[str], tallies: dict[str, _Tally]) -> None:
    instance, digest, key = entry
    try:
        sizes = {row.version.digest: row.version.size_bytes for row in await grid.rows_of(instance)}
    except NotEnoughSites:
        sizes = {}
    for site in grid.sites.up():
        try:
            found = (await grid.sites.ask(site, site.objects.head(key))).size_bytes == sizes.get(digest)
        except (SiteFailed, ObjectMissing, ObjectFault):
            found = False
        tally = tallies[site.name]
        tally.rows += site.name in holders
        tally.objects += found
        tally.copies += found and site.name in holders
