"""Which worker gets the next association: pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Candidate:
    """A worker, as far as the choice goes."""

    name: str
    associations: int
    """How many it has now."""
    picked: int
    """Number of the pick that it was last chosen by: the lower, the longer ago."""
    failing: bool = False
    """Whether it has just refused or not answered: such a one is taken only when there is no other."""


def choose(candidates: Collection[Candidate], refused: Collection[str] = ()) -> Candidate | None:
    """Return the worker with the fewest associations, the least recently picked of several.

    Parameters
    ----------
    candidates : collection of Candidate
    refused : collection of str
        Names of those that have refused this association.

    Returns
    -------
    Candidate or None
        None when nobody is left.
    """
    left = (candidate for candidate in candidates if candidate.name not in refused)
    return min(left, key=lambda c: (c.failing, c.associations, c.picked, c.name), default=None)
