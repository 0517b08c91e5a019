"""A planned change of leader, as its taker sees it: it is prepared, and takes the address (see `giving`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from balancer.address.faults import AddressFault
from balancer.leadership.former_flows import FormerFlows
from balancer.leadership.known import Known
from balancer.leadership.parts import Parts
from balancer.leadership.tenure import ELECTION
from cluster.coordination.protocol import CoordinationUnavailable, Lease, LeaseLost, Revision, Snapshot

PREPARED_LEASES: Final = 4
"""For how many leases it stays prepared: longer than it waits for a giver that says nothing."""


@dataclass(slots=True)
class _Awaited:
    """A term that this balancer is ready to be given."""

    giver_token: Revision
    """Of the giver's term: the one that it gives is later."""
    seen_at: float | None = None
    """When the store was first seen to have it."""


class Taking:
    """Takes over for one balancer.

    Parameters
    ----------
    parts : Parts
    former : FormerFlows
    """

    def __init__(self, parts: Parts, former: FormerFlows) -> None:
        self._stance, self._tenure, self._seat = parts.stance, parts.tenure, parts.seat
        self._view = parts.view
        self._store = parts.store
        self._lease_s = parts.lease_s
        self._now = parts.now
        self._former = former
        self._awaited: _Awaited | None = None

    async def prepare(self, giver: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Be ready to be given the term (`prepare` of the link)."""
        known, token = Known.from_json(body["known"]), int(body["token"])
        if why := self._hindrance(known, giver, float(body["lease_s"])):
            return {"why": why}
        if why := self._stance.prepare(giver, self._now(), PREPARED_LEASES * self._lease_s):
            return {"why": why}
        self._awaited = None
        async with self._store:
            try:
                lease = await self._be_ready(giver, known, token)
            except (AddressFault, CoordinationUnavailable, OSError) as error:
                await self._not_given()
                return {"why": f"cannot: {error}"}
            if self._stance.prepared_by(self._now()) == giver:
                return {"lease": lease.id}
            await self._former.end_detour()
        return {"why": "was told meanwhile that it is not to lead"}

    async def take(self, giver: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Take the address: the giver holds it no more (`take` of the link)."""
        token, awaited = int(body["token"]), self._awaited
        if self._stance.prepared_by(self._now()) != giver or awaited is None or token <= awaited.giver_token:
            return {"taken": False}  # it may be late, and mean a term of a former hand-over
        return {"taken": await self._take(token)}

    async def abandon(self, giver: str, _: Mapping[str, Any]) -> Mapping[str, Any]:
        """Be prepared no more (`abandon` of the link)."""
        if self._stance.prepared_by(self._now()) == giver:
            await self._not_given()
        return {}

    async def wait(self, leader: Snapshot | None) -> None:
        """While prepared: keep the lease, and look whether the term has come, or has ended.

        Parameters
        ----------
        leader : Snapshot or None
            What the store says of the election, if it says anything.

        Raises
        ------
        CoordinationUnavailable
        """
        lease, awaited = self._tenure.lease, self._awaited
        if lease is None or awaited is None:
            return  # it is being readied
        entry = leader and leader.entries.get(ELECTION)
        # What this balancer sees of the election may be older than the term of its giver.
        if leader is not None and entry is None and leader.revision > awaited.giver_token:
            await self._not_given()
            return
        if entry and entry.lease == lease.id:
            awaited.seen_at = self._now() if awaited.seen_at is None else awaited.seen_at
            if self._now() >= awaited.seen_at + max(self._lease_s, lease.ttl_s):
                await self._take(entry.changed)
                return
        try:
            await self._tenure.renew()
        except LeaseLost:
            if self._stance.prepared_by(self._now()):
                await self._not_given()

    def _hindrance(self, known: Known, giver: str, lease_s: float) -> str | None:
        if self._view.retiring:
            return "is about to end"
        if giver not in known.links or self._stance.name not in known.links:
            return "is not in the list of balancers yet"
        if lease_s != self._lease_s:
            return f"has another lease ({self._lease_s:g} s): let service.lease_s be the same everywhere"
        return None

    async def _be_ready(self, giver: str, known: Known, token: Revision) -> Lease:
        lease = await self._tenure.be_ready()
        self._awaited = _Awaited(token)
        if self._stance.known is None or self._stance.known.revision <= known.revision:
            self._stance.known = known
        await self._former.begin_detour(giver, known.links[giver])
        return lease

    async def _take(self, token: int) -> bool:
        lease = self._tenure.lease
        if lease is None or not self._stance.given(lease.valid_until, self._now()):
            return False
        self._tenure.accept(token)
        await self._seat.settle()
        return self._seat.is_held

    async def _not_given(self) -> None:
        """Be prepared no more.

        The lease is left to run out: the term may have been given to it all the same, and would end with it
        while the giver still holds the address, which does not know yet that it has given.
        """
        self._stance.not_given()
        self._awaited = None
        self._tenure.forget()
        await self._former.end_detour()
