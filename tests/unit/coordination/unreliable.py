"""A store in memory that can be away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

from cluster.coordination.memory import MemoryCoordination
from cluster.coordination.patience import Patience
from cluster.coordination.protocol import (
    Change,
    CoordinationUnavailable,
    Lease,
    Revision,
    Snapshot,
    Term,
)


class UnreliableCoordination:
    """One process's way to a store that others reach by other ways.

    Parameters
    ----------
    store : MemoryCoordination
    hangs : bool
        Whether it does not answer at all while it is away, or refuses at once.
    """

    def __init__(self, store: MemoryCoordination, *, hangs: bool = False) -> None:
        self._store = store
        self._hangs = hangs
        self._gone = asyncio.Event()

    def go_away(self) -> None:
        self._gone.set()

    def come_back(self) -> None:
        self._gone.clear()

    async def grant(self, ttl_s: float) -> Lease:
        await self._reach()
        return await self._store.grant(ttl_s)

    async def keep_alive(self, lease: Lease) -> Lease:
        await self._reach()
        return await self._store.keep_alive(lease)

    async def revoke(self, lease: Lease) -> None:
        await self._reach()
        await self._store.revoke(lease)

    async def read(self, prefix: str) -> Snapshot:
        await self._reach()
        return await self._store.read(prefix)

    async def put(
        self,
        key: str,
        value: bytes,
        *,
        lease: Lease | None = None,
        expected: Revision | None = None,
        during: Term | None = None,
    ) -> Revision:
        await self._reach()
        return await self._store.put(key, value, lease=lease, expected=expected, during=during)

    async def delete(
        self, key: str, *, expected: Revision | None = None, during: Term | None = None
    ) -> Revision:
        await self._reach()
        return await self._store.delete(key, expected=expected, during=during)

    async def watch(self, prefix: str, after: Revision) -> AsyncGenerator[Sequence[Change]]:
        async with Patience(self._store.watch(prefix, after)) as changes:
            while True:
                await self._reach()
                try:
                    news = await changes.next(0.01)
                except TimeoutError:
                    continue
                yield news

    async def campaign(self, election: str, value: bytes, lease: Lease) -> Term | None:
        await self._reach()
        return await self._store.campaign(election, value, lease)

    async def resign(self, term: Term) -> None:
        await self._reach()
        await self._store.resign(term)

    async def hand_over(self, term: Term, value: bytes, lease: Lease) -> Term:
        await self._reach()
        return await self._store.hand_over(term, value, lease)

    async def close(self) -> None:
        pass

    async def _reach(self) -> None:
        while self._gone.is_set():
            if not self._hangs:
                raise CoordinationUnavailable("away")
            await asyncio.sleep(0.01)
