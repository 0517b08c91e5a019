"""Rebuilding makes a site's catalogue from its own objects (design, rule 4).

It is for a site whose catalogue is lost or damaged and whose objects are not. The site is filling all the
while, so that nobody takes for absent what is not there yet, and takes writes; rows and facts are only ever
added. What the objects do not say comes from the other catalogues that can be reached: the order of versions,
and what was odd behind the header. Where none knows a version, those of one instance are ordered by when they
were received, then by digest. Afterwards the site is filled with what it lacks, like any other.

It may be stopped at any moment, and goes on from there: a row that is there with its key saves the reading.
Several that rebuild the same site know nothing of each other: each goes its own random way.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import structlog
from prometheus_client import Counter

from cluster.nouns import Debt
from storage_node.grid import copies, keys
from storage_node.grid.paged import asked
from storage_node.grid.sites import SiteFailed
from storage_node.upkeep.notes import note
from storage_node.upkeep.pace import each, in_turn
from storage_node.upkeep.rebuild_study import Study, ordered
from storage_node.upkeep.rounds import Rounds

if TYPE_CHECKING:
    from cluster.nouns import SiteIdentity
    from storage_node.grid.copies import Found
    from storage_node.grid.grid import Grid
    from storage_node.grid.sites import GridSite
    from storage_node.upkeep.rounds import Progress

STUDIES_AT_ONCE: Final = 8
INSTANCES_AT_ONCE: Final = 8
"""Of each study; their rows share transactions."""
RETRY_INTERVAL_S: Final = 15.0
"""How long after a run that could not finish the next one begins."""

_NAMED: Final = 100
"""Keys of unreadable copies that a report names."""
_ADDED = Counter(
    "atria_rebuild_added_total", "Rows of versions and facts that were made from objects", ["kind", "site"]
)
_UNREADABLE = Counter("atria_rebuild_unreadable_total", "Objects that could not be made rows of", ["site"])

log = structlog.get_logger()


class Roster(Protocol):
    """The cluster's record of its sites."""

    async def rebuilt(self, identity: SiteIdentity) -> None:
        """Record that this generation of a site has in its catalogue what its objects are."""


@dataclass(frozen=True, slots=True)
class Report:
    """What one run did."""

    rebuilt: tuple[str, ...] = ()
    """Sites whose catalogues have all that their objects say."""
    left: tuple[str, ...] = ()
    """Sites that could not be read to the end."""
    copies: int = 0
    """Copies that were found."""
    added: int = 0
    """Those of them that had no row, and have one now."""
    facts: int = 0
    """Facts that were added."""
    unreadable: int = 0
    """Copies and facts whose objects cannot be read, or are not what their keys say."""
    unreadable_keys: tuple[str, ...] = ()
    """Their keys, as `site/key`: the first of them."""
    owed: int = 0
    """Copies with something wrong that another site has, too, and that were noted as debts."""
    without_provenance: int = 0
    """Copies that do not say who sent them, when: their rows say what another site's do, or else when they
    were written. They are among those that are owed where another site has them."""
    not_read: tuple[str, ...] = ()
    """Other sites whose catalogues could not be asked, or not all of the time."""


