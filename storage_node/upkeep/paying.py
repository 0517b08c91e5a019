"""One debt is paid: a site is given a version or a fact that it is owed, and the note of it is removed.

Whatever is done here may be done twice, by any number of processes at once, and stopped at any moment: the
object goes first, its row after, and the debt last. Nothing is decided: a deletion is handed on as it is, and
what was deleted comes to a site with its facts before its row, so that it shows nowhere on the way.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import structlog
from prometheus_client import Counter

from cluster.nouns import Debt
from storage_node.catalogue.views import purged
from storage_node.grid import rows
from storage_node.grid.read import NoCopy
from storage_node.grid.record import check_fresh
from storage_node.grid.sites import SiteFailed
from storage_node.grid.write import NotEnoughSites
from storage_node.site.protocol import ObjectFault
from storage_node.upkeep.copying import Copying
from storage_node.upkeep.notes import MENDED
from storage_node.upkeep.pace import Pace, all_of
from storage_node.upkeep.studies import held_of_instance

if TYPE_CHECKING:
    from cluster.nouns import Fact, Instance
    from cluster.settings import Upkeep
    from storage_node.catalogue.protocol import Row
    from storage_node.grid.grid import Grid
    from storage_node.grid.sites import GridSite

_DEBTS = Counter(
    "atria_repair_debts_total", "Attempts to pay a debt, by the site that is owed", ["site", "outcome"]
)

_NOT_VERIFIED: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""When a copy was verified that nobody looked at now: it changes no row that is there."""

log = structlog.get_logger()


class Outcome(enum.StrEnum):
    """What became of a debt."""

    PAID = "paid"
    HELD = "held"
    """Somebody else has paid it meanwhile."""
    FAILED = "failed"
    """It could not be paid now."""
    UNREADABLE = "unreadable"
    """Every site was asked, and none has a good copy."""
    VOID = "void"
    """Every site was asked, and none knows what is owed: the note is gone."""


class _Unknown(Exception):
    """Not all catalogues answer, and what the others say is not enough."""


