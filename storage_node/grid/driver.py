"""One write: what the plan decides is done here, at the sites (design, "Writing, step by step").

A straggler goes on after the acknowledgement: it adds its row, and settles its debt. What it adds is what was
acknowledged and no more: it decides nothing, and so revives nothing that was deleted since.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Final

import prometheus_client
import structlog

from storage_node.grid.plan import Acknowledge, AddRows, NoteDebts, PutObjects, Refuse, Wait, WritePlan
from storage_node.grid.sites import SiteFailed
from storage_node.site.protocol import ObjectFault

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence

    from cluster.nouns import Debt
    from storage_node.grid.quorum import Quorum
    from storage_node.grid.record import Record
    from storage_node.grid.sites import GridSite, Sites
    from storage_node.grid.tasks import Tasks

_CAUGHT_UP: Final = prometheus_client.Counter(
    "atria_grid_caught_up_total", "Stragglers that settled their own debt", ["site"]
)
_PUT_SECONDS: Final = prometheus_client.Histogram(
    "atria_grid_put_seconds", "Time to put one object at one site", ["site"]
)
_ADD_SECONDS: Final = prometheus_client.Histogram(
    "atria_grid_add_seconds", "Time to add one row at one site", ["site"]
)

log = structlog.get_logger()


class Driver:
    """Does one plan's steps, all sites at once, until there is an outcome.

    Parameters
    ----------
    record : Record
        What is written.
    tried : sequence of GridSite
        The sites to write to, as they are now: one that is replaced meanwhile is another site.
    sites : Sites
    quorum : Quorum
    tasks : Tasks
        Owns what is begun at the sites, which may outlive the outcome.
    straggler_grace_s : float
        How long the slower sites are waited for once the rest is enough.
    lagging : Counter of str
        Writes that go on at each site after their outcome: kept up to date here.
    """

    def __init__(
        self,
        record: Record,
        tried: Sequence[GridSite],
        *,
        sites: Sites,
        quorum: Quorum,
        tasks: Tasks,
        straggler_grace_s: float,
        lagging: Counter[str],
    ) -> None:
        self._record = record
        self._tried = {site.name: site for site in tried}
        self._sites = sites
        self._tasks = tasks
        self._grace_s = straggler_grace_s
        self._lagging = lagging
        self._plan = WritePlan(sites.names, self._tried, quorum)
        self._told = asyncio.Event()
        self._over = asyncio.Event()
        self._acknowledged: Acknowledge | None = None
        self._grace_ends: float | None = None
        self._unfinished: Counter[str] = Counter()
        self._late: frozenset[str] = frozenset()
        self.reasons: dict[str, str] = {}
        """Why a site did not do what it was asked, the last time it did not."""

    async def run(self) -> Acknowledge | Refuse:
        """Take step after step until the plan has an outcome."""
        try:
            while True:
                match self._plan.next_step():
                    case Acknowledge() as outcome:
                        self._acknowledged = outcome
                        return outcome
                    case Refuse() as outcome:
                        return outcome
                    case Wait(grace):
                        await self._wait(grace=grace)
                    case step:
                        self._begin(step)
        finally:
            self._over.set()
            self._late = frozenset(site for site, unfinished in self._unfinished.items() if unfinished)
            self._lagging.update(self._late)

    def _begin(self, step: PutObjects | AddRows | NoteDebts) -> None:
        self._grace_ends = None
        for name in step.sites:
            site = self._tried[name]
            match step:
                case PutObjects():
                    work, failed = partial(self._put, site), self._plan.object_failed
                case AddRows(_, owed, order):
                    work = partial(self._add, site, order, self._debts(owed))
                    failed = self._plan.row_failed
                case NoteDebts(_, owed):
                    work = partial(self._note, site, self._debts(owed))
                    failed = self._plan.debts_failed
            self._unfinished[name] += 1
            self._tasks.spawn(self._told_when_done(site, work, failed))

    async def _told_when_done(
        self, site: GridSite, work: Callable[[], Coroutine[None, None, None]], failed: Callable[[str], None]
    ) -> None:
        try:
            await work()
        except SiteFailed as error:
            self._failed(site, error.reason)
            failed(site.name)
        except ObjectFault as error:
            self._failed(site, str(error))
            failed(site.name)
        except Exception as error:  # a fault of our own must not leave the write waiting for ever
            log.exception("write.fault", site=site.name)
            self._failed(site, repr(error))
            failed(site.name)
        finally:
            self._unfinished[site.name] -= 1
            if site.name in self._late and not self._unfinished[site.name]:
                self._late -= {site.name}
                self._lagging[site.name] -= 1
            self._told.set()

    async def _wait(self, *, grace: bool) -> None:
        self._told.clear()
        if not grace:
            await self._told.wait()
            return
        if self._grace_ends is None:
            self._grace_ends = asyncio.get_running_loop().time() + self._grace_s
        try:
            async with asyncio.timeout_at(self._grace_ends):
                await self._told.wait()
        except TimeoutError:
            self._plan.grace_over()

    async def _put(self, site: GridSite) -> None:
        with _PUT_SECONDS.labels(site=site.name).time():
            await self._record.put(site)
        if not self._plan.object_done(site.name):
            await self._catch_up(site)

    async def _add(self, site: GridSite, order: int, debts: Sequence[Debt]) -> None:
        with _ADD_SECONDS.labels(site=site.name).time():
            order = await self._record.add(site, order, debts)
        if not self._plan.row_done(site.name, order):
            await self._catch_up(site)

    async def _note(self, site: GridSite, debts: Sequence[Debt]) -> None:
        await self._sites.ask(site, site.catalogue.owe(debts))
        self._plan.debts_done(site.name)

    async def _catch_up(self, site: GridSite) -> None:
        """Complete what a straggler holds, if the write was acknowledged; else leave its debt to repair."""
        await self._over.wait()
        if self._acknowledged is None:
            return
        order = self._acknowledged.order
        try:
            if await self._record.add(site, order, ()) != order:
                return
            for other in self._sites.up():
                await self._record.settle(site.name, other, order)
        except SiteFailed as error:
            log.warning("write.not_caught_up", site=site.name, failed=error.site, reason=error.reason)
        else:
            _CAUGHT_UP.labels(site=site.name).inc()

    def _debts(self, owed: Iterable[str]) -> tuple[Debt, ...]:
        return tuple(self._record.debt(site) for site in owed)

    def _failed(self, site: GridSite, reason: str) -> None:
        self.reasons[site.name] = reason
        log.warning("write.site_failed", site=site.name, reason=reason, digest=self._record.digest)