@dataclass(slots=True)
class _Tally:
    progress: Progress | None
    folders: int = 0
    folders_done: int = 0
    copies: int = 0
    added: int = 0
    facts: int = 0
    owed: int = 0
    without_provenance: int = 0
    unreadable: list[str] = field(default_factory=list)
    not_read: set[str] = field(default_factory=set)

    def looked(self, found: int) -> None:
        """Tell of so many copies; how many there are in all is estimated from the studies that are done."""
        self.copies += found
        if self.progress is not None and self.folders_done:
            self.progress(self.copies, self.copies * self.folders // self.folders_done)


class Rebuild:
    """Makes catalogues from objects. Any number may run at once.

    Parameters
    ----------
    grid : Grid
    roster : Roster
        Is told of a site that was read to its end.
    header_limit_bytes : int
        How much of a header a catalogue keeps, as when it is stored.
    """

    def __init__(self, grid: Grid, roster: Roster, *, header_limit_bytes: int) -> None:
        self._sites = grid.sites
        self._roster = roster
        self._header_limit_bytes = header_limit_bytes
        self._random = random.Random(grid.new_name())  # noqa: S311  # no secret: an order
        self.rounds = Rounds("rebuild", self.run_once, grid.now)

    async def run_forever(self) -> None:
        """Rebuild whatever site comes to need it, until cancelled."""
        await self.rounds.run_forever(RETRY_INTERVAL_S, ready=self._one_is_to_be_rebuilt)

    async def _one_is_to_be_rebuilt(self) -> None:
        await self._sites.wait_until(
            lambda health: any(
                state.up and self._sites[name].membership.rebuilding for name, state in health.items()
            )
        )

    async def run_once(self, progress: Progress | None = None, names: Collection[str] = ()) -> Report:
        """Rebuild sites that can be reached, one after the other.

        Parameters
        ----------
        progress : callable, optional
        names : collection of str
            The sites, though another may have rebuilt them by now; those that are to be, if it is empty.
        """
        tally = _Tally(progress)
        rebuilt: list[str] = []
        left: list[str] = []
        for site in self._sites.up():
            if site.name in names or (not names and site.membership.rebuilding):
                (rebuilt if await self._rebuild(site, tally) else left).append(site.name)
        return Report(
            tuple(rebuilt),
            tuple(left),
            tally.copies,
            tally.added,
            tally.facts,
            len(tally.unreadable),
            tuple(tally.unreadable[:_NAMED]),
            tally.owed,
            tally.without_provenance,
            tuple(sorted(tally.not_read)),
        )

    async def _rebuild(self, site: GridSite, tally: _Tally) -> bool:
        """Rebuild one site; return whether it was read to its end."""
        identity = site.membership.identity
        log.info("rebuild.began", site=site.name, generation=identity.generation)
        try:
            await self._add_facts(site, tally)
            folders = [
                folder
                async for folder in asked(self._sites, site, site.objects.folders())
                if not folder.startswith("_")
            ]
            self._random.shuffle(folders)
            tally.folders += len(folders)

            async def add_study(folder: str) -> None:
                await self._add_study(site, folder, tally)

            await each(in_turn(folders), add_study, at_once=STUDIES_AT_ONCE)
        except SiteFailed as error:
            log.warning("rebuild.interrupted", site=site.name, reason=str(error))
            return False
        await self._roster.rebuilt(identity)
        self._sites.probe_soon(site)
        log.info("rebuild.done", site=site.name, added=tally.added, facts=tally.facts)
        return True

    async def _add_facts(self, site: GridSite, tally: _Tally) -> None:
        """Add the facts first: what is hidden does not show in between."""
        objects = asked(self._sites, site, site.objects.list(f"{keys.FACTS}/"))
        async with aclosing(objects):
            found = [listed.key async for listed in objects]

        async def add(key: str) -> None:
            try:
                fact = await copies.fact(self._sites, site, key)
            except copies.Unreadable as error:
                self._unreadable(site, key, error, tally)
                return
            await self._sites.ask(site, site.catalogue.decide(fact))
            _ADDED.labels(kind="fact", site=site.name).inc()
            tally.facts += 1

        await each(in_turn(found), add, at_once=STUDIES_AT_ONCE * INSTANCES_AT_ONCE)

    async def _add_study(self, site: GridSite, folder: str, tally: _Tally) -> None:
        study = Study(self._sites, site, folder, self._header_limit_bytes)
        await study.look(tally.not_read)

        async def add_instance(found: Sequence[Found]) -> None:
            try:
                await self._add_instance(study, found, tally)
            except SiteFailed:
                raise
            except Exception as error:  # one instance that is at fault must not keep the others away
                log.exception("rebuild.fault", site=site.name, key=found[0].key)
                self._unreadable(site, found[0].key, error, tally)

        await each(in_turn(study.instances), add_instance, at_once=INSTANCES_AT_ONCE)
        tally.folders_done += 1
        tally.looked(0)

    async def _add_instance(self, study: Study, found: Sequence[Found], tally: _Tally) -> None:
        """Add the rows of an instance's versions, one by one: each may decide the next one's order."""
        site = study.site
        read: list[tuple[Found, copies.Copy]] = []
        for one in found:
            if study.has_row(one):
                continue
            try:
                read.append((one, await study.read(one)))
            except copies.Unreadable as error:
                self._unreadable(site, one.key, error, tally)
                await self._note(study, one, tally)
        for one, copy in ordered(read):
            await self._sites.ask(site, site.catalogue.add(copy.row, verified_at=one.modified_at))
            _ADDED.labels(kind="version", site=site.name).inc()
            tally.added += 1
            if not copy.has_provenance:
                log.warning("rebuild.no_provenance", site=site.name, key=one.key)
                tally.without_provenance += 1
                await self._note(study, one, tally)
        tally.looked(len(found))

    def _unreadable(self, site: GridSite, key: str, error: Exception, tally: _Tally) -> None:
        log.warning("rebuild.unreadable", site=site.name, key=key, reason=str(error))
        _UNREADABLE.labels(site=site.name).inc()
        tally.unreadable.append(f"{site.name}/{key}")

    async def _note(self, study: Study, found: Found, tally: _Tally) -> None:
        """Note as a debt what another site has: repair will copy it."""
        known = study.elsewhere(found)
        if known is not None:
            await note(self._sites, [Debt(study.site.name, known.instance, found.digest)], kind="missing")
            tally.owed += 1
