"""How many associations there are, and of whom: pure.

A balancer knows its own to the moment. Of those that other balancers relay it knows what the workers report:
of the one that led before, or of the one it hands over from. So a ceiling holds through a failover, too.

Reports are about a second old. Associations that another balancer let in since, or that have ended since, are
not counted rightly for so long: a ceiling can be passed by what the other let in within its last second, and
a caller can be refused for a second though there is room again. While one balancer leads, as is the rule,
all that changes is its own, and no ceiling is passed at all.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from balancer.caller import Caller
from cluster.coordination.registry import Member
from cluster.settings import Limits


class Ceiling(enum.StrEnum):
    """What is limited, by its name in the settings' `limits`."""

    ALL = "balancer_associations"
    CALLING_AE = "calling_ae_associations"
    SOURCE = "source_associations"


@dataclass(frozen=True, slots=True)
class Reached:
    """A ceiling that leaves no room for one more."""

    ceiling: Ceiling
    associations: int
    limit: int

    def __str__(self) -> str:
        return f"{self.associations} associations, limits.{self.ceiling} allows {self.limit}"


class Tally:
    """Associations, counted together and by who asked for them."""

    def __init__(self) -> None:
        self.total = 0
        self.by_calling_ae: Counter[str] = Counter()
        self.by_source: Counter[str] = Counter()

    def add(self, calling_ae: str | None, source: str, associations: int) -> None:
        """Count more of them, or fewer; who has none left is forgotten."""
        self.total += associations
        for counter, key in ((self.by_calling_ae, calling_ae), (self.by_source, source)):
            if key is not None:
                counter[key] += associations
                if not counter[key]:
                    del counter[key]


class Ceilings:
    """Counts what was let in, here and by other balancers.

    Parameters
    ----------
    name : str
        Of this balancer: what workers report of its own associations is known here already.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._own = Tally()
        self._elsewhere = Tally()

    @property
    def here(self) -> int:
        """How many this balancer has let in."""
        return self._own.total

    def heed(self, members: Iterable[Member]) -> None:
        """Take what workers report now for the whole of what other balancers relay."""
        elsewhere = Tally()
        for member in members:
            for share in member.load.shares:
                if share.balancer != self._name:
                    elsewhere.add(share.calling_ae, share.source, share.associations)
        self._elsewhere = elsewhere

    def enter(self, caller: Caller) -> None:
        """Count an association that is let in."""
        self._own.add(caller.calling_ae, str(caller.source), 1)

    def leave(self, caller: Caller) -> None:
        """Count one that is over."""
        self._own.add(caller.calling_ae, str(caller.source), -1)

    def reached(self, limits: Limits, caller: Caller) -> Reached | None:
        """Return the first ceiling that leaves no room for the caller, or None."""
        source = str(caller.source)
        for ceiling, associations, limit in (
            (Ceiling.ALL, self._own.total + self._elsewhere.total, limits.balancer_associations),
            (Ceiling.CALLING_AE, self._of_calling_ae(caller.calling_ae), limits.calling_ae_associations),
            (
                Ceiling.SOURCE,
                self._own.by_source[source] + self._elsewhere.by_source[source],
                limits.source_associations,
            ),
        ):
            if limit is not None and associations >= limit:
                return Reached(ceiling, associations, limit)
        return None

    def status(self, limits: Limits) -> dict[str, object]:
        """Return what the status page says: each ceiling and what counts towards it."""
        return {
            Ceiling.ALL: {
                "limit": limits.balancer_associations,
                "here": self._own.total,
                "elsewhere": self._elsewhere.total,
            },
            Ceiling.CALLING_AE: {
                "limit": limits.calling_ae_associations,
                "associations": dict(self._own.by_calling_ae + self._elsewhere.by_calling_ae),
            },
            Ceiling.SOURCE: {
                "limit": limits.source_associations,
                "associations": dict(self._own.by_source + self._elsewhere.by_source),
            },
        }

    def _of_calling_ae(self, calling_ae: str | None) -> int:
        """Count those of an AE title; where nobody can read it there is nothing to count."""
        if calling_ae is None:
            return 0
        return self._own.by_calling_ae[calling_ae] + self._elsewhere.by_calling_ae[calling_ae]
