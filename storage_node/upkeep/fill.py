"""Filling gives a site that lost its state everything that the others have; then it has its vote again.

It passes over what the site has already: it may be stopped at any moment, and goes on from there. What is
written meanwhile comes to the site by its writer, or as a debt. Several that fill the same site know nothing
of each other: each goes its own random way, and passes over what another has done.

A site is full when *every* other site was walked to its end in one run and nothing that any of them has is
lacking: a version of which this site held one of the W copies has W - 1 left, and they may be at any of the
others, at one that is down, or at one that is itself being filled and has taken writes since. With one of
them unread, R sites that have a vote might not know of something that was acknowledged. A catalogue that is
being made from its site's objects (`storage_node.upkeep.rebuild`) cannot be read to its end yet, and such a
site is not filled before that is done: it would be copied what it has.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from storage_node.grid.sites import SiteFailed
from storage_node.upkeep.pace import each, pages
from storage_node.upkeep.paying import Outcome, Paying
from storage_node.upkeep.repair import UNDER_WAY
from storage_node.upkeep.rounds import Rounds
from storage_node.upkeep.studies import held_of_study, owed, side_by_side

if TYPE_CHECKING:
    from cluster.nouns import Debt
    from cluster.settings import Upkeep
    from storage_node.grid.grid import Grid
    from storage_node.grid.sites import GridSite, Roster
    from storage_node.upkeep.rounds import Progress
    from storage_node.upkeep.studies import Held

_DEBTS_AT_ONCE: Final = 2048
"""How much of what is lacking is put into a random order: for several at work the chance is small that they
copy the same."""
RETRY_INTERVAL_S: Final = 15.0
"""How long after a run that could not finish the next one begins: it walks all studies again."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Report:
    """What one run did."""

    filled: tuple[str, ...] = ()
    """Sites that have everything now."""
    left: tuple[str, ...] = ()
    """Sites that are still to be filled."""
    given: int = 0
    """Versions and facts that were copied."""
    failed: int = 0
    """Those that could not be copied now."""
    not_read: tuple[str, ...] = ()
    """Sites that are down, or whose catalogues could not be read to their end."""


@dataclass(slots=True)
class _Tally:
    progress: Progress | None
    total: int = 0
    done: int = 0
    given: int = 0
    failed: int = 0

    def walked(self, entries: int) -> None:
        """Tell that the site has, or cannot be given now, so many versions and facts more."""
        self.done += max(0, entries)
        if self.progress is not None:
            self.progress(self.done, max(self.done, self.total))


