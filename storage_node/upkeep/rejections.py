"""What rejection notes hid, and how a person takes it back (IHE RAD IOCM)."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cluster.nouns import FactKind
from storage_node.grid.write import NotEnoughSites
from storage_node.upkeep.holding import holding
from storage_node.upkeep.pace import each, in_turn

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from cluster.nouns import Fact
    from storage_node.grid.grid import Grid
    from storage_node.upkeep.rounds import Progress

_AT_ONCE: Final = 32
"""Instances that are decided about at the same time."""


async def rejections(grid: Grid, uids: Collection[str] = ()) -> AsyncGenerator[Fact]:
    """Yield the rejections that hold, by instance; also of instances that never came.

    Parameters
    ----------
    grid : Grid
    uids : collection of str
        Of the studies, series and instances that are meant, or of the notes that rejected them; all if empty.

    Raises
    ------
    NotEnoughSites
        No catalogue answers.
    """
    async with aclosing(holding(grid, FactKind.REJECTED)) as facts:
        async for fact, _ in facts:
            if not uids or not _names(fact).isdisjoint(uids):
                yield fact


@dataclass(frozen=True, slots=True)
class Accepted:
    """What came of accepting what was rejected."""

    facts: tuple[Fact, ...]
    refused: tuple[str, ...]
    """Why the others were not accepted, each once."""


async def accept(
    grid: Grid, rejected: Sequence[Fact], *, by: str, reason: str, progress: Progress | None = None
) -> Accepted:
    """Decide that what was rejected is in answers again; one that is refused keeps none from being decided.

    Parameters
    ----------
    grid : Grid
    rejected : sequence of Fact
        The rejections that hold.
    by : str
        A person's account.
    reason : str
    progress : callable, optional
        Told how many are decided, and of how many.
    """
    facts: list[Fact] = []
    refused: dict[str, None] = {}

    async def one(fact: Fact) -> None:
        try:
            facts.append(await grid.decide(fact.instance, FactKind.ACCEPTED, by=by, reason=reason))
        except NotEnoughSites as error:
            refused[str(error)] = None
        if progress is not None:
            progress(len(facts), len(rejected))

    await each(in_turn(rejected), one, at_once=_AT_ONCE)
    return Accepted(tuple(facts), tuple(refused))


def _names(fact: Fact) -> set[str | None]:
    """Return the UIDs by which a rejection is named."""
    instance = fact.instance
    return {
        instance.study_instance_uid,
        instance.series_instance_uid,
        instance.sop_instance_uid,
        fact.detail("note"),
    }
