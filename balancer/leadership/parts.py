"""What one balancer's part in the election is made of: shared by those that work for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from balancer.leadership.interfaces import Outside
from balancer.leadership.seat import Seat
from balancer.leadership.stance import Stance
from balancer.leadership.tenure import Tenure
from balancer.leadership.view import View

BEATS: Final = 6
"""Renewals in one lease. The kernel counts whole seconds: of a lease of 3 s that was renewed a moment ago it
grants 2. With three beats a store that takes a second to answer would cost the address."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Of one balancer."""

    name: str
    """In the cluster."""
    outside: Outside
    lease_s: float
    """How long a leader that has gone is waited for."""
    now: Callable[[], float]
    """The loop's clock, in seconds."""
    stance: Stance
    tenure: Tenure
    seat: Seat
    view: View
    store: asyncio.Lock
    """Held by who changes something in the store."""

    @property
    def beat_s(self) -> float:
        """How often a lease is renewed."""
        return self.lease_s / BEATS