class Paying:
    """Pays debts, at each site so many at a time.

    Parameters
    ----------
    grid : Grid
    upkeep : Upkeep
        How fast, and how many objects are copied to one site at the same time. More debts may be under way:
        while the objects of some are copied, the rows of others are added, many in one transaction.
    """

    def __init__(self, grid: Grid, upkeep: Upkeep) -> None:
        self._grid = grid
        self._sites = grid.sites
        self._copying = Copying(grid, Pace(upkeep.repair_rate_bytes_per_s))
        self._now = grid.now
        self._turns = {name: asyncio.Semaphore(upkeep.repair_at_once) for name in self._sites.names}

    async def pay(self, debt: Debt, *, unless_held: bool = False) -> Outcome:
        """Pay a debt; it need not be noted anywhere. What goes wrong is logged and counted, not raised.

        Parameters
        ----------
        debt : Debt
        unless_held : bool
            Whether a site that has the row by now is taken to have the copy: nobody doubts that it is good.
        """
        try:
            outcome = await self._pay(debt, unless_held=unless_held)
        except NoCopy as error:
            everywhere = len(self._sites.up()) == len(self._sites.names)
            return _unpaid(debt, str(error), Outcome.UNREADABLE if everywhere else Outcome.FAILED)
        except (NotEnoughSites, SiteFailed, ObjectFault, _Unknown) as error:
            return _unpaid(debt, str(error), Outcome.FAILED)
        except Exception as error:  # one debt that is at fault must not keep the others from being paid
            log.exception("repair.fault", site=debt.site, digest=debt.digest)
            return _unpaid(debt, repr(error), Outcome.FAILED)
        _DEBTS.labels(site=debt.site, outcome=outcome).inc()
        log.debug("repair.paid", site=debt.site, digest=debt.digest, outcome=outcome)
        return outcome

    async def _pay(self, debt: Debt, *, unless_held: bool) -> Outcome:
        site = self._sites[debt.site]
        rows_at, facts_at = await asyncio.gather(
            self._grid.rows_at_sites(debt.instance), self._grid.facts_at_sites(debt.instance)
        )
        versions = {row.version.digest: row for row in rows.merge(rows_at.values())}
        facts = {fact.digest: fact for known in facts_at.values() for fact in known}
        if debt.digest in versions:
            row = versions[debt.digest]
            if debt.digest not in purged(facts.values()):
                return await self._pay_version(row, site, rows_at, unless_held=unless_held)
            self._check_said_by_all(site, facts_at.keys())
            await self._pay_row(row, site, rows_at)
            return Outcome.PAID
        if debt.digest in facts:
            await self._pay_fact(facts[debt.digest], debt, site)
            return Outcome.PAID
        await self._strike_out(debt, rows_at.keys() & facts_at.keys())
        return Outcome.VOID

    async def _strike_out(self, debt: Debt, asked: Set[str]) -> None:
        """Remove the note of what none of the sites that were asked knows, if these are all.

        What was acknowledged is known to one of any R sites that vote. This was not: the only site that had
        it lost its state since.

        Raises
        ------
        _Unknown
            A site did not answer, or has no vote.
        """
        if any(not health.votes or name not in asked for name, health in self._sites.health().items()):
            raise _Unknown("no catalogue that can be reached has its row")
        log.warning("repair.unknown", site=debt.site, digest=debt.digest)
        await self._at_all(lambda other: other.catalogue.forgive(debt))
        if await self._is_known(debt):  # by now, and perhaps with that very debt
            await self._at_all(lambda other: other.catalogue.owe([debt]))

    async def _is_known(self, debt: Debt) -> bool:
        held = await held_of_instance(self._grid, debt.instance)
        name = debt.instance, debt.digest
        return any(name in of_site.versions or name in of_site.facts for of_site in held.values())

    async def _pay_version(
        self, row: Row, site: GridSite, at_sites: Mapping[str, Sequence[Row]], *, unless_held: bool
    ) -> Outcome:
        version = row.version
        async with self._turns[site.name]:
            if unless_held and await self._holds(site, row):
                return Outcome.HELD
            key = await self._copying.version(row, site, _key_at(site, row, at_sites))
            verified_at = self._now()
        await self._give_facts(version.instance, site)
        check_fresh(site, verified_at, self._now())
        placed = replace(row, version=replace(version, key=key))
        held = await self._add(placed, site, at_sites, verified_at)
        check_fresh(site, verified_at, self._now())
        await self._at_all(lambda other: other.catalogue.settle(site.name, held))
        MENDED.labels(kind="version", site=site.name).inc()
        return Outcome.PAID

    async def _pay_row(self, row: Row, site: GridSite, at_sites: Mapping[str, Sequence[Row]]) -> None:
        """Give a site the row of what was purged, after the facts that say so: the object has gone."""
        await self._give_facts(row.version.instance, site)
        placed = replace(row, version=replace(row.version, key=_key_at(site, row, at_sites)))
        held = await self._add(placed, site, at_sites, _NOT_VERIFIED)
        await self._at_all(lambda other: other.catalogue.settle(site.name, held))
        MENDED.labels(kind="row", site=site.name).inc()

    def _check_said_by_all(self, site: GridSite, answered: Set[str]) -> None:
        """Check that each other site has said what was decided: that it came back since, perhaps.

        Raises
        ------
        _Unknown
        """
        if missing := set(self._sites.names) - {site.name} - answered:
            raise _Unknown(f"site {', '.join(sorted(missing))} does not say whether it was purged")

    async def _holds(self, site: GridSite, row: Row) -> bool:
        there = await self._sites.ask(site, site.catalogue.rows_of(row.version.instance))
        return any(_is_of(one, row) and _is_same(one, row) for one in there)

    async def _pay_fact(self, fact: Fact, debt: Debt, site: GridSite) -> None:
        async with self._turns[site.name]:
            await self._give_fact(fact, site)
        await self._at_all(lambda other: other.catalogue.forgive(debt))
        MENDED.labels(kind="fact", site=site.name).inc()

    async def _give_facts(self, instance: Instance, site: GridSite) -> None:
        """Give a site what was decided about an instance and it does not know; their debts are paid later."""
        at_sites = await self._grid.facts_at_sites(instance)
        known = {fact.digest for fact in at_sites.get(site.name, ())}
        lacking = {fact.digest: fact for facts in at_sites.values() for fact in facts}
        for digest in sorted(lacking.keys() - known):
            await self._give_fact(lacking[digest], site)

    async def _give_fact(self, fact: Fact, site: GridSite) -> None:
        await self._copying.fact(fact, site)
        await self._sites.ask(site, site.catalogue.decide(fact))

    async def _add(
        self, row: Row, site: GridSite, at_sites: Mapping[str, Sequence[Row]], verified_at: datetime
    ) -> Row:
        """Add the row at a site, and see to it that it is the same wherever it is; return it so."""
        version = row.version
        known = {name: there for name, answer in at_sites.items() for there in answer if _is_of(there, row)}
        unheard = [
            Debt(name, version.instance, version.digest)
            for name in self._sites.names
            if name not in at_sites and name != site.name
        ]
        orders = {name: there.order for name, there in known.items()}
        behind = [name for name, there in known.items() if name != site.name and not _is_same(there, row)]
        behind.append(site.name)
        while behind:
            added = await all_of(self._add_at(name, site, row, unheard, verified_at) for name in behind)
            orders |= zip(behind, added, strict=True)
            row = replace(row, order=max(orders.values()))
            behind = [name for name, order in orders.items() if order < row.order]
        return row

    async def _add_at(
        self, name: str, owed: GridSite, row: Row, debts: Sequence[Debt], verified_at: datetime
    ) -> int:
        """Add the row at the site that is owed it, or raise that which another one has."""
        site = self._sites[name]
        if name == owed.name:
            call = owed.catalogue.add(row, verified_at=verified_at)
        else:
            call = site.catalogue.add(row, debts, verified_at=_NOT_VERIFIED)
        met = await self._sites.ask(site, call)
        if name == owed.name and met.key != row.version.key:
            # Perhaps by a clock that is ahead of ours: the debt stays until ours has caught up.
            raise SiteFailed(name, f"its row names {met.key}, verified later than what was put now")
        return met.order

    async def _at_all(self, call: Callable[[GridSite], Awaitable[None]]) -> None:
        """Ask every site that is up, at once."""

        async def ask(site: GridSite) -> None:
            await self._sites.ask(site, call(site))

        await all_of(map(ask, self._sites.up()))


def _unpaid(debt: Debt, reason: str, outcome: Outcome) -> Outcome:
    _DEBTS.labels(site=debt.site, outcome=outcome).inc()
    if outcome is Outcome.UNREADABLE:
        log.error("repair.unreadable", site=debt.site, digest=debt.digest, reason=reason)
    else:
        log.warning("repair.not_paid", site=debt.site, digest=debt.digest, reason=reason)
    return outcome


def _key_at(site: GridSite, row: Row, at_sites: Mapping[str, Sequence[Row]]) -> str:
    """Return the key that the site's own row names, or else that of the others."""
    own = (there.version.key for there in at_sites.get(site.name, ()) if _is_of(there, row))
    return next(own, row.version.key)


def _is_of(one: Row, other: Row) -> bool:
    return one.version.digest == other.version.digest


def _is_same(one: Row, other: Row) -> bool:
    return (one.order, one.provenance) == (other.order, other.provenance)
