"""Being the one process of many that does something, for as long as the store says so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from cluster.coordination.protocol import Coordination, CoordinationUnavailable, Lease, LeaseLost, Term

log = structlog.get_logger()


class Leading:
    """Campaigns in an election, and keeps what it has won.

    Parameters
    ----------
    coordination : Coordination
    election : str
        Its key.
    name : str
        Of this process, which others find at that key.
    lease_s : float
        How long the others wait for one that has gone, in seconds.
    now : callable
        The monotonic clock, in seconds.
    """

    def __init__(
        self,
        coordination: Coordination,
        election: str,
        name: str,
        lease_s: float,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._coordination = coordination
        self._election = election
        self._name = name
        self._lease_s = lease_s
        self._now = now
        self._lease: Lease | None = None
        self._term: Term | None = None
        self._away = False
        self._told = False
        self._stands_back = True
        self._stepped = asyncio.Event()

    def holds(self) -> bool:
        """Whether this process leads: never any more when the store may have ended its lease.

        It asks the clock, so a process that was stopped does not lead when it wakes too late.
        """
        return self._term is not None and self._lease is not None and self._now() < self._lease.valid_until

    @property
    def term(self) -> Term | None:
        """What writes are bound to (`put(during=…)`); None while this process does not lead."""
        return self._term if self.holds() else None

    @property
    def stands_back(self) -> bool:
        """Whether another leads, as far as is known.

        False also while the store is away: what does no harm when several do it need not wait for that.
        """
        return self._stands_back

    async def until(self, stands_back: bool) -> None:
        """Wait until `stands_back` is as given."""
        while self._stands_back != stands_back:
            await self._stepped.wait()

    async def run(self) -> None:
        """Campaign, and keep the lease, until cancelled; then resign."""
        try:
            while True:
                await self._step()
                await asyncio.sleep(self._lease_s / 3)
        finally:
            await self._resign()

    async def _step(self) -> None:
        """Renew the lease, or take one, and find out who leads."""
        try:
            await self._renew()
        except LeaseLost:
            self._lease = self._term = None
        except CoordinationUnavailable as error:
            if not self._away:
                log.warning("election.unavailable", election=self._election, error=str(error))
            self._away = True
        else:
            self._away = False
        self._stands_back = self._term is None and not self._away
        self._stepped.set()
        self._stepped = asyncio.Event()
        if self._told != self.holds():
            self._told = self.holds()
            log.info("election.won" if self._told else "election.lost", election=self._election)

    async def _renew(self) -> None:
        if self._lease is None:
            self._lease = await self._coordination.grant(self._lease_s)
        else:
            self._lease = await self._coordination.keep_alive(self._lease)
        self._term = await self._coordination.campaign(self._election, self._name.encode(), self._lease)

    async def _resign(self) -> None:
        """Let the others not wait. What cannot be told the store ends with the lease."""
        lease, self._lease, self._term = self._lease, None, None
        if lease is None:
            return
        try:
            await self._coordination.revoke(lease)
        except CoordinationUnavailable as error:
            log.warning("election.left_behind", election=self._election, error=str(error))
