"""What one balancer sees of the cluster, and means to do: shared by those that work for it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from balancer.leadership.known import Links
from balancer.leadership.tenure import ELECTION
from cluster.coordination.protocol import Entry, Snapshot


@dataclass(slots=True)
class View:
    """As of now."""

    away_since: float | None
    """From when on the store has given no answer; None while it does."""
    leader: Snapshot | None = None
    """What the store says of the election; None while it says nothing."""
    members: Links = field(default_factory=dict)
    """The balancers that have announced themselves, this one included, and their links."""
    retiring: bool = False
    """Whether this balancer is about to end, and asks for nothing more."""
    rests_until: float = 0.0
    """Until then it asks for nothing: it had the address, and the kernel did not take it."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def entry(self) -> Entry | None:
        """The term that the store knows of."""
        return self.leader.entries.get(ELECTION) if self.leader is not None else None

    @property
    def is_vacant(self) -> bool:
        """Whether the store says that nobody leads."""
        return self.leader is not None and self.entry is None

    def may_ask(self, now: float) -> bool:
        """Whether this balancer means to have the address."""
        return not self.retiring and now >= self.rests_until
