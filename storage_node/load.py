"""What a worker has to do, as it tells balancers: so that one that begins knows what others have let in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Protocol

from cluster.coordination.registry import Load, Share


class Relayed(Protocol):
    """An association, as far as its load goes."""

    @property
    def id(self) -> str:
        """`BALANCER-…`: it begins with the name of who relays it."""

    @property
    def calling_ae(self) -> str:
        """Who called."""

    @property
    def source(self) -> str:
        """`host:port` that it called from."""


def load_of(associations: Iterable[Relayed]) -> Load:
    """Return how many associations there are, in all and of each kind, in a fixed order."""
    counts = Counter((_balancer(one.id), one.calling_ae, _host(one.source)) for one in associations)
    return Load(counts.total(), tuple(Share(*kind, count) for kind, count in sorted(counts.items())))


def _balancer(association_id: str) -> str:
    return association_id.rpartition("-")[0]


def _host(source: str) -> str:
    return source.rpartition(":")[0].strip("[]")
