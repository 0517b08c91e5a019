"""What holds of all that was decided, subject by subject, by what every site that is up knows."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from itertools import groupby
from typing import TYPE_CHECKING

from storage_node.catalogue.views import rulings
from storage_node.grid.sites import SiteFailed
from storage_node.grid.write import NotEnoughSites
from storage_node.upkeep.studies import side_by_side

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cluster.nouns import Fact, FactKind
    from storage_node.grid.grid import Grid


async def holding(grid: Grid, kind: FactKind) -> AsyncGenerator[tuple[Fact, Sequence[Fact]]]:
    """Yield each fact of a kind that holds, with all that hold about its subject, by subject.

    Raises
    ------
    NotEnoughSites
        No catalogue answers, or none goes on.
    """
    failed: set[str] = set()
    up = grid.sites.up()
    async with aclosing(side_by_side(grid.sites, up, failed)) as studies:
        async for uid, _ in studies:
            known: set[Fact] = set()
            for site in up:
                try:
                    known.update(await grid.sites.ask(site, site.catalogue.facts_in(uid)))
                except SiteFailed:
                    failed.add(site.name)
            about = sorted(known, key=lambda fact: fact.instance)
            for _, facts in groupby(about, key=lambda fact: fact.instance):
                held = rulings(facts)
                for fact in held:
                    if fact.kind is kind:
                        yield fact, held
    if failed >= {site.name for site in up}:
        raise NotEnoughSites(0, 1, {name: health.why for name, health in grid.sites.health().items()})
