"""Listing compares each site's bucket with its catalogue: rows that lack their object, facts without a row.

An object that is gone behind Atria's back, or is of another size, is a debt of that site, unless it was
purged; so is a fact or a manifest whose bytes are wrong: these are small, and read each time. A fact's object
that has no row gets its row again: what was decided is true wherever it is found (design, rule 4). Nothing is
removed here; objects that have no row are the business of `storage_node.upkeep.collection`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from cluster.nouns import Debt
from storage_node.grid import copies, keys
from storage_node.grid.paged import asked
from storage_node.grid.sites import SiteFailed
from storage_node.site.protocol import ObjectFault, ObjectMissing
from storage_node.upkeep.notes import FOUND, MENDED, note
from storage_node.upkeep.pace import all_of
from storage_node.upkeep.rounds import Rounds
from storage_node.upkeep.small_objects import has_fact, has_manifest
from storage_node.upkeep.studies import gone

if TYPE_CHECKING:
    from cluster.settings import Upkeep
    from storage_node.catalogue.protocol import Entry
    from storage_node.grid.grid import Grid
    from storage_node.grid.sites import GridSite
    from storage_node.upkeep.rounds import Progress

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Report:
    """What one run found."""

    rows: int
    """Rows of versions and facts that were looked at, at all sites."""
    missing: int
    """Those whose object is not there, or not of their size, which were noted as debts."""
    facts_found: int
    """Facts that had an object and no row, and have one again."""
    not_listed: tuple[str, ...]
    """Sites that are down, or could not be listed to the end."""


@dataclass(slots=True)
class _Tally:
    progress: Progress | None
    total: int = 0
    rows: int = 0
    missing: int = 0
    facts_found: int = 0

    def looked(self, rows: int) -> None:
        self.rows += rows
        if self.progress is not None:
            self.progress(self.rows, max(self.rows, self.total))


class Listing:
    """Compares buckets with catalogues. Any number may run at once."""

    def __init__(self, grid: Grid, upkeep: Upkeep) -> None:
        self._sites = grid.sites
        self._interval_s = upkeep.collection_interval_s
        self.rounds = Rounds("listing", self.run_once, grid.now)

    async def run_forever(self) -> None:
        """Compare again and again, until cancelled."""
        await self.rounds.run_forever(self._interval_s)

    async def run_once(self, progress: Progress | None = None) -> Report:
        """Compare all sites that are up, at the same time."""
        tally = _Tally(progress)
        up = self._sites.up()
        done = await all_of(self._compare(site, tally) for site in up)
        listed = {site.name for site, to_the_end in zip(up, done, strict=True) if to_the_end}
        not_listed = tuple(name for name in self._sites.names if name not in listed)
        return Report(tally.rows, tally.missing, tally.facts_found, not_listed)

    async def _compare(self, site: GridSite, tally: _Tally) -> bool:
        """Compare one site; return whether it went to the end."""
        known: set[str] = set()
        try:
            tally.total += (await self._sites.ask(site, site.catalogue.counts())).versions
            async with aclosing(asked(self._sites, site, site.catalogue.studies())) as studies:
                async for summary in studies:
                    await self._compare_study(site, summary.study_instance_uid, known, tally)
            await self._look_for_facts(site, known, tally)
        except SiteFailed as error:
            log.warning("listing.interrupted", site=site.name, reason=error.reason)
            return False
        return True

    async def _compare_study(self, site: GridSite, uid: str, known: set[str], tally: _Tally) -> None:
        """Look for the objects of a study's rows; `known` is told of its facts."""
        entries = [entry async for entry in asked(self._sites, site, site.catalogue.walk(uid))]
        facts = await self._sites.ask(site, site.catalogue.facts_in(uid))
        purged = gone(facts)
        listed = await self._listed(site, f"{keys.study_folder(uid)}/") if entries else {}
        suspected = [
            entry
            for entry in entries
            if (entry.instance, entry.digest) not in purged
            and (entry.is_streamed or listed.get(entry.key) != entry.size_bytes)
        ]
        debts = [
            Debt(site.name, entry.instance, entry.digest)
            for entry in suspected
            if await self._lacks(site, entry)
        ]
        for fact in facts:
            known.add(fact.digest)
            if not await has_fact(self._sites, site, fact):
                debts.append(Debt(site.name, fact.instance, fact.digest))
        await note(self._sites, debts, kind="missing")
        tally.missing += len(debts)
        tally.looked(len(entries) + len(facts))

    async def _listed(self, site: GridSite, prefix: str) -> Mapping[str, int]:
        """Return the size of each object whose key begins so, by key."""
        objects = asked(self._sites, site, site.objects.list(prefix))
        return {found.key: found.size_bytes async for found in objects}

    async def _lacks(self, site: GridSite, entry: Entry) -> bool:
        """Look again, by the key that the row has now: it may have been put elsewhere meanwhile."""
        rows = await self._sites.ask(site, site.catalogue.rows_of(entry.instance))
        key = next((row.version.key for row in rows if row.version.digest == entry.digest), entry.key)
        try:
            found = await self._sites.ask(site, site.objects.head(key))
        except (ObjectMissing, ObjectFault) as error:
            log.warning("listing.missing", site=site.name, key=key, reason=repr(error))
            return True
        if found.size_bytes != entry.size_bytes:
            log.warning("listing.wrong_size", site=site.name, key=key, size_bytes=found.size_bytes)
            return True
        return entry.is_streamed and not await has_manifest(self._sites, site, entry)

    async def _look_for_facts(self, site: GridSite, known: set[str], tally: _Tally) -> None:
        """Give the facts that are in the bucket, and not in the catalogue, their rows."""
        objects = asked(self._sites, site, site.objects.list(f"{keys.FACTS}/"))
        async with aclosing(objects):
            unknown = [found.key async for found in objects if keys.digest_in(found.key) not in known]
        for key in unknown:
            try:
                fact = await copies.fact(self._sites, site, key)
            except copies.Unreadable as error:
                log.warning("listing.fact_unreadable", site=site.name, key=key, reason=str(error))
                continue
            FOUND.labels(kind="fact", site=site.name).inc()
            await self._sites.ask(site, site.catalogue.decide(fact))
            MENDED.labels(kind="fact_row", site=site.name).inc()
            tally.facts_found += 1
