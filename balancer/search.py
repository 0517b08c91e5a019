"""One association's way to a worker."""

from __future__ import annotations

from dataclasses import dataclass, field

from balancer.routing import is_in_pool
from balancer.worker import Worker
from cluster.settings import Route


@dataclass(frozen=True, slots=True)
class Refused:
    """When a worker that did not take an association may be offered it again."""

    openings: int
    """Of the worker: once it has more."""
    not_before: float
    """Or from then on."""


@dataclass(slots=True)
class Search:
    """Where an association may be offered: what its route says, and who has refused it so far."""

    route: Route | None = None
    refused: dict[Worker, Refused] = field(default_factory=dict)

    def may_ask(self, worker: Worker, now: float, *, again: bool) -> bool:
        """Return whether a worker was not asked yet, or may be asked `again` because it may take it now."""
        refused = self.refused.get(worker)
        if refused is not None:
            return again and (worker.openings != refused.openings or now >= refused.not_before)
        return self.route is None or not self.route.only or is_in_pool(self.route, worker.labels)
