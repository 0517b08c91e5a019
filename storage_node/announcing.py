"""A worker's announcement, kept true while it works and while it drains."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from cluster.coordination.registry import Announcement, Member, RegistryUnavailable

log = structlog.get_logger()

UPDATE_INTERVAL_S: Final = 1.0
"""How often at most a new load is told: balancers count by themselves what they have let in."""


class Announcing:
    """Tells the registry what has become of a worker since it was announced.

    Parameters
    ----------
    announcement : Announcement
        The worker's own.
    member : Member
        As it was announced.
    describe : callable
        Returns what the worker is like now.
    changed : asyncio.Event
        Set by whoever changes that.
    """

    def __init__(
        self,
        announcement: Announcement,
        member: Member,
        describe: Callable[[], Member],
        changed: asyncio.Event,
    ) -> None:
        self._announcement = announcement
        self._told = member
        self._describe = describe
        self._changed = changed
        self._telling = asyncio.Lock()
        self._in_trouble = False

    async def follow(self) -> None:
        """Tell of each change, soon and not too often, until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self.tell()
            await asyncio.sleep(UPDATE_INTERVAL_S)

    async def tell(self) -> bool:
        """Tell at once; return whether the registry knows now. If it does not, `follow` tries again."""
        async with self._telling:
            member = self._describe()
            if member == self._told:
                return True
            try:
                await self._announcement.update(member)
            except RegistryUnavailable as error:
                if not self._in_trouble:
                    log.warning("worker.not_announced", reason=str(error))
                self._in_trouble = True
                self._changed.set()
                return False
            self._told, self._in_trouble = member, False
            return True
