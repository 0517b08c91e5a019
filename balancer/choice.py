"""Which worker gets the next association: pure.

The less busy of two that are drawn at random. To take the least busy of all would send every balancer, and
every association that begins before the next report, to the same worker; two random choices keep the
longest queue nearly as short, and do not mind that counts are a little old (Mitzenmacher, "The power of two
choices in randomized load balancing", 2001).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Candidate:
    """A worker, as far as the choice goes."""

    name: str
    associations: int = 0
    """How many it has now."""
    capacity: int = 0
    """How many it takes at once; 0 when it did not say."""
    weight: int = 1
    """One of twice the weight is to have twice the associations."""
    turn: float = 0.0
    """Of several with the same load the lowest is next."""
    in_pool: bool = True
    """Whether the route names it; the others are taken when none of the pool can."""
    failing: bool = False
    """Whether it does not answer, or just did not: such a one is taken only when there is no other."""
    draining: bool = False
    full: bool = False
    """Whether it has just said that it takes no more."""

    @property
    def has_room(self) -> bool:
        """Whether it may be given an association."""
        return not (self.draining or self.full or 0 < self.capacity <= self.associations)

    @property
    def load(self) -> float:
        """Associations for each unit of weight."""
        return self.associations / self.weight


def choose(candidates: Collection[Candidate], random: Random) -> Candidate | None:
    """Return the less busy of two that are drawn at random, each as often as its weight says.

    Parameters
    ----------
    candidates : collection of Candidate
    random : Random

    Returns
    -------
    Candidate or None
        None when nobody has room.
    """
    equals: list[Candidate] = []
    best = (True, True)  # failing counts more than being outside the pool, and both more than load
    for candidate in candidates:
        if candidate.has_room and (rank := (candidate.failing, not candidate.in_pool)) <= best:
            if rank < best:
                best = rank
                equals.clear()
            equals.append(candidate)
    drawn = _two_of(equals, random)
    return min(drawn, key=lambda candidate: (candidate.load, candidate.turn, candidate.name), default=None)


def _two_of(equals: list[Candidate], random: Random) -> list[Candidate]:
    if len(equals) <= 2:
        return equals
    (first,) = random.choices(equals, [candidate.weight for candidate in equals])
    others = [candidate for candidate in equals if candidate is not first]
    return [first, *random.choices(others, [candidate.weight for candidate in others])]
