"""What the upkeep found wrong is noted as debts, which repair pays, and counted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import structlog
from prometheus_client import Counter

from storage_node.grid.sites import SiteFailed

if TYPE_CHECKING:
    from cluster.nouns import Debt
    from storage_node.grid.sites import GridSite, Sites

FOUND = Counter(
    "atria_upkeep_found_total",
    "What was found wrong at a site: lacking (anti-entropy), missing (listing), bad (scrub), fact (an object"
    " without its row), orphan and upload (collection)",
    ["kind", "site"],
)
MENDED = Counter(
    "atria_upkeep_mended_total",
    "What was put right at a site: version, fact, row (repair and fill), relocated (an object that could not"
    " be written at its key), fact_row (listing), orphan and upload (removed by collection)",
    ["kind", "site"],
)

log = structlog.get_logger()


async def note(sites: Sites, debts: Sequence[Debt], *, kind: str) -> None:
    """Note debts at every site that is up, each at the others than the one that is owed.

    Where only that one is up, it notes its own: better there than nowhere. A site that does not note them is
    logged; whoever found them will find them again.
    """
    if not debts:
        return
    for debt in debts:
        FOUND.labels(kind=kind, site=debt.site).inc()
    up = sites.up()

    async def note_at(site: GridSite) -> None:
        theirs = [debt for debt in debts if debt.site != site.name] if len(up) > 1 else debts
        if not theirs:
            return
        try:
            await sites.ask(site, site.catalogue.owe(theirs))
        except SiteFailed as error:
            log.warning("upkeep.not_noted", site=site.name, reason=error.reason, debts=len(theirs))

    await asyncio.gather(*(note_at(site) for site in up))
    log.info("upkeep.found", kind=kind, debts=len(debts), sites=sorted({debt.site for debt in debts}))
