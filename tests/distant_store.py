"""A store in memory that is reached by a way on which something can happen."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import TypeVar

from cluster.coordination.memory import MemoryCoordination
from cluster.coordination.protocol import Change, Lease, Revision, Snapshot, Term

T = TypeVar("T")


class DistantCoordination:
    """One process's way to a store: a `Coordination`, of which a class says what may happen to each call."""

    def __init__(self, store: MemoryCoordination) -> None:
        self.store = store

    async def call(self, work: Callable[[], Awaitable[T]]) -> T:
        """Let it be done at the store, and bring back the answer."""
        raise NotImplementedError

    def watch(self, prefix: str, after: Revision) -> AsyncGenerator[Sequence[Change]]:
        raise NotImplementedError

    async def grant(self, ttl_s: float) -> Lease:
        return await self.call(lambda: self.store.grant(ttl_s))

    async def keep_alive(self, lease: Lease) -> Lease:
        return await self.call(lambda: self.store.keep_alive(lease))

    async def revoke(self, lease: Lease) -> None:
        await self.call(lambda: self.store.revoke(lease))

    async def read(self, prefix: str) -> Snapshot:
        return await self.call(lambda: self.store.read(prefix))

    async def put(
        self,
        key: str,
        value: bytes,
        *,
        lease: Lease | None = None,
        expected: Revision | None = None,
        during: Term | None = None,
    ) -> Revision:
        return await self.call(
            lambda: self.store.put(key, value, lease=lease, expected=expected, during=during)
        )

    async def delete(
        self, key: str, *, expected: Revision | None = None, during: Term | None = None
    ) -> Revision:
        return await self.call(lambda: self.store.delete(key, expected=expected, during=during))

    async def campaign(self, election: str, value: bytes, lease: Lease) -> Term | None:
        return await self.call(lambda: self.store.campaign(election, value, lease))

    async def resign(self, term: Term) -> None:
        await self.call(lambda: self.store.resign(term))

    async def hand_over(self, term: Term, value: bytes, lease: Lease) -> Term:
        return await self.call(lambda: self.store.hand_over(term, value, lease))

    async def close(self) -> None: ...
