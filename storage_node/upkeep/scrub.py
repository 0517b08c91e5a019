"""Scrub reads every copy again within a set number of days, and checks its digest.

A copy is read again when half of that period has passed since it was last known to be right; those that are
are read at such a rate that all of a site could be read in the other half. So what was written in one day is
not all read in one day, and nothing is read later than it has to be. A copy that is found bad is a debt of
its site. A site that does not answer says nothing of its copies.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import structlog
from prometheus_client import Counter

from cluster.nouns import Debt
from storage_node.catalogue.views import purged
from storage_node.grid.read import BadCopy
from storage_node.grid.sites import SiteFailed
from storage_node.site.protocol import ObjectFault, ObjectMissing
from storage_node.upkeep.notes import note
from storage_node.upkeep.pace import Pace, all_of, each, in_turn
from storage_node.upkeep.rounds import SiteRounds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cluster.nouns import Instance
    from cluster.settings import Upkeep
    from storage_node.catalogue.protocol import Entry
    from storage_node.grid.grid import Grid
    from storage_node.grid.sites import GridSite
    from storage_node.upkeep.rounds import Progress

_BATCH: Final = 100
"""Copies that are read before it is noted that they are right."""
_AT_ONCE: Final = 4
"""Copies that are read at one site at the same time."""
_BAD_LIMIT: Final = 1000
"""Bad copies at one site after which the rest of it waits for the next round: they are repaired first."""
_ROUND_INTERVAL_S: Final = 600.0
_SECONDS_A_DAY: Final = 86400

_READ = Counter("atria_scrub_read_total", "Copies that were read and checked", ["site"])
_READ_BYTES = Counter("atria_scrub_read_bytes_total", "Bytes of copies that were read and checked", ["site"])

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Report:
    """What one run found."""

    read: int
    """Copies that were read, at all sites."""
    bad: int
    """Those that are missing, damaged or wrong, which were noted as debts."""
    interrupted: tuple[str, ...]
    """Sites that were down, or went away, or have so many bad copies that these come first."""


@dataclass(slots=True)
class _Tally:
    progress: Progress | None
    total: int = 0
    read: int = 0
    bad: int = 0


@dataclass(slots=True)
class _Pass:
    """One pass over what is due at one site."""

    site: GridSite
    before: datetime
    pace: Pace
    right: list[tuple[Instance, str]] = field(default_factory=list)
    bad: set[tuple[Instance, str]] = field(default_factory=set)


class Scrub:
    """Re-reads copies. Any number may run at once: they would read the same, and no harm is done."""

    def __init__(self, grid: Grid, upkeep: Upkeep) -> None:
        self._grid = grid
        self._sites = grid.sites
        self._now = grid.now
        self._half = timedelta(days=upkeep.scrub_period_days) / 2
        self.rounds = SiteRounds("scrub", self._spread, grid.sites.names, grid.now)

    async def run_forever(self) -> None:
        """Read what becomes due at each site, spread over the period, until cancelled.

        A round may take half of the period: that of one site, which was away, does not wait for the others'.
        """
        await self.rounds.run_forever(_ROUND_INTERVAL_S)

    async def run_once(self, progress: Progress | None = None, *, everything: bool = False) -> Report:
        """Read what is due, as fast as it goes; or every copy of every site that is up."""
        before = self._now() if everything else self._now() - self._half
        return await self._run(self._sites.names, before, progress, spread=False)

    async def _spread(self, name: str) -> Report:
        return await self._run((name,), self._now() - self._half, None, spread=True)

    async def _run(
        self, names: Sequence[str], before: datetime, progress: Progress | None, *, spread: bool
    ) -> Report:
        tally = _Tally(progress)
        up = [site for site in self._sites.up() if site.name in names]
        done = await all_of(self._scrub(site, before, tally, spread=spread) for site in up)
        ended = {site.name for site, to_the_end in zip(up, done, strict=True) if to_the_end}
        interrupted = tuple(name for name in names if name not in ended)
        if tally.read:
            log.info("scrub.done", read=tally.read, bad=tally.bad, interrupted=interrupted)
        return Report(tally.read, tally.bad, interrupted)

    async def _scrub(self, site: GridSite, before: datetime, tally: _Tally, *, spread: bool) -> bool:
        """Read what is due at one site; return whether that was all."""
        try:
            counts = await self._sites.ask(site, site.catalogue.counts())
            tally.total += counts.versions
            bytes_per_s = max(counts.size_bytes, 1) / self._half.total_seconds() if spread else None
            one = _Pass(site, before, Pace(bytes_per_s))
            while len(one.bad) < _BAD_LIMIT:
                due = site.catalogue.least_verified(before, _BATCH + len(one.bad))
                entries = [
                    entry
                    for entry in await self._sites.ask(site, due)
                    if (entry.instance, entry.digest) not in one.bad
                ]
                if not entries:
                    return True
                await self._read_batch(one, entries, tally)
        except SiteFailed as error:
            log.warning("scrub.interrupted", site=site.name, reason=error.reason)
        return False

    async def _read_batch(self, one: _Pass, entries: list[Entry], tally: _Tally) -> None:
        """Read some copies, and note what was found, also of those that were read before the site failed."""
        began = max(self._now(), one.before)  # a clock that was put back must not make them due again
        one.right.clear()
        known_bad = set(one.bad)

        async def read(entry: Entry) -> None:
            await one.pace.spend(entry.size_bytes)
            name = entry.instance, entry.digest
            if await self.is_right(one.site, entry):
                one.right.append(name)
            else:
                one.bad.add(name)
            tally.read += 1
            if tally.progress is not None:
                tally.progress(tally.read, max(tally.read, tally.total))

        try:
            await each(in_turn(entries), read, at_once=_AT_ONCE)
        finally:
            found = sorted(one.bad - known_bad)
            tally.bad += len(found)
            await note(self._sites, [Debt(one.site.name, *name) for name in found], kind="bad")
        await self._sites.ask(one.site, one.site.catalogue.verified(one.right, began))

    async def is_right(self, site: GridSite, entry: Entry) -> bool:
        """Read one site's copy of a version; return whether it is there, and right, or was purged.

        Raises
        ------
        SiteFailed
        """
        rows = await self._sites.ask(site, site.catalogue.rows_of(entry.instance))
        version = next((row.version for row in rows if row.version.digest == entry.digest), None)
        if version is None:
            return False
        try:
            async with aclosing(self._grid.read_at(site, version)) as pieces:
                async for piece in pieces:
                    _READ_BYTES.labels(site=site.name).inc(len(piece))
        except (BadCopy, ObjectMissing, ObjectFault) as error:
            if entry.digest in purged(await self._sites.ask(site, site.catalogue.facts_of(entry.instance))):
                return True
            log.warning("scrub.bad_copy", site=site.name, digest=entry.digest, reason=str(error))
            return False
        _READ.labels(site=site.name).inc()
        return True
