"""What is in the trash: deleted, with all its bytes, until its time has passed."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import structlog

from cluster.nouns import FactKind
from storage_node.catalogue.views import ruling
from storage_node.grid.paged import asked
from storage_node.grid.sites import SiteFailed
from storage_node.grid.write import NotEnoughSites
from storage_node.upkeep.selecting import Described, described_study, known_study

if TYPE_CHECKING:
    from storage_node.grid.grid import Grid
    from storage_node.grid.sites import GridSite

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Trashed:
    """What of one study is in the trash."""

    study_instance_uid: str
    described: Described
    series: int
    instances: int
    size_bytes: int
    deleted_at: datetime
    """When the last of it was deleted; by whom and why is said of that."""
    deleted_by: str
    reason: str
    until: datetime
    """Until when the first of it can surely be taken back."""


async def trash(grid: Grid, *, after: str = "") -> AsyncGenerator[Trashed]:
    """Yield what is in the trash, by Study Instance UID, from the one after `after` on.

    Raises
    ------
    NotEnoughSites, NoCatalogue
        No catalogue answers.
    """
    kept = timedelta(days=grid.deletion.trash_days)
    async with aclosing(_studies(grid, after)) as studies:
        async for uid in studies:
            known = await known_study(grid, uid)
            deletions = {
                instance: held
                for instance in known.versions
                if (held := ruling(known.facts_of(instance))) is not None and held.kind is FactKind.DELETED
            }
            if not deletions:
                continue
            last = max(deletions.values(), key=lambda fact: fact.decided_at)
            yield Trashed(
                uid,
                await described_study(grid, uid),
                len({instance.series_instance_uid for instance in deletions}),
                len(deletions),
                sum(size for instance in deletions for size in known.versions[instance].values()),
                last.decided_at,
                last.decided_by,
                last.reason,
                min(fact.decided_at for fact in deletions.values()) + kept,
            )


async def _studies(grid: Grid, after: str) -> AsyncGenerator[str]:
    """Yield the studies in which any site that is up knows of a deletion, in order."""
    walks = {site.name: _studies_at(grid, site, after) for site in grid.sites.up()}
    heads: dict[str, str] = {}
    reasons = {name: health.why for name, health in grid.sites.health().items() if not health.up}

    async def go_on(name: str) -> None:
        heads.pop(name, None)
        try:
            head = await anext(walks[name], None)
        except SiteFailed as error:
            log.warning("trash.not_read", site=name, reason=error.reason)
            reasons[name] = error.reason
        else:
            if head is not None:
                heads[name] = head

    try:
        for name in walks:
            await go_on(name)
        while heads:
            uid = min(heads.values())
            yield uid
            for name in [name for name, head in heads.items() if head == uid]:
                await go_on(name)
        if len(reasons) == len(grid.sites.names):
            raise NotEnoughSites(0, 1, reasons)
    finally:
        for walk in walks.values():
            await walk.aclose()


async def _studies_at(grid: Grid, site: GridSite, after: str) -> AsyncGenerator[str]:
    last = after
    deletions = asked(grid.sites, site, site.catalogue.ruled(FactKind.DELETED, after=after))
    async with aclosing(deletions):
        async for fact in deletions:
            if fact.instance.study_instance_uid != last:
                last = fact.instance.study_instance_uid
                yield last
