"""Seeing to it that somebody leads soon, when one could and nothing else happens."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from balancer.leadership.known import KEY, Known

if TYPE_CHECKING:
    from tests.simulation.leadership.world import World

LOOKS_S: Final = 0.1
MESSAGES_S: Final = 2.5
"""What news of a vacancy and the questions of a campaign take at most here, when nothing fails."""


class Watch:
    """Looks at a world.

    Parameters
    ----------
    world : World
    longest_lease_s : float

    Attributes
    ----------
    held_s : float
        For how long the address was anywhere.
    """

    def __init__(self, world: World, longest_lease_s: float) -> None:
        self.held_s = 0.0
        self._world = world
        self._longest_lease_s = longest_lease_s
        self._vacant_since = 0.0
        self._well_since: dict[str, float] = {}

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(LOOKS_S)
            if self._world.holders():
                self.held_s += LOOKS_S
                self._vacant_since = self._world.now_s
            await self._look_who_is_well()
            self._judge()

    async def _look_who_is_well(self) -> None:
        entry = (await self._world.store.read(KEY)).entries.get(KEY)
        listed = Known.of_entry(entry).links if entry is not None else {}
        now_s = self._world.now_s
        for name, host in self._world.hosts.items():
            if not host.is_well or (listed and name not in listed):
                self._well_since[name] = now_s
            self._well_since[name] = max(self._well_since.get(name, now_s), host.began_s)

    def _judge(self) -> None:
        """One that is well leads after a lease: what it has promised, or another had, is over by then."""
        for name, well_since in self._well_since.items():
            vacant_s = self._world.now_s - max(self._vacant_since, self._world.disturbed_s, well_since)
            if vacant_s > self._longest_lease_s + MESSAGES_S:
                self._world.violations.append(
                    f"nobody holds it for {vacant_s:.1f} s at {self._world.now_s:.3f}, and {name} is well"
                )
