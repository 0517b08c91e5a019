"""What monitoring sees of who leads: this balancer's stance, and what the store says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from prometheus_client import Counter, Gauge

from balancer.leadership.stance import Role, Stance
from balancer.leadership.view import View

ROLE: Final = Gauge(
    "atria_balancer_role", "1 for what this balancer is doing about the service address", ["role"]
)
HOLDS_FOR: Final = Gauge(
    "atria_balancer_holds_for_seconds", "How long this balancer may hold the address unless it is renewed"
)
STORE_AWAY: Final = Gauge("atria_balancer_etcd_away_seconds", "For how long etcd has not told who leads")
LEADER: Final = Gauge(
    "atria_balancer_leader", "1 for who leads, as etcd says; nobody while it is away", ["name"]
)
CHANGES: Final = Counter("atria_balancer_leader_changes_total", "Times that another was found to lead")


def expose(stance: Stance, view: View, now: Callable[[], float]) -> None:
    """Have the gauges tell of a balancer, as of when they are read.

    Parameters
    ----------
    stance, view
        Of this balancer.
    now : callable
        The loop's clock, in seconds.
    """

    def is_in(role: Role) -> Callable[[], float]:
        return lambda: float(stance.role is role)

    for role in Role:
        ROLE.labels(role.value).set_function(is_in(role))
    HOLDS_FOR.set_function(lambda: max(0.0, stance.until - now()) if stance.holds(now()) else 0.0)
    STORE_AWAY.set_function(lambda: 0.0 if view.away_since is None else now() - view.away_since)


class LeaderSeen:
    """Who was seen to lead last."""

    def __init__(self) -> None:
        self._last: str | None = None

    def note(self, name: str | None) -> None:
        """Take note of who leads; None: nobody, or it is not known."""
        LEADER.clear()
        if name is None:
            return
        LEADER.labels(name).set(1)
        if self._last not in (None, name):
            CHANGES.inc()
        self._last = name
