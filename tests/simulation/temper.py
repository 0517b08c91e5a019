"""What a history is made of. Each has a temper of its own: some of all that could happen, and that often.

A history in which everything happens is one in which most things happen once: rare faults are those that need
one thing three times. So each leaves out a part (swarm testing, Groce et al., ISSTA 2012).
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, TypeVar

T = TypeVar("T")


class Ask(enum.Enum):
    """What clients do."""

    STORE = "store"
    DELETE = "delete"
    REVIVE = "revive"
    FIND = "find"
    READ = "read"


class Strike(enum.Enum):
    """What goes wrong."""

    CRASH = "a process ends"
    STORM = "a link is slow, and loses calls"
    DOWN = "a site, or half of it, refuses calls"
    HUNG = "a site hangs"
    FULL = "a site is full"
    DAMAGE = "an object rots, disappears, or is wedged"
    LOSE_DISK = "a site comes back empty"
    RESTORE = "a site comes back from an old backup"


class Chore(enum.Enum):
    """What is done in the background."""

    REPAIR = "repair"
    ANTI_ENTROPY = "anti-entropy"
    LISTING = "listing"
    SCRUB = "scrub"
    COLLECTION = "collection"
    FILL = "fill"


@dataclass(frozen=True, slots=True)
class Temper:
    """What happens in one history, and when."""

    instances: int
    """How many there are."""
    versions: tuple[int, ...]
    """Which there are of each."""
    asks: tuple[tuple[float, Ask], ...]
    """Each with the second at which it begins."""
    strikes: tuple[tuple[float, Strike], ...]
    chores: tuple[tuple[float, Chore], ...]
    away: str | None
    """Site that is away for the first things that are asked, so that it is owed them."""
    debris: tuple[tuple[str, int, int], ...]
    """Site, instance and version of each object that a write left long ago which was cut off."""


VERSIONS: Final = 3
"""Versions that there are of each instance at most."""

_APART_S: Final = (0.0, 0.05, 0.5, 5.0)
"""What happens at a moment is so far apart at most: most of it at once."""
_LONGEST_S: Final = 25.0


def draw(random: Random, sites: Sequence[str]) -> Temper:
    """Draw the temper of a history."""
    duration_s = random.uniform(1, _LONGEST_S)
    moments = [random.uniform(0, duration_s) for _ in range(random.randint(1, 6))]

    def spread(of: list[T], count: int) -> tuple[tuple[float, T], ...]:
        return tuple(
            (random.choice(moments) + random.choice(_APART_S) * random.random(), random.choice(of))
            for _ in range(count)
        )

    instances = random.choice((1, 1, 2, 4))
    versions = random.sample(range(VERSIONS), random.randint(1, VERSIONS))
    left = [
        (site, number + 1, version) for site in sites for number in range(instances) for version in versions
    ]
    asks = _some(random, Ask) + [Ask.STORE] * random.randint(1, 3)
    return Temper(
        instances=instances,
        versions=tuple(versions),
        asks=spread(asks, random.randint(3, 11)),
        strikes=spread(_some(random, Strike), random.randint(0, 6)),
        chores=spread(_some(random, Chore), random.randint(0, 8)),
        away=random.choice((None, *sites)),
        debris=tuple(random.sample(left, random.choice((0, 1, len(left))))),
    )


def _some(random: Random, kinds: type[T]) -> list[T]:
    """Return some of an enumeration, or all."""
    everything: list[T] = list(kinds)  # type: ignore[call-overload]  # an enumeration is walked by its class
    return random.sample(everything, random.randint(1, len(everything)))
