"""A store in memory that can be away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import TypeVar

from cluster.coordination.memory import MemoryCoordination
from cluster.coordination.patience import Patience
from cluster.coordination.protocol import Change, CoordinationUnavailable, Revision
from tests.distant_store import DistantCoordination

T = TypeVar("T")


class UnreliableCoordination(DistantCoordination):
    """One process's way to a store that others reach by other ways.

    Parameters
    ----------
    store : MemoryCoordination
    hangs : bool
        Whether it does not answer at all while it is away, or refuses at once.
    """

    def __init__(self, store: MemoryCoordination, *, hangs: bool = False) -> None:
        super().__init__(store)
        self._hangs = hangs
        self._gone = asyncio.Event()

    def go_away(self) -> None:
        self._gone.set()

    def come_back(self) -> None:
        self._gone.clear()

    async def call(self, work: Callable[[], Awaitable[T]]) -> T:
        await self._reach()
        return await work()

    async def watch(self, prefix: str, after: Revision) -> AsyncGenerator[Sequence[Change]]:
        async with Patience(self.store.watch(prefix, after)) as changes:
            while True:
                await self._reach()
                try:
                    news = await changes.next(0.01)
                except TimeoutError:
                    continue
                yield news

    async def _reach(self) -> None:
        while self._gone.is_set():
            if not self._hangs:
                raise CoordinationUnavailable("away")
            await asyncio.sleep(0.01)
