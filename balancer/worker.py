"""One worker, as far as this balancer knows it."""

from __future__ import annotations

from collections.abc import Mapping

from balancer.choice import Candidate
from balancer.routing import is_in_pool
from cluster.coordination.registry import Address, Member
from cluster.settings import Route


class Worker:
    """One worker process. It outlives its place in the registry for as long as associations end at it."""

    def __init__(self, member: Member, dicom: Address, turn: float) -> None:
        self.member = member
        self.dicom = dicom
        self.labels = dict(member.labels)
        self.turn = turn
        """Of the next association that it is given, in units of weight: it counts where loads are equal."""
        self.associations = 0
        """Of this balancer."""
        self.elsewhere = 0
        """Of other balancers, as the worker reports them."""
        self.openings = 0
        """How often it has become able to take one more: who was refused before may ask again."""
        self.failing_until = 0.0
        self.full_at: int | None = None
        """With how many associations it said that it takes no more."""
        self.full_until = 0.0
        self.missed_probes = 0
        """In a row."""
        self.is_lost = False
        """Whether it has missed so many that it counts as failing until it answers."""
        self.last_probe: Mapping[str, object] | None = None

    @property
    def name(self) -> str:
        """Its name in the cluster."""
        return self.member.name

    @property
    def load(self) -> int:
        """How many associations it has, as far as is known here."""
        return self.associations + self.elsewhere

    def is_failing(self, now: float) -> bool:
        """Return whether it is passed over where there is another."""
        return self.is_lost or self.failing_until > now

    def is_full(self, now: float) -> bool:
        """Return whether it said so, has not fewer associations since, and is not to be tried again yet."""
        return self.full_at is not None and self.load >= self.full_at and now < self.full_until

    def candidate(self, route: Route | None, now: float) -> Candidate:
        """Return it as the choice sees it."""
        return Candidate(
            self.name,
            self.load,
            self.member.capacity,
            self.member.weight,
            self.turn,
            is_in_pool(route, self.labels),
            self.is_failing(now),
            self.member.draining,
            self.is_full(now),
        )
