"""What holds of all that was decided, subject by subject, by what every site that is up knows."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from itertools import groupby
from typing import TYPE_CHECKING

import structlog

from storage_node.catalogue.views import rulings
from storage_node.grid.paged import asked
from storage_node.grid.sites import SiteFailed
from storage_node.grid.write import NotEnoughSites

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cluster.nouns import Fact, FactKind
    from storage_node.grid.grid import Grid
    from storage_node.grid.sites import GridSite

log = structlog.get_logger()


async def holding(grid: Grid, kind: FactKind) -> AsyncGenerator[tuple[Fact, Sequence[Fact]]]:
    """Yield each fact of a kind that holds, with all that hold about its subject, by subject.

    Raises
    ------
    NotEnoughSites
        No catalogue answers, or none goes on.
    """
    async with aclosing(studies_with(grid, kind)) as studies:
        async for uid in studies:
            known: set[Fact] = set()
            for site in grid.sites.up():
                try:
                    known.update(await grid.sites.ask(site, site.catalogue.facts_in(uid)))
                except SiteFailed as error:
                    log.warning("facts.not_read", site=site.name, reason=error.reason)
            about = sorted(known, key=lambda fact: fact.instance)
            for _, facts in groupby(about, key=lambda fact: fact.instance):
                held = rulings(facts)
                for fact in held:
                    if fact.kind is kind:
                        yield fact, held


async def studies_with(grid: Grid, kind: FactKind, *, after: str = "") -> AsyncGenerator[str]:
    """Yield the studies in which a fact of a kind holds by what any site that is up knows, in order.

    Raises
    ------
    NotEnoughSites
        No catalogue answers, or none goes on.
    """
    walks = {site.name: _studies_at(grid, site, kind, after) for site in grid.sites.up()}
    heads: dict[str, str] = {}
    reasons = {name: health.why for name, health in grid.sites.health().items() if not health.up}

    async def go_on(name: str) -> None:
        heads.pop(name, None)
        try:
            head = await anext(walks[name], None)
        except SiteFailed as error:
            log.warning("facts.not_read", site=name, reason=error.reason)
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


async def _studies_at(grid: Grid, site: GridSite, kind: FactKind, after: str) -> AsyncGenerator[str]:
    last = after
    facts = asked(grid.sites, site, site.catalogue.ruled(kind, after=after))
    async with aclosing(facts):
        async for fact in facts:
            if fact.instance.study_instance_uid != last:
                last = fact.instance.study_instance_uid
                yield last
