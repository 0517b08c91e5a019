"""Repair pays the debts that are noted at the sites' catalogues, the oldest first."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Final, TypeVar

import structlog
from prometheus_client import Gauge

from storage_node.grid.sites import SiteFailed
from storage_node.upkeep.pace import all_of, each, in_turn
from storage_node.upkeep.paying import Outcome, Paying
from storage_node.upkeep.rounds import Rounds

if TYPE_CHECKING:
    from cluster.nouns import Debt
    from cluster.settings import Upkeep
    from storage_node.grid.grid import Grid
    from storage_node.grid.sites import GridSite
    from storage_node.upkeep.rounds import Progress

T = TypeVar("T")

_DEBTS_AT_ONCE: Final = 1000
"""Debts that are read from one catalogue at a time."""
UNDER_WAY: Final = 3
"""For each object that is copied, debts that are under way: the others read, or wait for their rows."""
_FIRST_RETRY_S: Final = 2.0
_LAST_RETRY_S: Final = 900.0
"""A debt that cannot be paid is tried again after twice the time as before, but never later than this."""

_AT_RISK = Gauge(
    "atria_instances_at_risk", "Debts: copies that a site is owed, by the reachable catalogue that notes most"
)
_UNREADABLE = Gauge(
    "atria_unreadable_versions", "Versions that are owed, and of which no site has a good copy"
)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Report:
    """What one run of repair did."""

    paid: int
    """Debts that are gone."""
    failed: int
    """Debts that could not be paid now, or a short while ago; they are tried again, ever more seldom."""
    unreadable: int
    """Those of them of which no site has a good copy, though all sites were asked."""
    open: int
    """Debts that are left, by the catalogue that knows of most; those of sites that are down, too."""


@dataclass(slots=True)
class _PutOff:
    """A debt that could not be paid, and when it is tried again."""

    wait_s: float
    until_s: float
    is_unreadable: bool


@dataclass(slots=True)
class _Run:
    """What one run has done so far."""

    progress: Progress | None
    at_start: int
    paid: int = 0
    due: dict[Debt, _PutOff] = field(default_factory=dict)
    """Debts that could not be paid before, and are tried again now."""


class Repair:
    """Pays debts. Any number may run at once: all that is done may be done twice.

    Parameters
    ----------
    grid : Grid
    upkeep : Upkeep
        How fast, and how much at once.
    """

    def __init__(self, grid: Grid, upkeep: Upkeep) -> None:
        self._sites = grid.sites
        self._upkeep = upkeep
        self._paying = Paying(grid, upkeep)
        self._put_off: dict[Debt, _PutOff] = {}
        self._were_up: tuple[str, ...] = ()
        self.rounds = Rounds("repair", self.run_once, grid.now)

    async def run_forever(self) -> None:
        """Run again and again, until cancelled."""
        await self.rounds.run_forever(self._upkeep.repair_interval_s)

    async def run_once(self, progress: Progress | None = None) -> Report:
        """Pay what can be paid now: to sites that take writes, of what can be read somewhere."""
        run = _Run(progress, await self._open_debts(), due=self._take_due())
        await all_of(self._pay_all(site.name, run) for site in self._sites.up())
        left = await self._open_debts()
        unreadable = [debt for debt, put_off in self._put_off.items() if put_off.is_unreadable]
        _UNREADABLE.set(len({(debt.instance, debt.digest) for debt in unreadable}))
        if run.paid or run.due:
            log.info("repair.done", paid=run.paid, put_off=len(self._put_off), open=left)
        return Report(run.paid, len(self._put_off), len(unreadable), left)

    def _take_due(self) -> dict[Debt, _PutOff]:
        """Return the debts whose time to be tried again has come: all of them when another site is up."""
        up = tuple(site.name for site in self._sites.up())
        all_are_due = up != self._were_up
        self._were_up = up
        now_s = asyncio.get_running_loop().time()
        due = {debt: off for debt, off in self._put_off.items() if all_are_due or off.until_s <= now_s}
        for debt in due:
            del self._put_off[debt]
        return due

    async def _pay_all(self, name: str, run: _Run) -> None:
        """Pay what a site is owed, page by page, for as long as it takes writes.

        One whose writes failed, and that is to be tried again, is given one debt first.
        """
        paid: set[Debt] = set()
        while debts := await self._debts_of(name, _DEBTS_AT_ONCE if self._takes(name) else 1):
            if not self._sites.may_write(self._sites[name]):
                return
            for debt in paid.intersection(debts):  # it was noted again, or not removed: not in this run
                self._postpone(debt, Outcome.FAILED, run)
            paid.clear()

            async def pay(debt: Debt, is_trial: bool = len(debts) == 1, paid: set[Debt] = paid) -> None:
                if debt in self._put_off or not (is_trial or self._takes(name)):
                    return
                outcome = await self._paying.pay(debt)
                if outcome not in (Outcome.PAID, Outcome.VOID):
                    self._postpone(debt, outcome, run)
                    return
                paid.add(debt)
                run.paid += 1
                if run.progress is not None:
                    run.progress(run.paid, max(run.at_start, run.paid))

            await each(in_turn(debts), pay, at_once=UNDER_WAY * self._upkeep.repair_at_once)
            if not self._takes(name):
                return

    def _takes(self, name: str) -> bool:
        return self._sites.health()[name].takes_writes

    def _postpone(self, debt: Debt, outcome: Outcome, run: _Run) -> None:
        before = run.due.get(debt)
        wait_s = _FIRST_RETRY_S if before is None else min(2 * before.wait_s, _LAST_RETRY_S)
        until_s = asyncio.get_running_loop().time() + wait_s
        self._put_off[debt] = _PutOff(wait_s, until_s, outcome is Outcome.UNREADABLE)

    async def _open_debts(self) -> int:
        counts = await self._each(lambda site: site.catalogue.counts())
        debts = max((count.debts for count in counts), default=0)
        if counts:  # with no catalogue to ask, what was known last is nearer to the truth than nothing owed
            _AT_RISK.set(debts)
        return debts

    async def _debts_of(self, owed: str, limit: int) -> list[Debt]:
        """Return what a site is owed by any catalogue, the oldest first, without what was put off."""
        pages = await self._each(lambda site: site.catalogue.debts(limit + len(self._put_off), site=owed))
        noted = chain.from_iterable(zip_longest(*pages))
        debts = [debt for debt in dict.fromkeys(noted) if debt is not None and debt not in self._put_off]
        return debts[:limit]

    async def _each(self, call: Callable[[GridSite], Awaitable[T]]) -> list[T]:
        """Ask each site that is up; one that fails is left out."""
        answers: list[T] = []
        for site in self._sites.up():
            with suppress(SiteFailed):  # noted as down, counted and logged where it was asked
                answers.append(await self._sites.ask(site, call(site)))
        return answers
