"""Where is an instance? Its versions and what was decided about it, and what each site has of them."""

from __future__ import annotations

import sys
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cluster.nouns import Instance, Level
from storage_node.catalogue.matching import by_uids
from storage_node.catalogue.views import chosen, is_hidden, purged
from storage_node.grid import rows
from storage_node.grid.paged import asked
from storage_node.grid.sites import SiteFailed
from storage_node.grid.write import NotEnoughSites
from storage_node.site.protocol import ObjectFault, ObjectMissing
from storage_node.upkeep.pace import all_of

if TYPE_CHECKING:
    from datetime import datetime

    from cluster.nouns import Fact, Provenance
    from storage_node.catalogue.matching import Query
    from storage_node.catalogue.protocol import Entry, Row
    from storage_node.grid.grid import Grid
    from storage_node.grid.sites import GridSite


@dataclass(frozen=True, slots=True)
class CopyAt:
    """One version at one site."""

    site: str
    state: str
    """`ok`, `purged`, or what is wrong: `no row`, `missing`, `wrong size`, `unreadable`, or why the site is
    down."""
    key: str = ""
    size_bytes: int = 0
    """Size of the object that is there."""
    verified_at: datetime | None = None
    """When the copy was last known to have the right bytes."""


@dataclass(frozen=True, slots=True)
class VersionAt:
    """One version, and where it is."""

    digest: str
    size_bytes: int
    transfer_syntax_uid: str
    order: int
    provenance: Provenance
    copies: tuple[CopyAt, ...]


@dataclass(frozen=True, slots=True)
class FactAt:
    """Something that was decided, and which sites know it."""

    fact: Fact
    sites: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Everything that is known of one instance."""

    instance: Instance
    hidden: bool
    """Whether it was deleted or rejected, and is in no answer."""
    versions: tuple[VersionAt, ...]
    """The current one first."""
    facts: tuple[FactAt, ...]
    """The one that holds first."""


async def where(grid: Grid, sop_instance_uid: str) -> list[Whereabouts]:
    """Return what is known of the instances with a SOP Instance UID: one, unless a sender was wrong.

    Parameters
    ----------
    grid : Grid
    sop_instance_uid : str

    Raises
    ------
    NotEnoughSites
        No catalogue answers.
    """
    found = await instances(grid, by_uids(sop=(sop_instance_uid,)))
    return [await _whereabouts(grid, instance) for instance in found]


async def instances(grid: Grid, query: Query) -> list[Instance]:
    """Return the instances that a query at IMAGE level matches at any site that is up, hidden ones too.

    Raises
    ------
    NotEnoughSites
        No catalogue answers.
    """
    assert query.level is Level.IMAGE

    async def at(site: GridSite) -> list[Instance]:
        matches = asked(grid.sites, site, site.catalogue.find(query, sys.maxsize))
        try:
            return [Instance(*match.uid) async for match in matches]
        except SiteFailed as error:
            reasons[site.name] = error.reason
            return []

    reasons = {name: health.why for name, health in grid.sites.health().items() if not health.up}
    found = await all_of(at(site) for site in grid.sites.up())
    if len(reasons) == len(grid.sites.names):
        raise NotEnoughSites(0, 1, reasons)
    return sorted({instance for of_site in found for instance in of_site})


async def _whereabouts(grid: Grid, instance: Instance) -> Whereabouts:
    at_sites = await grid.rows_at_sites(instance)
    facts_at = await grid.facts_at_sites(instance)
    facts = {fact.digest: fact for known in facts_at.values() for fact in known}
    gone = purged(facts.values())
    versions = [
        await _version_at(grid, row, is_gone=row.version.digest in gone)
        for row in rows.merge(at_sites.values(), chosen(facts.values()))
    ]
    return Whereabouts(
        instance,
        is_hidden(facts.values()),
        tuple(versions),
        tuple(
            FactAt(fact, tuple(name for name, known in facts_at.items() if fact in known))
            for fact in sorted(facts.values(), key=lambda fact: (-fact.epoch, fact.kind, fact.digest))
        ),
    )


async def _version_at(grid: Grid, row: Row, *, is_gone: bool) -> VersionAt:
    names = grid.sites.names
    copies = await all_of(_copy_at(grid, name, row, is_gone=is_gone) for name in names)
    version = row.version
    return VersionAt(
        version.digest,
        version.size_bytes,
        version.transfer_syntax_uid,
        row.order,
        row.provenance,
        tuple(copies),
    )


async def _copy_at(grid: Grid, name: str, row: Row, *, is_gone: bool) -> CopyAt:
    site, health = grid.sites[name], grid.sites.health()[name]
    if not health.up:
        return CopyAt(name, health.why)
    try:
        entry = await _entry(grid, site, row)
        if entry is None:
            return CopyAt(name, "no row")
        return await _look(grid, site, entry, is_gone=is_gone)
    except SiteFailed as error:
        return CopyAt(name, error.reason)


async def _entry(grid: Grid, site: GridSite, row: Row) -> Entry | None:
    instance = row.version.instance
    walk = asked(grid.sites, site, site.catalogue.walk(instance.study_instance_uid))
    async with aclosing(walk):
        async for entry in walk:
            if (entry.instance, entry.digest) == (instance, row.version.digest):
                return entry
    return None


async def _look(grid: Grid, site: GridSite, entry: Entry, *, is_gone: bool) -> CopyAt:
    state, size_bytes = "ok", 0
    try:
        size_bytes = (await grid.sites.ask(site, site.objects.head(entry.key))).size_bytes
    except ObjectMissing:
        state = "purged" if is_gone else "missing"
    except ObjectFault as fault:
        state = f"unreadable: {fault}"
    else:
        if size_bytes != entry.size_bytes:
            state = "wrong size"
    return CopyAt(site.name, state, entry.key, size_bytes, entry.verified_at)
