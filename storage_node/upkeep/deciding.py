"""What a person decides about patients, studies or series is decided of each instance that belongs to them.

It is looked at twice, study by study: first to be shown, and then to be decided about. Whatever came or went
in between is decided about as it is then; no more than one study is held in memory.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Final

from cluster.nouns import FactKind
from storage_node.catalogue.views import ruling
from storage_node.grid.facts import Gone
from storage_node.grid.write import NotEnoughSites
from storage_node.upkeep.bringing_back import bring_back
from storage_node.upkeep.pace import each, in_turn
from storage_node.upkeep.retention import retention
from storage_node.upkeep.selecting import Described, known_study

if TYPE_CHECKING:
    from cluster.nouns import Fact, Instance
    from storage_node.grid.grid import Grid
    from storage_node.upkeep.rounds import Progress
    from storage_node.upkeep.selecting import KnownStudy, Target

_AT_ONCE: Final = 32
"""Instances that are decided about at the same time."""
_BROUGHT_BACK_AT_ONCE: Final = 4
"""Instances that are read, and stored again, at the same time."""


@dataclass(frozen=True, slots=True)
class Part:
    """What of one study a decision concerns."""

    study_instance_uid: str
    described: Described
    series: int
    instances: int
    size_bytes: int
    """Of all their versions."""
    retained: tuple[Fact, ...]
    """By what others are under retention, which a deletion would have concerned."""
    kept: int
    """How many these are."""
    purged: int
    """How many others were purged: they can be revived if bytes of them are left."""


@dataclass(slots=True)
class Decided:
    """What came of it."""

    decided: int = 0
    gone: int = 0
    """Of how many it was not, as they were purged, and no bytes of them are left."""
    refused: dict[str, None] = field(default_factory=dict)
    """Why it was not decided of the others, each once."""


@dataclass(slots=True)
class _Concern:
    chosen: list[Instance] = field(default_factory=list)
    retained: list[Fact] = field(default_factory=list)
    purged: list[Instance] = field(default_factory=list)


async def survey(grid: Grid, targets: Sequence[Target], kind: FactKind) -> AsyncGenerator[Part]:
    """Yield what a decision would change, for each study of which it would anything, or cannot.

    Parameters
    ----------
    grid : Grid
    targets : sequence of Target
        In order.
    kind : FactKind
        DELETED concerns what is not deleted, REVIVED what is.

    Raises
    ------
    NotEnoughSites
        No catalogue answers.
    """
    for uid, of_study in _by_study(targets):
        known = await known_study(grid, uid)
        concern = _concern(known, of_study, kind, grid.now().date())
        if concern.chosen or concern.retained or concern.purged:
            yield Part(
                uid,
                of_study[0].described,
                len({instance.series_instance_uid for instance in concern.chosen}),
                len(concern.chosen),
                sum(size for instance in concern.chosen for size in known.versions[instance].values()),
                tuple(dict.fromkeys(concern.retained)),
                len(concern.retained),
                len(concern.purged),
            )


async def decide(
    grid: Grid,
    targets: Sequence[Target],
    kind: FactKind,
    *,
    by: str,
    reason: str,
    expected: int,
    progress: Progress | None = None,
) -> Decided:
    """Decide of each instance that it concerns; one that is refused keeps none from being decided.

    What is under retention is passed over. What was purged is brought back first.

    Parameters
    ----------
    grid : Grid
    targets : sequence of Target
        In order.
    kind : FactKind
        As of `survey`.
    by : str
        A person's account.
    reason : str
    expected : int
        How many the survey found.
    progress : callable, optional
        Told how many are decided, and of how many.

    Raises
    ------
    NotEnoughSites
        No catalogue answers.
    """
    outcome = Decided()
    done = 0

    async def one(instance: Instance, *, was_purged: bool) -> None:
        nonlocal done
        try:
            if was_purged:
                await bring_back(grid, instance)
            await grid.decide(instance, kind, by=by, reason=reason)
        except Gone:
            outcome.gone += 1
        except NotEnoughSites as error:
            outcome.refused[str(error)] = None
        else:
            outcome.decided += 1
        done += 1
        if progress is not None:
            progress(done, max(done, expected))

    for uid, of_study in _by_study(targets):
        concern = _concern(await known_study(grid, uid), of_study, kind, grid.now().date())
        await each(in_turn(concern.chosen), partial(one, was_purged=False), at_once=_AT_ONCE)
        await each(in_turn(concern.purged), partial(one, was_purged=True), at_once=_BROUGHT_BACK_AT_ONCE)
    return outcome


def _by_study(targets: Iterable[Target]) -> Iterable[tuple[str, list[Target]]]:
    return ((uid, list(same)) for uid, same in groupby(targets, key=_study_of))


def _study_of(target: Target) -> str:
    return target.subject.study_instance_uid


def _concern(known: KnownStudy, targets: Sequence[Target], kind: FactKind, on: date) -> _Concern:
    """Return which instances of a study are to be decided about, and what keeps others from it."""
    concern = _Concern()
    for instance in sorted(known.versions):
        if not any(target.holds(instance) for target in targets):
            continue
        held = ruling(known.facts_of(instance))
        is_deleted = held is not None and held.kind is not FactKind.REVIVED
        if is_deleted is not (kind is FactKind.REVIVED):
            continue
        keeps = None if is_deleted else retention(instance, known.facts, on)
        if held is not None and held.kind is FactKind.PURGED:
            concern.purged.append(instance)
        elif keeps is not None:
            concern.retained.append(keeps)
        else:
            concern.chosen.append(instance)
    return concern
