"""Anti-entropy turns differences between the catalogues into debts, which repair pays.

As a rule a site that lacks a version or a fact is noted as a debt before it is acknowledged. Differences
without a debt are what a worker left that died in the middle of a write, what a refused write left, and what
a site lacks that was brought back from an older copy of itself.

Only the studies on which the sites' summaries differ are looked into. What a site lacks that is being filled
is not noted: filling walks all of it anyway. What it has, the others are owed like anything else.
"""

from __future__ import annotations

from contextlib import aclosing, suppress
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import structlog

from storage_node.grid.sites import SiteFailed
from storage_node.grid.write import NotEnoughSites
from storage_node.upkeep.notes import note
from storage_node.upkeep.rounds import Rounds
from storage_node.upkeep.studies import held_of_instance, held_of_study, owed, side_by_side

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cluster.nouns import Debt
    from cluster.settings import Upkeep
    from storage_node.catalogue.protocol import StudySummary
    from storage_node.grid.grid import Grid
    from storage_node.grid.sites import GridSite
    from storage_node.upkeep.rounds import Progress
    from storage_node.upkeep.studies import Held

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Comparison:
    """What one run found."""

    studies: int
    """Studies that any catalogue knows."""
    differing: int
    """Those on which the catalogues differed."""
    found: int
    """Debts that were noted."""
    not_read: tuple[str, ...] = ()
    """Sites whose catalogues could not be read to their end."""


class AntiEntropy:
    """Compares the catalogues of all sites. Any number may run at once: a debt is noted once."""

    def __init__(self, grid: Grid, upkeep: Upkeep) -> None:
        self._grid = grid
        self._sites = grid.sites
        self._interval_s = upkeep.anti_entropy_interval_s
        self.rounds = Rounds("anti_entropy", self.run_once, grid.now)

    def run_soon(self) -> None:
        """Have `run_forever` compare now: something happened that leaves differences."""
        self.rounds.run_soon()

    async def run_forever(self) -> None:
        """Compare again and again, until cancelled; each time as soon as all sites are up."""
        await self.rounds.run_forever(self._interval_s, ready=self._all_up)

    async def _all_up(self) -> None:
        await self._sites.wait_until(lambda health: all(state.up for state in health.values()))

    async def run_once(self, progress: Progress | None = None) -> Comparison:
        """Compare the catalogues that can be read to their end."""
        chosen = self._sites.up()
        failed: set[str] = set()
        total = 0 if progress is None else await self._known(chosen)
        studies = differing = found = 0
        async with aclosing(side_by_side(self._sites, chosen, failed)) as walk:
            async for uid, summaries in walk:
                studies += 1
                readable = [site.name for site in chosen if site.name not in failed]
                if _differ(summaries, readable):
                    differing += 1
                    found += await self._note_differences(uid, readable)
                if progress is not None:
                    progress(studies, max(studies, total))
        if found:
            log.info("anti_entropy.found", studies=studies, differing=differing, debts=found)
        return Comparison(studies, differing, found, tuple(sorted(failed)))

    async def _known(self, chosen: Sequence[GridSite]) -> int:
        """Return the number of studies, by the catalogue that knows of most."""
        studies = 0
        for site in chosen:
            with suppress(SiteFailed):  # which its walk will tell, too
                counts = await self._sites.ask(site, site.catalogue.counts())
                studies = max(studies, counts.studies)
        return studies

    async def _note_differences(self, uid: str, names: list[str]) -> int:
        held: dict[str, Held] = {}
        for name in names:
            try:
                held[name] = await held_of_study(self._sites, self._sites[name], uid)
            except SiteFailed as error:
                log.warning("anti_entropy.not_compared", site=name, reason=error.reason)
        suspected = self._of_voters(owed(held))
        suspected.sort(key=lambda debt: debt.instance)
        debts: list[Debt] = []
        for instance, _ in groupby(suspected, key=lambda debt: debt.instance):
            # While the catalogues were walked, a write may have gone on: what is lacking now counts.
            try:
                debts += self._of_voters(owed(await held_of_instance(self._grid, instance)))
            except NotEnoughSites as error:
                log.warning("anti_entropy.not_compared", reason=str(error))
        await note(self._sites, debts, kind="lacking")
        return len(debts)

    def _of_voters(self, debts: list[Debt]) -> list[Debt]:
        health = self._sites.health()
        return [debt for debt in debts if health[debt.site].votes]


def _differ(summaries: Mapping[str, StudySummary], names: list[str]) -> bool:
    return len({summaries.get(name) for name in names}) > 1
