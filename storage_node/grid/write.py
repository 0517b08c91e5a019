"""One write: what the plan decides is done here, at the sites (design, "Writing, step by step").

A write belongs to the grid, not to who asked for it: when the asker is cancelled, it goes on to its end,
within the sites' time limits. So does a straggler after the acknowledgement: it adds its row, and settles its
debt.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeAlias

import prometheus_client
import structlog

from cluster.nouns import Debt
from storage_node.grid.arrival import Stored
from storage_node.grid.plan import Acknowledge, AddRows, NoteDebts, PutObjects, Refuse, Wait, WritePlan
from storage_node.grid.sites import SiteFailed
from storage_node.site.protocol import ObjectFault

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence

    from storage_node.catalogue.protocol import Row
    from storage_node.grid.quorum import Quorum
    from storage_node.grid.sites import GridSite, Sites
    from storage_node.grid.tasks import Tasks

    Put: TypeAlias = Callable[[], Awaitable[None]]
    """Makes the object durable at one site."""

STRAGGLERS_LIMIT: Final = 4
"""Writes that may go on at one site after their acknowledgement; past it, new ones pass the site over."""

_WRITES = prometheus_client.Counter(
    "atria_grid_writes_total", "Instances written, by what became of them", ["outcome"]
)
_OWED = prometheus_client.Counter(
    "atria_grid_owed_total", "Copies that a site was owed when success was said", ["site"]
)
_CAUGHT_UP = prometheus_client.Counter(
    "atria_grid_caught_up_total", "Stragglers that settled their own debt", ["site"]
)
_PUT_SECONDS = prometheus_client.Histogram(
    "atria_grid_put_seconds", "Time to put one object at one site", ["site"]
)
_ADD_SECONDS = prometheus_client.Histogram(
    "atria_grid_add_seconds", "Time to add one row at one site", ["site"]
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
    """Writes versions to the sites."""

    def __init__(self, sites: Sites, quorum: Quorum, tasks: Tasks, *, straggler_grace_s: float) -> None:
        self.sites = sites
        self.quorum = quorum
        self.tasks = tasks
        self.straggler_grace_s = straggler_grace_s
        self.stragglers: Counter[str] = Counter()

    def worth_trying(self) -> tuple[GridSite, ...]:
        """Return the sites to write to: those that are up, without those that lag, if that leaves enough.

        Raises
        ------
        NotEnoughSites
            Too few are up.
        """
        up = self.sites.up()
        if len(up) < self.quorum.write:
            health = self.sites.health()
            reasons = {name: state.why for name, state in health.items() if not state.up}
            _WRITES.labels(outcome="refused").inc()
            raise NotEnoughSites(len(up), self.quorum.write, reasons)
        quick = tuple(site for site in up if self.stragglers[site.name] < STRAGGLERS_LIMIT)
        return quick if len(quick) >= self.quorum.write else up

    async def write(self, row: Row, puts: Mapping[str, Put]) -> Stored:
        """Write one version to the end.

        Parameters
        ----------
        row : Row
            Its row; the order is found on the way.
        puts : mapping of str to callable
            How the object gets to each site that is tried.

        Raises
        ------
        NotEnoughSites
        """
        outcome = await asyncio.shield(self.tasks.spawn(_Write(self, row, puts).run()))
        if isinstance(outcome, NotEnoughSites):
            raise outcome
        return outcome


class _Write:
    def __init__(self, writer: Writer, row: Row, puts: Mapping[str, Put]) -> None:
        self._writer = writer
        self._sites = writer.sites
        self._tasks = writer.tasks
        self._row = row
        self._puts = puts
        self._plan = WritePlan(self._sites.names, puts, writer.quorum)
        self._told = asyncio.Event()
        self._acknowledged: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self._grace_ends: float | None = None
        self._reasons: dict[str, str] = {}
        self._unfinished: Counter[str] = Counter()
        self._late: set[str] = set()

    async def run(self) -> Stored | NotEnoughSites:
        """Take step after step until the plan has an outcome."""
        try:
            while True:
                match self._plan.next_step():
                    case Acknowledge(copies, owed, order):
                        return self._succeed(copies, owed, order)
                    case Refuse(answered):
                        return self._refuse(answered)
                    case Wait(grace):
                        await self._wait(grace=grace)
                    case step:
                        self._begin(step)
        finally:
            if not self._acknowledged.done():
                self._acknowledged.set_result(None)

    def _begin(self, step: PutObjects | AddRows | NoteDebts) -> None:
        self._grace_ends = None
        for name in step.sites:
            site = self._sites[name]
            match step:
                case PutObjects():
                    work, failed = self._put(site), self._plan.object_failed
                case AddRows(_, owed, order):
                    row = replace(self._row, order=order)
                    work, failed = self._add(site, row, self._debts(owed)), self._plan.row_failed
                case NoteDebts(_, owed):
                    work, failed = self._note(site, self._debts(owed)), self._plan.debts_failed
            self._unfinished[name] += 1
            self._tasks.spawn(self._told_when_done(site, work, failed))

    async def _told_when_done(
        self, site: GridSite, work: Coroutine[None, None, None], failed: Callable[[str], None]
    ) -> None:
        try:
            await work
        except (SiteFailed, ObjectFault) as error:
            self._failed(site, error.reason if isinstance(error, SiteFailed) else str(error))
            failed(site.name)
        except Exception as error:  # a fault of our own must not leave the write waiting for ever
            log.exception("write.fault", site=site.name)
            self._failed(site, repr(error))
            failed(site.name)
        finally:
            self._unfinished[site.name] -= 1
            if site.name in self._late and not self._unfinished[site.name]:
                self._late.discard(site.name)
                self._writer.stragglers[site.name] -= 1
            self._told.set()

    async def _wait(self, *, grace: bool) -> None:
        self._told.clear()
        if not grace:
            await self._told.wait()
            return
        if self._grace_ends is None:
            self._grace_ends = asyncio.get_running_loop().time() + self._writer.straggler_grace_s
        try:
            async with asyncio.timeout_at(self._grace_ends):
                await self._told.wait()
        except TimeoutError:
            self._plan.grace_over()

    async def _put(self, site: GridSite) -> None:
        with _PUT_SECONDS.labels(site=site.name).time():
            await self._sites.ask(site, self._puts[site.name]())
        if not self._plan.object_done(site.name):
            await self._catch_up(site)

    async def _add(self, site: GridSite, row: Row, debts: Sequence[Debt]) -> None:
        with _ADD_SECONDS.labels(site=site.name).time():
            order = await self._sites.ask(site, site.catalogue.add(row, debts))
        if not self._plan.row_done(site.name, order):
            await self._catch_up(site)

    async def _note(self, site: GridSite, debts: Sequence[Debt]) -> None:
        await self._sites.ask(site, site.catalogue.owe(debts))
        self._plan.debts_done(site.name)

    async def _catch_up(self, site: GridSite) -> None:
        """Complete the copy of a straggler, if the write was acknowledged; else leave its debt to repair."""
        order = await self._acknowledged
        if order is None:
            return
        try:
            held = replace(self._row, order=order)
            if await self._sites.ask(site, site.catalogue.add(held)) != order:
                return
            for other in self._sites.up():
                await self._sites.ask(other, other.catalogue.settle(site.name, held))
        except SiteFailed as error:
            log.warning("write.not_caught_up", site=site.name, failed=error.site, reason=error.reason)
        else:
            _CAUGHT_UP.labels(site=site.name).inc()

    def _debts(self, owed: Iterable[str]) -> tuple[Debt, ...]:
        version = self._row.version
        return tuple(Debt(site, version.instance, version.digest) for site in owed)

    def _failed(self, site: GridSite, reason: str) -> None:
        self._reasons[site.name] = reason
        log.warning("write.site_failed", site=site.name, reason=reason, digest=self._row.version.digest)

    def _succeed(self, copies: tuple[str, ...], owed: tuple[str, ...], order: int) -> Stored:
        self._end(order)
        _WRITES.labels(outcome="acknowledged").inc()
        for site in owed:
            _OWED.labels(site=site).inc()
        return Stored(self._row.version, copies, owed)

    def _refuse(self, answered: int) -> NotEnoughSites:
        self._end(None)
        _WRITES.labels(outcome="refused").inc()
        return NotEnoughSites(answered, self._writer.quorum.write, self._reasons)

    def _end(self, order: int | None) -> None:
        self._acknowledged.set_result(order)
        self._late = {site for site, unfinished in self._unfinished.items() if unfinished}
        self._writer.stragglers.update(self._late)
