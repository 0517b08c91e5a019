"""A process's own entry in the store, kept there for as long as the process lives."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from cluster.coordination import member_json
from cluster.coordination.protocol import Coordination, CoordinationUnavailable, Lease, LeaseLost
from cluster.coordination.registry import Announcement, Member
from cluster.coordination.view import same_process

log = structlog.get_logger()

_RETRY_S: Final = 0.5
"""Between two tries while the store is away."""


class LeasedAnnouncement(Announcement):
    """An `Announcement` in a `Coordination`.

    A task renews the lease; where it was lost, it takes another and enters the process anew. No outage of
    the store ends it.

    Parameters
    ----------
    coordination : Coordination
    key : str
        Of this announcement alone.
    member : Member
    lease_s : float
    patience_s : float
        How long the store is waited for, by who asks.
    """

    def __init__(
        self, coordination: Coordination, key: str, member: Member, *, lease_s: float, patience_s: float
    ) -> None:
        self._coordination = coordination
        self._key = key
        self._member = member
        self._lease_s = lease_s
        self._patience_s = patience_s
        self._lease: Lease | None = None
        self._renew_at = 0.0
        self._entered: Member | None = None
        self._current = asyncio.Event()
        self._asked = asyncio.Event()
        self._away = False
        self._keeping: asyncio.Task[None] | None = None

    async def enter(self) -> None:
        """Begin. Returns when the entry is there, or when the store was waited for long enough."""
        self._keeping = asyncio.create_task(self._keep())
        await self._until_current()

    async def update(self, member: Member) -> None:
        """See `Announcement.update`. Where the store is away, it is entered when that is back."""
        same_process(self._member, member)
        self._member = member
        self._current.clear()
        self._asked.set()
        if not self._away:
            await self._until_current()

    async def withdraw(self) -> None:
        """See `Announcement.withdraw`."""
        if self._keeping is None:
            return
        self._keeping.cancel()
        await asyncio.gather(self._keeping, return_exceptions=True)
        self._keeping = None
        if self._lease is None:
            return
        try:
            async with asyncio.timeout(self._patience_s):
                await self._coordination.revoke(self._lease)
        except (CoordinationUnavailable, TimeoutError) as error:
            log.warning("registry.entry_left_behind", key=self._key, error=str(error))

    async def _until_current(self) -> None:
        try:
            async with asyncio.timeout(self._patience_s):
                await self._current.wait()
        except TimeoutError:
            log.warning("registry.entry_delayed", key=self._key)

    async def _keep(self) -> None:
        while True:
            self._asked.clear()
            try:
                await self._renew()
            except LeaseLost:
                log.warning("registry.lease_lost", key=self._key)
                self._lease = None
                continue
            except CoordinationUnavailable as error:
                if not self._away:
                    log.warning("registry.unavailable", key=self._key, error=str(error))
                self._away = True
                await asyncio.sleep(_RETRY_S)
                continue
            if self._away:
                log.info("registry.back", key=self._key)
            self._away = False
            try:
                async with asyncio.timeout_at(self._renew_at):
                    await self._asked.wait()
            except TimeoutError:
                continue

    async def _renew(self) -> None:
        """Do what is due: take a lease or renew it, and write what the store does not have."""
        now = asyncio.get_running_loop().time()
        if self._lease is None:
            self._entered = None
            self._current.clear()
            self._lease = await self._coordination.grant(self._lease_s)
            self._renew_at = now + self._lease.ttl_s / 3
        elif now >= self._renew_at:
            self._lease = await self._coordination.keep_alive(self._lease)
            self._renew_at = now + self._lease.ttl_s / 3
        member = self._member
        if self._entered != member:
            await self._coordination.put(self._key, member_json.encode(member), lease=self._lease)
            self._entered = member
        if self._entered == self._member:
            self._current.set()
