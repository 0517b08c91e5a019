"""Who is there, in one process's memory: the twin of `folder`, for tests and simulations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Self

from cluster.coordination.registry import Kind, Member
from cluster.coordination.view import same_process, visible


class MemoryRegistry:
    """A `Registry` that those share who hold the object."""

    def __init__(self) -> None:
        self._announced: dict[MemoryAnnouncement, Member] = {}
        self._changed = asyncio.Event()

    async def announce(self, member: Member) -> MemoryAnnouncement:
        """See `Registry.announce`."""
        announcement = MemoryAnnouncement(self)
        self.put(announcement, member)
        return announcement

    async def members(self, kind: Kind | None = None) -> list[Member]:
        """See `Registry.members`."""
        return visible(self._announced.values(), kind)

    async def watch(self) -> AsyncGenerator[list[Member], None]:
        """See `Registry.watch`."""
        last: list[Member] | None = None
        while True:
            changed = self._changed
            members = visible(self._announced.values())
            if members != last:
                last = members
                yield members
            else:
                await changed.wait()

    def put(self, announcement: MemoryAnnouncement, member: Member) -> None:
        """Let an announcement say this of its process."""
        if announcement in self._announced:
            same_process(self._announced[announcement], member)
        self._announced[announcement] = member
        self._wake()

    def drop(self, announcement: MemoryAnnouncement) -> None:
        """Forget an announcement, as when its process ends."""
        self._announced.pop(announcement, None)
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class MemoryAnnouncement:
    """An `Announcement` in memory."""

    def __init__(self, registry: MemoryRegistry) -> None:
        self._registry = registry

    async def update(self, member: Member) -> None:
        """See `Announcement.update`."""
        self._registry.put(self, member)

    async def withdraw(self) -> None:
        """See `Announcement.withdraw`."""
        self._registry.drop(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.withdraw()
