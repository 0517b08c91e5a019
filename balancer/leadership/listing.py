"""Keeping the list of balancers: on disk, and in the store while this balancer leads by a lease.

Apart from what renews the lease: a disk that takes seconds must not cost the address.
"""

from __future__ import annotations

import asyncio

import structlog

from balancer.leadership import remembered
from balancer.leadership.known import Known
from balancer.leadership.parts import Parts
from balancer.leadership.remembered import Remembered
from balancer.leadership.stance import Role
from cluster.coordination.protocol import Conflict, CoordinationUnavailable

log = structlog.get_logger()


class Listing:
    """Keeps the list for one balancer.

    Parameters
    ----------
    parts : Parts
    written : Remembered
        What the notebook says.
    """

    def __init__(self, parts: Parts, written: Remembered) -> None:
        self._stance, self._tenure, self._view = parts.stance, parts.tenure, parts.view
        self._notebook = parts.outside.notebook
        self._store = parts.store
        self._lease_s, self._beat_s = parts.lease_s, parts.beat_s
        self._written = written
        self._fault: str | None = None

    async def run(self) -> None:
        """Keep it until cancelled."""
        while True:
            try:
                await self._step()
            except CoordinationUnavailable as error:
                log.debug("leadership.store_away", why=str(error))
            except (ValueError, OSError) as error:
                self._note(str(error))
            else:
                self._note(None)
            await asyncio.sleep(self._beat_s)

    async def _step(self) -> None:
        """Add who has announced itself; written down first, so that from then on it is counted."""
        if self._adds and self._newcomers(known := self._known()):
            self._stance.known = known.adding(self._view.members)
        await self._write_down()
        async with self._store:
            if self._adds and self._written.known == self._stance.known and self._known().pending:
                await self._write(self._known())

    @property
    def _adds(self) -> bool:
        leads = self._stance.role is Role.LEADING and self._tenure.term is not None
        return leads and not self._view.retiring

    def _known(self) -> Known:
        assert self._stance.known is not None
        return self._stance.known

    def _newcomers(self, known: Known) -> bool:
        return {**known.everyone, **self._view.members} != known.everyone

    async def _write(self, known: Known) -> None:
        """Add those that are still there. Those that have gone are pending no more: there is a later list."""
        there = {name: link for name, link in known.pending.items() if name in self._view.members}
        links = {**known.links, **there}
        try:
            self._stance.learn(await self._tenure.write_list(links, known))
        except Conflict:
            if (found := await self._tenure.read_list()) is not None:
                self._stance.learn(found)
            return
        log.info("leadership.balancers", names=sorted(links))

    async def _write_down(self) -> None:
        known = self._stance.known
        if known is None or (now := Remembered(known, self._lease_s)) == self._written:
            return
        await asyncio.to_thread(remembered.remember, self._notebook, known, self._lease_s)
        self._written = now
        self._stance.kept_s = self._lease_s

    def _note(self, fault: str | None) -> None:
        if fault is not None and fault != self._fault:
            log.warning("leadership.list_not_kept", why=fault)
        self._fault = fault