class Fill:
    """Fills sites that lost their state. Any number may run at once: few copies are made twice.

    Parameters
    ----------
    grid : Grid
    upkeep : Upkeep
        How fast, and how much at once.
    roster : Roster
        Is told of a site that has everything.
    """

    def __init__(self, grid: Grid, upkeep: Upkeep, roster: Roster) -> None:
        self._sites = grid.sites
        self._upkeep = upkeep
        self._roster = roster
        self._random = random.Random(grid.new_name())  # noqa: S311  # no secret: an order
        self._paying = Paying(grid, upkeep)
        self.rounds = Rounds("fill", self.run_once, grid.now)

    async def run_forever(self) -> None:
        """Fill whatever site comes to need it, until cancelled."""
        await self.rounds.run_forever(RETRY_INTERVAL_S, ready=self._one_is_filling)

    async def _one_is_filling(self) -> None:
        await self._sites.wait_until(
            lambda health: any(state.up and self._is_to_be_filled(name) for name, state in health.items())
        )

    def _is_to_be_filled(self, name: str) -> bool:
        membership = self._sites[name].membership
        return membership.filling and not membership.rebuilding

    async def run_once(self, progress: Progress | None = None) -> Report:
        """Fill the sites that are to be filled and can be reached, one after the other."""
        report = Report()
        for site in self._sites.up():
            if self._is_to_be_filled(site.name):
                report = _sum(report, await self._fill(site, progress))
        return report

    async def _fill(self, site: GridSite, progress: Progress | None) -> Report:
        identity = site.membership.identity
        others = [
            other for other in self._sites.up() if other.name != site.name and not other.membership.rebuilding
        ]
        not_read = set(self._sites.names) - {site.name} - {other.name for other in others}
        tally = _Tally(progress, total=await self._versions(others, not_read))
        log.info("fill.began", site=site.name, generation=identity.generation, versions=tally.total)

        async def give(debt: Debt) -> None:
            outcome = await self._paying.pay(debt, unless_held=True)
            tally.given += outcome is Outcome.PAID
            tally.failed += outcome not in (Outcome.PAID, Outcome.HELD)
            tally.walked(1)

        lacking = self._in_random_order(site, self._lacking(site, others, not_read, tally), not_read)
        await each(lacking, give, at_once=UNDER_WAY * self._upkeep.repair_at_once)
        is_filled = not not_read and not tally.failed
        if is_filled:
            await self._roster.filled(identity)
            self._sites.probe_soon(site)
        log.info(
            "fill.filled" if is_filled else "fill.interrupted",
            site=site.name,
            given=tally.given,
            failed=tally.failed,
            not_read=sorted(not_read),
        )
        names = (site.name,)
        filled, left = (names, ()) if is_filled else ((), names)
        return Report(filled, left, tally.given, tally.failed, tuple(sorted(not_read)))

    async def _versions(self, others: Sequence[GridSite], not_read: set[str]) -> int:
        versions = 0
        for other in others:
            try:
                counts = await self._sites.ask(other, other.catalogue.counts())
            except SiteFailed as error:
                log.warning("fill.not_read", site=other.name, reason=error.reason)
                not_read.add(other.name)
            else:
                versions = max(versions, counts.versions)
        return versions

    async def _lacking(
        self, site: GridSite, others: Sequence[GridSite], not_read: set[str], tally: _Tally
    ) -> AsyncGenerator[Debt]:
        """Yield what the site lacks, study by study."""
        chosen = [*others, site]
        async with aclosing(side_by_side(self._sites, chosen, not_read)) as walk:
            async for uid, summaries in walk:
                mine = summaries.get(site.name)
                differ = any(theirs != mine for theirs in summaries.values())
                debts = await self._owed(site, uid, chosen, not_read) if differ else []
                tally.walked(max(theirs.entries for theirs in summaries.values()) - len(debts))
                for debt in debts:
                    yield debt

    async def _in_random_order(
        self, site: GridSite, lacking: AsyncGenerator[Debt], not_read: set[str]
    ) -> AsyncGenerator[Debt]:
        """Yield what is lacking, a part at a time.

        It ends early where nothing may be written to the site; where its writes failed, after one to try.
        """
        async with aclosing(pages(lacking, _DEBTS_AT_ONCE)) as parts:
            async for part in parts:
                self._random.shuffle(part)
                for debt in part:
                    if not self._sites.may_write(site):
                        not_read.add(site.name)
                        return
                    yield debt

    async def _owed(
        self, site: GridSite, uid: str, chosen: Sequence[GridSite], not_read: set[str]
    ) -> list[Debt]:
        held: dict[str, Held] = {}
        for one in chosen:
            if one.name not in not_read:
                try:
                    held[one.name] = await held_of_study(self._sites, one, uid)
                except SiteFailed as error:
                    log.warning("fill.not_read", site=one.name, reason=error.reason)
                    not_read.add(one.name)
        return [debt for debt in owed(held) if debt.site == site.name]


def _sum(one: Report, other: Report) -> Report:
    return Report(
        one.filled + other.filled,
        one.left + other.left,
        one.given + other.given,
        one.failed + other.failed,
        tuple(sorted({*one.not_read, *other.not_read})),
    )
