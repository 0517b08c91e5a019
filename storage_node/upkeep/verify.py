"""Is everything at every site? Rows, facts and objects are looked for; their bytes are read if that is asked.

Nothing is mended here, and nothing noted.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import structlog

from storage_node.grid.paged import asked
from storage_node.grid.read import BadCopy
from storage_node.grid.sites import SiteFailed
from storage_node.site.protocol import ObjectFault, ObjectMissing
from storage_node.upkeep.pace import all_of, each
from storage_node.upkeep.small_objects import has_fact, has_manifest
from storage_node.upkeep.studies import gone, side_by_side

if TYPE_CHECKING:
    from cluster.nouns import Fact
    from storage_node.catalogue.protocol import Entry
    from storage_node.grid.grid import Grid
    from storage_node.grid.sites import GridSite
    from storage_node.upkeep.rounds import Progress
    from storage_node.upkeep.studies import Name

_AT_ONCE: Final = 64
"""Versions that are looked for at the same time."""
_READ_AT_ONCE: Final = 4
"""Versions whose bytes are read at the same time, at each site."""
_NOT_READ: Final = "its catalogue could not be read to its end"
_FILLING: Final = "it lost its state, and is being filled"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SiteCheck:
    """What one site has of what the cluster knows."""

    site: str
    up: bool
    """Whether it could be asked for everything, and has a vote."""
    why: str
    """Why not; empty when it could and has."""
    rows: int
    """Versions that have a row here."""
    objects: int
    """Versions that have an object of the right size here; if bytes were read, of the right bytes."""
    missing: int
    """Versions known anywhere that lack one of the two here; what was purged has its row alone."""
    facts_missing: int
    """Facts known anywhere that lack their row or their object here."""
    debts: int
    """Debts that are noted here, of whatever site."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What all sites have of what the cluster knows."""

    versions: int
    """Versions that any catalogue that could be reached knows."""
    purged: int
    """Those of them that were deleted so long ago that only their rows are left."""
    facts: int
    """Facts that any of them knows."""
    sites: tuple[SiteCheck, ...]

    @property
    def complete(self) -> bool:
        """Whether each site is up, has everything, and knows of no copy that is owed or bad."""
        return all(site.up and not (site.missing or site.facts_missing or site.debts) for site in self.sites)


@dataclass(slots=True)
class _Tally:
    rows: int = 0
    objects: int = 0
    copies: int = 0
    facts: int = 0
    debts: int = 0


@dataclass(slots=True)
class _Item:
    """A version or a fact, and the sites whose catalogues know it."""

    name: Name
    entries: dict[str, Entry] = field(default_factory=dict)
    fact: Fact | None = None
    knowing: set[str] = field(default_factory=set)
    is_gone: bool = False
    """Whether it was purged: then its row is all that there is to be."""


async def verify(grid: Grid, progress: Progress | None = None, *, deep: bool = False) -> Verification:
    """Look for every version and every fact that any catalogue knows, at every site.

    A site that is down, or goes down meanwhile, counts as lacking what it was not found to have.

    Parameters
    ----------
    grid : Grid
    progress : callable, optional
        Told how many versions were looked for, and how many there are by the catalogue that knows of most.
    deep : bool
        Whether to read each copy and check its digest, too.
    """
    return await _Verifying(grid, progress, deep=deep).run()


