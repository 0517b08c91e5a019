"""Purging decides which bytes go: those of what was deleted so long ago that nobody takes it back any more.

It removes nothing: `storage_node.upkeep.collection` does, later, and says why that takes nothing that
anybody was told is there. Here the decision is made, and this is what it rests on:

1. All sites are up, each has its vote, and all know the same rows and facts of the study (design, rule 7). So
   the fact names all versions that there are, and each site knows of the deletion.
2. The fact has the epoch above the deletion's, whatever happens meanwhile. Who takes the deletion back at the
   same time, or stores the instance again, decides with that epoch or a higher one, and his decision holds:
   of the same epoch a purge is the last to. A purge that does not hold takes nothing (`views.purged`).
3. A version that comes meanwhile is not named, and stays.

It may be decided twice, or cut off after any step: what some sites know, repair tells the others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import structlog
from prometheus_client import Counter

from cluster.nouns import FactKind, Instance
from storage_node.catalogue.views import chosen, ruling
from storage_node.grid.facts import UPKEEP, purge
from storage_node.grid.paged import asked
from storage_node.grid.sites import SiteFailed
from storage_node.grid.write import NotEnoughSites
from storage_node.upkeep.pace import each, in_turn
from storage_node.upkeep.presence import NotNow, all_voting
from storage_node.upkeep.retention import retention
from storage_node.upkeep.rounds import Rounds
from storage_node.upkeep.studies import Held, by_subject, owed

if TYPE_CHECKING:
    from cluster.nouns import Fact
    from cluster.settings import Upkeep
    from storage_node.catalogue.protocol import Entry
    from storage_node.grid.grid import Grid
    from storage_node.upkeep.rounds import Progress

_AT_ONCE: Final = 32
"""Instances that are decided about at the same time."""

_PURGED = Counter("atria_purged_instances_total", "Deleted instances whose time in the trash had passed")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Report:
    """What one run decided."""

    studies: int = 0
    """Studies in which something was deleted long enough ago."""
    purged: int = 0
    """Instances whose bytes go."""
    retained: int = 0
    """Instances that were deleted, and are under retention now."""
    differing: int = 0
    """Studies of which the sites do not know the same: they wait until repair is done."""
    why_not: str = ""
    """Why not all was looked at; empty when it was."""


@dataclass(slots=True)
class _Tally:
    progress: Progress | None
    studies: int = 0
    purged: int = 0
    retained: int = 0
    differing: int = 0


class Purging:
    """Decides what is purged. Any number may run at once.

    Parameters
    ----------
    grid : Grid
        With the settings of deletion.
    upkeep : Upkeep
    """

    def __init__(self, grid: Grid, upkeep: Upkeep) -> None:
        self._grid = grid
        self._sites = grid.sites
        self._now = grid.now
        self._interval_s = upkeep.collection_interval_s
        self._trash_days = grid.deletion.trash_days
        self.rounds = Rounds("purging", self.run_once, grid.now)

    async def run_forever(self) -> None:
        """Look again and again for what is to go, until cancelled."""
        await self.rounds.run_forever(self._interval_s)

    async def run_once(self, progress: Progress | None = None) -> Report:
        """Decide about all that was deleted long enough ago; nothing unless all sites are there."""
        before = self._now() - timedelta(days=self._trash_days)
        tally = _Tally(progress)
        why_not = ""
        try:
            async with aclosing(self._due(before)) as studies:
                async for uid in studies:
                    tally.studies += 1
                    await self._purge_study(uid, before, tally)
        except (NotNow, NotEnoughSites, SiteFailed) as reason:
            why_not = str(reason)
            log.warning("purging.interrupted", reason=why_not)
        if tally.purged:
            log.info("purging.done", studies=tally.studies, purged=tally.purged)
        return Report(tally.studies, tally.purged, tally.retained, tally.differing, why_not)

    async def _due(self, before: datetime) -> AsyncGenerator[str]:
        """Yield the studies in which something was deleted before then, by what any one site knows."""
        site = all_voting(self._sites)[0]
        last = ""
        async with aclosing(asked(self._sites, site, site.catalogue.ruled(FactKind.DELETED))) as deletions:
            async for fact in deletions:
                uid = fact.instance.study_instance_uid
                if fact.decided_at <= before and uid != last:
                    last = uid
                    yield uid

    async def _purge_study(self, uid: str, before: datetime, tally: _Tally) -> None:
        since = self._now()
        entries: list[Entry] = []
        facts: list[Fact] = []
        held: dict[str, Held] = {}
        for site in all_voting(self._sites):
            entries = [entry async for entry in asked(self._sites, site, site.catalogue.walk(uid))]
            facts = list(await self._sites.ask(site, site.catalogue.facts_in(uid)))
            held[site.name] = Held.of(entries, facts)
        if owed(held):
            tally.differing += 1
            return
        all_voting(self._sites)
        versions: dict[Instance, list[Entry]] = defaultdict(list)
        for entry in entries:
            versions[entry.instance].append(entry)
        known = by_subject(facts)

        async def decide(instance: Instance) -> None:
            deletion = ruling(known[instance])
            if deletion is None or deletion.kind is not FactKind.DELETED or deletion.decided_at > before:
                return
            if retention(instance, known, since.date()) is not None:
                tally.retained += 1
                return
            if chosen(known[instance]) is not None:
                await self._grid.decide(instance, FactKind.UNCHOSEN, by=UPKEEP, reason="it was purged")
            reason = f"deleted more than {self._trash_days:g} days ago"
            fact = purge(deletion, versions[instance], at=self._now(), reason=reason)
            await self._grid.writer.decide(fact, since=since)
            _PURGED.inc()
            tally.purged += 1
            if tally.progress is not None:
                tally.progress(tally.purged, tally.purged)

        await each(in_turn(sorted(versions.keys() & known.keys())), decide, at_once=_AT_ONCE)
