"""What a person decides about a study, a series or an instance is decided of each instance below it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cluster.nouns import FactKind
from storage_node.catalogue.matching import by_uids
from storage_node.catalogue.views import is_hidden
from storage_node.grid.write import NotEnoughSites
from storage_node.upkeep.pace import each, in_turn
from storage_node.upkeep.where import instances

if TYPE_CHECKING:
    from cluster.nouns import Fact, Instance
    from storage_node.grid.grid import Grid
    from storage_node.upkeep.rounds import Progress

_AT_ONCE: Final = 32
"""Instances that are decided about at the same time."""


@dataclass(frozen=True, slots=True)
class Decided:
    """What came of it."""

    facts: tuple[Fact, ...]
    refused: tuple[str, ...]
    """Why it was not decided of the others, each once."""


async def concerned(grid: Grid, uids: Sequence[str], kind: FactKind) -> list[Instance]:
    """Return the instances of studies, series or SOP instances that a decision would change.

    Parameters
    ----------
    grid : Grid
    uids : sequence of str
        Study, Series or SOP Instance UIDs.
    kind : FactKind
        DELETED asks for those that are in answers, REVIVED for those that are not.

    Raises
    ------
    NotEnoughSites
        No catalogue answers.
    """
    queries = (by_uids(study=uids), by_uids(series=uids), by_uids(sop=uids))
    found = {instance for query in queries for instance in await instances(grid, query)}
    chosen: list[Instance] = []

    async def choose(instance: Instance) -> None:
        known = await grid.facts_at_sites(instance)
        hidden = is_hidden(fact for facts in known.values() for fact in facts)
        if hidden is (kind is FactKind.REVIVED):
            chosen.append(instance)

    await each(in_turn(sorted(found)), choose, at_once=_AT_ONCE)
    return sorted(chosen)


async def decide(
    grid: Grid,
    chosen: Sequence[Instance],
    kind: FactKind,
    *,
    by: str,
    reason: str,
    progress: Progress | None = None,
) -> Decided:
    """Decide of each instance; one that is refused keeps none from being decided.

    Parameters
    ----------
    grid : Grid
    chosen : sequence of Instance
    kind : FactKind
    by : str
        A person's account.
    reason : str
    progress : callable, optional
        Told how many are decided, and of how many.
    """
    facts: list[Fact] = []
    refused: dict[str, None] = {}

    async def one(instance: Instance) -> None:
        try:
            facts.append(await grid.decide(instance, kind, by=by, reason=reason))
        except NotEnoughSites as error:
            refused[str(error)] = None
        if progress is not None:
            progress(len(facts), len(chosen))

    await each(in_turn(chosen), one, at_once=_AT_ONCE)
    return Decided(tuple(facts), tuple(refused))
