"""What the tests of the upkeep have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cluster.settings import Upkeep
from storage_node.site.failing import Fault
from storage_node.site.memory import MemoryObjects
from tests.integration.grid.cluster import Cluster, arrival

UPKEEP = Upkeep(repair_at_once=4, repair_interval_s=0.01)


@dataclass
class Clock:
    """A clock that stands still until it is put forward."""

    time: datetime = field(default_factory=lambda: datetime(2026, 3, 1, 12, tzinfo=UTC))

    def __call__(self) -> datetime:
        return self.time

    def forward(self, **time: float) -> None:
        self.time += timedelta(**time)


async def store(c: Cluster, *numbers: int) -> list[str]:
    return [(await c.grid.store(arrival(n), [b"%d" % n])).version.digest for n in numbers]


async def lose(c: Cluster, name: str) -> None:
    """Have a site fail at everything, and the grid know it."""
    c[name].fail(Fault.BEFORE)
    await c.grid.sites.probe()


def memory(c: Cluster, name: str) -> MemoryObjects:
    """Return the objects of a site of memory, behind the grid's back."""
    objects = c[name].objects.objects
    assert isinstance(objects, MemoryObjects)
    return objects


def damage(c: Cluster, name: str, key: str) -> None:
    """Change one byte of an object, behind everybody's back."""
    kept = memory(c, name).objects[key]
    kept.content = bytes([kept.content[0] ^ 1]) + kept.content[1:]
