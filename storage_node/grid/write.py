"""Writes: a version or a fact is at W sites, and owed to the others, before anybody is told of success.

A write belongs to the grid, not to who asked for it: when the asker is cancelled, it goes on to its end,
within the sites' time limits.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import prometheus_client
import structlog

from cluster.nouns import FactKind
from storage_node.grid import facts
from storage_node.grid.arrival import Stored
from storage_node.grid.driver import Driver
from storage_node.grid.plan import Refuse
from storage_node.grid.record import FactRecord, VersionRecord
from storage_node.grid.rows import order_among
from storage_node.grid.sites import SiteFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from cluster.nouns import Fact
    from cluster.settings import Resend
    from storage_node.catalogue.protocol import Row
    from storage_node.grid.plan import Acknowledge
    from storage_node.grid.quorum import Quorum
    from storage_node.grid.record import Put, Record
    from storage_node.grid.sites import GridSite, Sites
    from storage_node.grid.tasks import Tasks

LAGGING_LIMIT: Final = 4
"""Writes that may go on at one site after their outcome; past it, new ones pass the site over."""

_WRITES: Final = prometheus_client.Counter(
    "atria_grid_writes_total", "Writes of versions and facts, by what became of them", ["outcome"]
)
_OWED: Final = prometheus_client.Counter(
    "atria_grid_owed_total", "Versions and facts that a site was owed when success was said", ["site"]
)
_REVIVED: Final = prometheus_client.Counter(
    "atria_grid_revived_total", "Instances that were deleted, and are in answers again as they were resent"
)

log = structlog.get_logger()


class NotEnoughSites(Exception):
    """Fewer sites than an answer needs did what was asked: nothing was acknowledged."""

    def __init__(self, answered: int, needed: int, reasons: Mapping[str, str]) -> None:
        why = "; ".join(f"{site}: {reason}" for site, reason in reasons.items())
        super().__init__(f"{answered} of {needed} sites answered{f' ({why})' if why else ''}")
        self.answered = answered
        self.needed = needed
        self.reasons = reasons


class Writer:
    """Writes versions and facts to the sites.

    Parameters
    ----------
    sites : Sites
    quorum : Quorum
    tasks : Tasks
        Owns every write until its end.
    straggler_grace_s : float
        How long the slower sites are waited for once W hold what is written.
    now : callable
        Returns the time, aware.
    new_name : callable
        Returns a random name.
    resend : Resend
        What becomes of an instance that was deleted, when it is stored again.
    """

    def __init__(
        self,
        sites: Sites,
        quorum: Quorum,
        tasks: Tasks,
        *,
        straggler_grace_s: float,
        now: Callable[[], datetime],
        new_name: Callable[[], str],
        resend: Resend,
    ) -> None:
        self.sites = sites
        self.quorum = quorum
        self.tasks = tasks
        self.straggler_grace_s = straggler_grace_s
        self.lagging: Counter[str] = Counter()
        self._now = now
        self._new_name = new_name
        self._resend = resend

    def worth_trying(self) -> tuple[GridSite, ...]:
        """Return the sites to write to now: those that take writes, without those that lag if that is enough.

        Raises
        ------
        NotEnoughSites
            Too few take writes.
        """
        writable = self.sites.writable(at_least=self.quorum.write)
        if len(writable) < self.quorum.write:
            _WRITES.labels(outcome="refused").inc()
            raise NotEnoughSites(len(writable), self.quorum.write, self._why_not_tried(writable))
        quick = tuple(site for site in writable if self.lagging[site.name] < LAGGING_LIMIT)
        tried = quick if len(quick) >= self.quorum.write else writable
        self.sites.will_write(tried)
        return tried

    def _why_not_tried(self, tried: Iterable[GridSite]) -> dict[str, str]:
        names = {site.name for site in tried}
        return {
            name: health.why or "it does not keep up"
            for name, health in self.sites.health().items()
            if name not in names
        }

    async def write(self, row: Row, tried: Sequence[GridSite], put: Put) -> Stored:
        """Write one version to the end. An instance that was deleted is revived by it, or stays deleted.

        Parameters
        ----------
        row : Row
            Its row; the order is found on the way.
        tried : sequence of GridSite
            Where to write it.
        put : callable
            How the object gets to each of them.

        Raises
        ------
        NotEnoughSites
        """
        outcome = await asyncio.shield(self.tasks.spawn(self._write(row, tried, put)))
        if isinstance(outcome, NotEnoughSites):
            raise outcome
        return outcome

    async def decide(self, fact: Fact, *, since: datetime) -> None:
        """Write one fact to the end.

        Parameters
        ----------
        fact : Fact
        since : datetime
            When it began to be found out what the decision rests on.

        Raises
        ------
        NotEnoughSites
            It is not decided, though some sites may know of it: once they tell the others, it is.
        """
        record = FactRecord(self.sites, fact, self._new_name(), since, self._now)
        outcome = await asyncio.shield(self.tasks.spawn(self._drive(record, self.worth_trying())))
        if isinstance(outcome, NotEnoughSites):
            raise outcome

    async def _write(self, row: Row, tried: Sequence[GridSite], put: Put) -> Stored | NotEnoughSites:
        record = VersionRecord(self.sites, row, put, self._now)
        outcome = await self._drive(record, tried)
        if isinstance(outcome, NotEnoughSites):
            return outcome
        order = await self._order_by_all_that_vote(record, outcome.order)
        if isinstance(order, NotEnoughSites):
            return order
        above_purged = facts.order_above_purged(record.met, record.digest)
        if above_purged is not None:
            record = record.again(max(above_purged, order))
        elif order > outcome.order:
            record = record.above(order)
        if record.row.order:
            outcome = await self._drive(record, [site for site in tried if record.has_put(site)])
            if isinstance(outcome, NotEnoughSites):
                return outcome
        refusal = await self._see_to_it_that_it_is_shown(record)
        deleted = facts.was_deleted(record.met)
        return refusal or Stored(row.version, outcome.copies, outcome.owed, outcome.order, deleted)

    async def _order_by_all_that_vote(self, record: VersionRecord, order: int) -> int | NotEnoughSites:
        """Hear from R sites that vote what was decided, and what order the version is to have.

        A site that is being filled takes rows, but what it does not know may be there all the same (design,
        rule 8): where too few others took this one, more are asked. What they say was decided is noted in the
        record.
        """
        health = self.sites.health()
        heard = sum(not health[name].filling for name in record.met)
        for site in self.sites.voters():
            if heard < self.quorum.read and site.name not in record.met:
                instance = record.row.version.instance
                with suppress(SiteFailed):  # its health says so
                    known = await self.sites.ask(site, site.catalogue.rows_of(instance))
                    record.met[site.name] = await self.sites.ask(site, site.catalogue.facts_of(instance))
                    order = max(order, order_among(known, record.digest))
                    heard += 1
        if heard < self.quorum.read:
            return NotEnoughSites(heard, self.quorum.read, self._without_a_word(record))
        return order

    def _without_a_word(self, record: VersionRecord) -> dict[str, str]:
        return {
            name: "it is being filled" if health.filling else health.why or "it did not answer"
            for name, health in self.sites.health().items()
            if health.filling or name not in record.met
        }

    async def _see_to_it_that_it_is_shown(self, record: VersionRecord) -> NotEnoughSites | None:
        """Write the fact, if one is needed, by which success means what the settings say that it does."""
        by = record.row.provenance.calling_ae
        fact = facts.to_be_shown(record.digest, record.met, by=by, at=self._now(), resend=self._resend)
        if fact is None:
            return None
        try:
            await self.decide(fact, since=record.put_since)
        except NotEnoughSites as refusal:
            return refusal
        if fact.kind is FactKind.REVIVED:
            _REVIVED.inc()
        log.info(f"write.{fact.kind.value}", digest=record.digest, epoch=fact.epoch)
        return None

    async def _drive(self, record: Record, tried: Sequence[GridSite]) -> Acknowledge | NotEnoughSites:
        driver = Driver(
            record,
            tried,
            sites=self.sites,
            quorum=self.quorum,
            tasks=self.tasks,
            straggler_grace_s=self.straggler_grace_s,
            lagging=self.lagging,
        )
        outcome = await driver.run()
        if isinstance(outcome, Refuse):
            _WRITES.labels(outcome="refused").inc()
            reasons = self._why_not_tried(tried) | driver.reasons
            return NotEnoughSites(outcome.answered, self.quorum.write, reasons)
        _WRITES.labels(outcome="acknowledged").inc()
        for site in outcome.owed:
            _OWED.labels(site=site).inc()
        return outcome