class _Verifying:
    def __init__(self, grid: Grid, progress: Progress | None, *, deep: bool) -> None:
        self._grid = grid
        self._sites = grid.sites
        self._progress = progress
        self._deep = deep
        self._tallies = {name: _Tally() for name in grid.sites.names}
        self._failed: set[str] = set()
        self._versions = 0
        self._purged = 0
        self._facts = 0
        self._total = 0

    async def run(self) -> Verification:
        for site in self._sites.up():
            try:
                counts = await self._sites.ask(site, site.catalogue.counts())
            except SiteFailed:
                self._failed.add(site.name)
                continue
            self._tallies[site.name].debts = counts.debts
            self._total = max(self._total, counts.versions)
        await each(self._items(), self._look_for, at_once=_READ_AT_ONCE if self._deep else _AT_ONCE)
        self._tell()
        checks = tuple(self._check(name) for name in self._sites.names)
        return Verification(self._versions, self._purged, self._facts, checks)

    def _check(self, name: str) -> SiteCheck:
        tally, health = self._tallies[name], self._sites.health()[name]
        why = health.why if not health.up else _NOT_READ if name in self._failed else ""
        if not why and health.filling:
            why = _FILLING
        return SiteCheck(
            name,
            not why,
            why,
            tally.rows,
            tally.objects,
            self._versions - tally.copies,
            self._facts - tally.facts,
            tally.debts,
        )

    async def _items(self) -> AsyncGenerator[_Item]:
        """Yield everything that any catalogue knows, study by study."""
        chosen = [site for site in self._sites.up() if site.name not in self._failed]
        async with aclosing(side_by_side(self._sites, chosen, self._failed)) as studies:
            async for uid, _ in studies:
                items: dict[Name, _Item] = {}
                for site in chosen:
                    if site.name not in self._failed:
                        await self._know(site, uid, items)
                for name in gone(item.fact for item in items.values() if item.fact is not None):
                    if name in items:
                        items[name].is_gone = True
                for name in sorted(items):
                    yield items[name]

    async def _know(self, site: GridSite, uid: str, items: dict[Name, _Item]) -> None:
        """Add what a site knows of a study."""
        try:
            entries = [entry async for entry in asked(self._sites, site, site.catalogue.walk(uid))]
            facts = await self._sites.ask(site, site.catalogue.facts_in(uid))
        except SiteFailed as error:
            log.warning("verify.not_read", site=site.name, reason=error.reason)
            self._failed.add(site.name)
            return
        for entry in entries:
            name = entry.instance, entry.digest
            items.setdefault(name, _Item(name)).entries[site.name] = entry
        for fact in facts:
            item = items.setdefault((fact.instance, fact.digest), _Item((fact.instance, fact.digest)))
            item.fact = fact
            item.knowing.add(site.name)

    async def _look_for(self, item: _Item) -> None:
        up = self._sites.up()
        if item.fact is not None:
            self._facts += 1
            fact = item.fact
            found_at = await all_of(self._has_fact(site, fact) for site in up)
            for site, found in zip(up, found_at, strict=True):
                self._tallies[site.name].facts += found and site.name in item.knowing
            return
        self._versions += 1
        if item.is_gone:
            self._purged += 1
            for name in item.entries:
                self._tallies[name].rows += 1
                self._tallies[name].copies += 1
            self._tell()
            return
        found_at = await all_of(self._has_copy(site, item.entries) for site in up)
        for site, found in zip(up, found_at, strict=True):
            tally = self._tallies[site.name]
            tally.rows += site.name in item.entries
            tally.objects += found
            tally.copies += found and site.name in item.entries
        self._tell()

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(self._versions, max(self._total, self._versions))

    async def _has_fact(self, site: GridSite, fact: Fact) -> bool:
        try:
            return await has_fact(self._sites, site, fact)
        except SiteFailed:  # lacking, as far as can be told
            return False

    async def _has_copy(self, site: GridSite, entries: Mapping[str, Entry]) -> bool:
        """Look for the object where the site's own row has it, else where another's has."""
        entry = entries.get(site.name) or next(iter(entries.values()))
        try:
            found = await self._sites.ask(site, site.objects.head(entry.key))
            return (
                found.size_bytes == entry.size_bytes
                and (not entry.is_streamed or await has_manifest(self._sites, site, entry))
                and (not self._deep or await self._is_right(site, entry))
            )
        except (SiteFailed, ObjectMissing, ObjectFault, BadCopy):  # lacking, as far as can be told
            return False

    async def _is_right(self, site: GridSite, entry: Entry) -> bool:
        rows = await self._sites.ask(site, site.catalogue.rows_of(entry.instance))
        version = next((row.version for row in rows if row.version.digest == entry.digest), None)
        if version is None:
            return False
        async with aclosing(self._grid.read_at(site, version)) as pieces:
            async for _ in pieces:
                pass
        return True
