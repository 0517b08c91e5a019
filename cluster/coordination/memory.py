"""The store in one process's memory: the twin of `etcd`, for tests and simulations."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Sequence

from cluster.coordination.elections import Elections
from cluster.coordination.protocol import (
    ABSENT,
    Change,
    Conflict,
    Entry,
    Lease,
    LeaseLost,
    Revision,
    Snapshot,
    Term,
)


class MemoryCoordination(Elections):
    """A `Coordination` that those share who hold the object. Leases run out by the loop's clock."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._revision: Revision = 1
        self._entries: dict[str, Entry] = {}
        self._history: list[Change] = []
        self._written = asyncio.Event()
        self._leases: dict[int, asyncio.TimerHandle] = {}
        self._ids = itertools.count(1)

    async def grant(self, ttl_s: float) -> Lease:
        """See `Coordination.grant`."""
        return self._renewed(next(self._ids), ttl_s)

    async def keep_alive(self, lease: Lease) -> Lease:
        """See `Coordination.keep_alive`."""
        self._alive(lease).cancel()
        return self._renewed(lease.id, lease.ttl_s)

    async def revoke(self, lease: Lease) -> None:
        """See `Coordination.revoke`."""
        if lease.id in self._leases:
            self._leases[lease.id].cancel()
            self._end(lease.id)

    async def read(self, prefix: str) -> Snapshot:
        """See `Coordination.read`."""
        found = {key: entry for key, entry in self._entries.items() if key.startswith(prefix)}
        return Snapshot(self._revision, dict(sorted(found.items())))

    async def put(
        self,
        key: str,
        value: bytes,
        *,
        lease: Lease | None = None,
        expected: Revision | None = None,
        during: Term | None = None,
    ) -> Revision:
        """See `Coordination.put`."""
        if lease is not None:
            self._alive(lease)
        self._check(key, expected, during)
        return self._write(key, value, lease.id if lease else 0)

    async def delete(
        self, key: str, *, expected: Revision | None = None, during: Term | None = None
    ) -> Revision:
        """See `Coordination.delete`."""
        self._check(key, expected, during)
        if key in self._entries:
            self._remove([key])
        return self._revision

    async def watch(self, prefix: str, after: Revision) -> AsyncGenerator[Sequence[Change]]:
        """See `Coordination.watch`."""
        seen = after
        while True:
            written = self._written
            news = [change for change in self._history if change.revision > seen]
            if found := [change for change in news if change.key.startswith(prefix)]:
                yield found
            seen = max((change.revision for change in news), default=seen)
            await written.wait()

    async def campaign(self, election: str, value: bytes, lease: Lease) -> Term | None:
        """See `Coordination.campaign`."""
        try:
            return Term(election, await self.put(election, value, lease=lease, expected=ABSENT))
        except Conflict:
            entry = self._entries[election]
            ours = (entry.value, entry.lease) == (value, lease.id)
            return Term(election, entry.changed) if ours else None

    async def close(self) -> None:
        """See `Coordination.close`."""

    def _renewed(self, number: int, ttl_s: float) -> Lease:
        now = self._loop.time()
        self._leases[number] = self._loop.call_later(ttl_s, self._end, number)
        return Lease(number, ttl_s, now + ttl_s)

    def _alive(self, lease: Lease) -> asyncio.TimerHandle:
        if lease.id not in self._leases:
            raise LeaseLost(f"lease {lease.id:x} is over")
        return self._leases[lease.id]

    def _end(self, number: int) -> None:
        del self._leases[number]
        self._remove([key for key, entry in self._entries.items() if entry.lease == number])

    def _check(self, key: str, expected: Revision | None, during: Term | None) -> None:
        if expected is not None and self._changed(key) != expected:
            raise Conflict(f"{key}: changed at {self._changed(key)}, expected at {expected}")
        if during is not None and self._changed(during.election) != during.token:
            raise Conflict(f"{during.election}: term {during.token} is over")

    def _changed(self, key: str) -> Revision:
        entry = self._entries.get(key)
        return ABSENT if entry is None else entry.changed

    def _write(self, key: str, value: bytes, lease: int) -> Revision:
        self._revision += 1
        self._entries[key] = Entry(value, self._revision, lease)
        self._tell([Change(key, self._entries[key], self._revision)])
        return self._revision

    def _remove(self, keys: Sequence[str]) -> None:
        if not keys:
            return
        self._revision += 1
        for key in keys:
            del self._entries[key]
        self._tell([Change(key, None, self._revision) for key in keys])

    def _tell(self, changes: Sequence[Change]) -> None:
        self._history += changes
        self._written.set()
        self._written = asyncio.Event()
