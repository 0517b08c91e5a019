"""Leading by a lease in the store: winning a term, and renewing it."""

from __future__ import annotations

import asyncio

import structlog

from balancer.leadership.parts import Parts
from balancer.leadership.stance import RENEWERS, Role
from balancer.leadership.taking import Taking
from cluster.coordination.protocol import Conflict, CoordinationUnavailable, LeaseLost

log = structlog.get_logger()


class ByLease:
    """Does for one balancer what the store is needed for, a step at a time.

    Parameters
    ----------
    parts : Parts
    taking : Taking
    """

    def __init__(self, parts: Parts, taking: Taking) -> None:
        self._name = parts.name
        self._stance, self._tenure, self._seat = parts.stance, parts.tenure, parts.seat
        self._view = parts.view
        self._store = parts.store
        self._lease_s, self._beat_s = parts.lease_s, parts.beat_s
        self._now = parts.now
        self._taking = taking
        self._fault: str | None = None

    async def run(self) -> None:
        """Take steps until cancelled: one each beat, and one whenever the view has changed."""
        while True:
            self._view.changed.clear()
            try:
                async with self._store:
                    await self._step()
            except CoordinationUnavailable as error:
                log.debug("leadership.store_away", why=str(error))
            except (Conflict, LeaseLost, ValueError) as error:
                self._note(str(error))
            else:
                self._note(None)
            try:
                async with asyncio.timeout(self._beat_s):
                    await self._view.changed.wait()
            except TimeoutError:
                pass  # it is time

    def _note(self, fault: str | None) -> None:
        if fault is not None and fault != self._fault:
            log.warning("leadership.step_failed", why=fault)
        self._fault = fault

    async def _step(self) -> None:
        now = self._now()
        self._stance.settle(now)
        role = self._stance.role
        if role is Role.PREPARED:
            await self._taking.wait(self._view.leader)
        elif role in RENEWERS and self._tenure.term is not None:
            await self._renew()
        elif role is Role.STANDBY and self._tenure.lease is not None:
            self._view.rests_until = now + self._lease_s if self._seat.fault else 0.0
            await self._tenure.end()
        elif self._view.is_vacant and self._view.may_ask(now) and self._stance.hindrance(now) is None:
            await self._campaign()

    async def _renew(self) -> None:
        try:
            until = await self._tenure.renew()
        except LeaseLost:
            log.warning("leader.lease_lost")
            self._tenure.forget()
            self._stance.lease_lost()
        else:
            self._stance.renewed(until, self._now())
        self._seat.changed()

    async def _campaign(self) -> None:
        self._stance.campaign(self._now())
        try:
            lease = await self._tenure.win()
            if lease is None or not await self._is_listed():
                await self._tenure.end()
            elif self._stance.won(lease.valid_until, self._now()):
                log.info("leader.won", token=self._tenure.term and self._tenure.term.token)
                self._seat.changed()
        finally:
            self._stance.not_won()

    async def _is_listed(self) -> bool:
        """Read the list, during the term that was won; make the first one when there is none."""
        known = await self._tenure.read_list()
        if known is None or not known.links:
            former = self._stance.known.links if known is None and self._stance.known is not None else {}
            links = {**former, self._name: self._view.members.get(self._name)}
            known = await self._tenure.write_list(links, known)
        self._stance.known = known  # what was pending is no more: that was to be written in an earlier term
        return self._name in known.links
