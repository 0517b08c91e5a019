"""What is in the trash: deleted, with all its bytes, until its time has passed."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from cluster.nouns import FactKind
from storage_node.catalogue.views import ruling
from storage_node.upkeep.holding import studies_with
from storage_node.upkeep.selecting import Described, described_study, known_study

if TYPE_CHECKING:
    from storage_node.grid.grid import Grid


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
    async with aclosing(studies_with(grid, FactKind.DELETED, after=after)) as studies:
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
