"""Repair pays debts: a site that is owed a copy is given one.

Any number of repairers may run: all that they do may be done twice. A copy is always put anew, even where one
seems to be: that which is visible need not be durable, and a put heals.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

import structlog
from prometheus_client import Counter, Gauge

from cluster.nouns import Debt
from storage_node.grid import rows
from storage_node.grid.read import NoCopy
from storage_node.grid.sites import SiteFailed
from storage_node.grid.stream import finish_upload
from storage_node.grid.write import NotEnoughSites
from storage_node.site.protocol import ObjectFault

if TYPE_CHECKING:
    from storage_node.catalogue.protocol import Row
    from storage_node.grid.grid import Grid
    from storage_node.grid.sites import GridSite

T = TypeVar("T")

AT_ONCE: Final = 4
"""Debts that are paid at the same time."""
DEBTS_AT_ONCE: Final = 1000
"""Debts that are read from one catalogue at a time."""

_AT_RISK = Gauge(
    "atria_instances_at_risk", "Debts: copies that a site is owed, by the reachable catalogue that notes most"
)
_DEBTS = Counter(
    "atria_repair_debts_total", "Attempts to pay a debt, by the site that is owed", ["site", "outcome"]
)

log = structlog.get_logger()

Progress: TypeAlias = Callable[[int, int], None]
"""Told how many debts are paid, and how many there were when the run began."""


@dataclass(frozen=True, slots=True)
class Report:
    """What one run of repair did."""

    paid: int
    failed: int
    """Debts of sites that are up, that could not be paid now."""
    open: int
    """Debts that are left, by the catalogue that knows of most; those of sites that are down, too."""


class Repair:
    """Pays the debts that are noted at the sites' catalogues, the oldest first."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._sites = grid.sites

    async def run_forever(self, interval_s: float) -> None:
        """Run again and again, until cancelled."""
        while True:
            try:
                await self.run_once()
            except Exception:  # a fault of one run must not be the last of all runs
                log.exception("repair.failed")
            await asyncio.sleep(interval_s)

    async def run_once(self, progress: Progress | None = None) -> Report:
        """Pay what can be paid now: debts of sites that are up, of versions that can be read somewhere."""
        at_start = await self._open_debts()
        paid = 0
        failed: set[Debt] = set()
        for site in self._sites.up():
            while site in self._sites.up() and (debts := await self._debts_of(site, failed)):
                for chosen in _batches(debts, AT_ONCE):
                    if site not in self._sites.up():
                        break
                    outcomes = await asyncio.gather(*(self._pay(debt) for debt in chosen))
                    paid += sum(outcomes)
                    failed.update(debt for debt, done in zip(chosen, outcomes, strict=True) if not done)
                    if progress is not None:
                        progress(paid, max(at_start, paid))
        left = await self._open_debts()
        if paid or failed:
            log.info("repair.done", paid=paid, failed=len(failed), open=left)
        return Report(paid, len(failed), left)

    async def _open_debts(self) -> int:
        counts = await self._each(lambda site: site.catalogue.counts())
        debts = max((count.debts for count in counts), default=0)
        if counts:  # with no catalogue to ask, what was known last is nearer to the truth than nothing owed
            _AT_RISK.set(debts)
        return debts

    async def _debts_of(self, owed: GridSite, failed: set[Debt]) -> list[Debt]:
        """Return what a site is owed by any catalogue, the oldest first, without what failed before."""
        limit = DEBTS_AT_ONCE + len(failed)
        pages = await self._each(lambda site: site.catalogue.debts(limit, site=owed.name))
        in_turn = chain.from_iterable(zip_longest(*pages))
        return [debt for debt in dict.fromkeys(in_turn) if debt is not None and debt not in failed]

    async def _pay(self, debt: Debt) -> bool:
        site = self._sites[debt.site]
        try:
            at_sites = await self._grid.rows_at_sites(debt.instance)
            known = {row.version.digest: row for row in rows.merge(at_sites.values())}
            row = known.get(debt.digest)
            if row is None:
                return self._unpaid(debt, "no catalogue that can be reached has its row")
            # What the site's own row names is where its copy is looked for.
            own = {row.version.digest: row.version for row in at_sites.get(site.name, ())}
            await self._copy(replace(row, version=own.get(debt.digest, row.version)), site)
            held = await self._add(row, site, at_sites)
            for other in self._sites.up():
                await self._sites.ask(other, other.catalogue.settle(site.name, held))
        except (NotEnoughSites, NoCopy, SiteFailed, ObjectFault) as error:
            return self._unpaid(debt, str(error))
        except Exception as error:  # one debt that is at fault must not keep the others from being paid
            log.exception("repair.fault", site=debt.site, digest=debt.digest)
            return self._unpaid(debt, repr(error))
        _DEBTS.labels(site=debt.site, outcome="paid").inc()
        log.debug("repair.paid", site=debt.site, digest=debt.digest)
        return True

    def _unpaid(self, debt: Debt, reason: str) -> bool:
        _DEBTS.labels(site=debt.site, outcome="failed").inc()
        log.warning("repair.not_paid", site=debt.site, digest=debt.digest, reason=reason)
        return False

    async def _copy(self, row: Row, site: GridSite) -> None:
        """Put the object at a site, from copies that were checked while they were read."""
        version, metadata = row.version, row.provenance.to_metadata()
        async with aclosing(self._grid.read(version)) as pieces:
            if not version.block_digests:
                parts = [piece async for piece in pieces]
                put = site.objects.put(version.key, parts, digest=version.digest, metadata=metadata)
                await self._sites.ask(site, put)
                return
            upload = await self._sites.ask(site, site.objects.upload(version.key, metadata={}))
            try:
                async for piece in pieces:
                    await self._sites.ask(site, upload.write([piece]))
                await self._sites.ask(site, finish_upload(site, upload, row))
            finally:
                await self._sites.ask(site, upload.abort())

    async def _add(self, row: Row, site: GridSite, at_sites: Mapping[str, Sequence[Row]]) -> Row:
        """Add the row at a site, and see to it that it is the same wherever it is; return it so."""
        version = row.version
        known = {
            name: there
            for name, answer in at_sites.items()
            for there in answer
            if there.version.digest == version.digest
        }
        unheard = [
            Debt(name, version.instance, version.digest)
            for name in self._sites.names
            if name not in at_sites and name != site.name
        ]
        orders = {name: there.order for name, there in known.items()}
        behind = {name for name, there in known.items() if not _is_same(there, row)} | {site.name}
        while behind:
            for name in behind:
                holder = self._sites[name]
                debts = unheard if holder is not site else ()
                orders[name] = await self._sites.ask(holder, holder.catalogue.add(row, debts))
            row = replace(row, order=max(orders.values()))
            behind = {name for name, order in orders.items() if order < row.order}
        return row

    async def _each(self, call: Callable[[GridSite], Awaitable[T]]) -> list[T]:
        """Ask each site that is up; one that fails is left out."""
        answers: list[T] = []
        for site in self._sites.up():
            with suppress(SiteFailed):  # noted as down, counted and logged where it was asked
                answers.append(await self._sites.ask(site, call(site)))
        return answers


def _is_same(one: Row, other: Row) -> bool:
    return (one.order, one.provenance) == (other.order, other.provenance)


def _batches(debts: Sequence[Debt], size: int) -> Iterator[Sequence[Debt]]:
    for start in range(0, len(debts), size):
        yield debts[start : start + size]
