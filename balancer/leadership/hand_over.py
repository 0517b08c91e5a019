"""A planned change of leader: in an order in which somebody answers at the address all the time.

The giver asks the taker to prepare: it readies a lease, and sends on to the giver what comes for the address
and did not begin at the taker. The term is given to that lease. The giver parks the address, so that its
flows go on, and says so; the taker takes the address. When no flow of the giver is left, the detour ends.

Where it stops in between: before the term is given, the giver goes on, and the taker's preparation runs out.
After it, the taker sees the term in its own name, and takes the address one lease later, when the giver's
time is over whatever became of it. When the giver dies, the taker campaigns as after any failure.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

import structlog

from balancer.address.faults import AddressFault
from balancer.leadership.interfaces import Detour, Peers, PeerUnavailable
from balancer.leadership.known import Known
from balancer.leadership.seat import Seat
from balancer.leadership.stance import Stance
from balancer.leadership.tenure import ELECTION, Tenure
from cluster.coordination.protocol import (
    Conflict,
    CoordinationUnavailable,
    Lease,
    LeaseLost,
    Revision,
    Snapshot,
)
from cluster.coordination.registry import Address
from cluster.proxy_protocol import Endpoint, IPAddress

log = structlog.get_logger()

ANSWER_TIMEOUT_S: Final = 2.0
"""How long the taker may need to take, or for anything that nobody waits for."""
PREPARING: Final = 1 / 3
"""Of a lease: how long the taker may need to prepare. Nothing is renewed meanwhile, and a taker that gives no
answer must not cost the giver its lease."""
PREPARED_LEASES: Final = 4
"""For how many leases it stays prepared: longer than it waits for a giver that says nothing."""
LOST_GIVER_ASKED: Final = 9
"""How often a former leader is asked for its flows without an answer, until they are given up."""


@dataclass(slots=True)
class _Awaited:
    """A term that this balancer is ready to be given."""

    giver_token: Revision
    """Of the giver's term: the one that it gives is later."""
    seen_at: float | None = None
    """When the store was first seen to have it."""


class HandOver:
    """Both sides of it, for one balancer.

    Parameters
    ----------
    stance, tenure, seat
        Of this balancer.
    peers : Peers or None
        None without a link: then there is no planned change.
    detour : Detour
    flows : callable
        The clients whose connections came in by the service address and are served here.
    now : callable
        The loop's clock, in seconds.
    store : asyncio.Lock
        Held by who changes something in the store.
    lease_s : float

    Attributes
    ----------
    detour_to : str or None
        The former leader that is sent what did not begin here.
    """

    def __init__(
        self,
        stance: Stance,
        tenure: Tenure,
        seat: Seat,
        *,
        peers: Peers | None,
        detour: Detour,
        flows: Callable[[], Collection[Endpoint]],
        now: Callable[[], float],
        store: asyncio.Lock,
        lease_s: float,
    ) -> None:
        self.detour_to: str | None = None
        self._stance = stance
        self._tenure = tenure
        self._seat = seat
        self._peers = peers
        self._detour = detour
        self._flows = flows
        self._now = now
        self._store = store
        self._lease_s = lease_s
        self._awaited: _Awaited | None = None
        self._detours = 0

    async def reason_to_wait(self, to: str) -> str | None:
        """Tell whose flows a change would reset: the next leader sends on to here, and no further."""
        former = self.detour_to
        if former in (None, to) or await self._flows_of(former) == 0:
            return None
        return (
            f"associations of {former} still run by way of this balancer:"
            f" hand over to {former}, or wait until they have ended"
        )

    async def give(self, to: str) -> str | None:
        """Let another lead. Return why it was refused, or None; it is logged what became of it."""
        at = self._link_of(to)
        if self._peers is None or at is None:
            why: str | None = (
                f"there is no link to {to}: give both balancers certificates (link.certificate_file)"
            )
        else:
            async with self._store:
                why = await self._give(to, at)
            if why is not None:  # the lease is renewed meanwhile
                await self._tell(to, at, "abandon", {})
        if why is None:
            log.info("leader.handed_over", to=to)
        else:
            log.warning("leader.not_handed_over", to=to, why=why)
        return why

    async def _give(self, to: str, at: Address) -> str | None:
        if why := await self._renew():
            return why
        lease = await self._prepare(to, at)
        if isinstance(lease, str):
            return lease
        if not self._stance.give(self._now()):
            return "this balancer leads no more"
        token = await self._give_term(to, lease)
        if token is None:
            return (
                "the term could not be given away: this balancer goes on"
                if self._leads
                else "the term is over"
            )
        gone = await self._seat.park()
        answer = await self._tell(to, at, "take", {"token": token}) if gone else None
        if answer is None:
            log.warning("leader.not_told", to=to, what="it takes the address one lease later by itself")
        await self._after_giving()
        refused = answer is not None and answer.get("taken") is not True
        return f"{to} did not take the address: its log says why" if refused else None

    async def _renew(self) -> str | None:
        """Have a whole lease ahead, or tell why not."""
        if self._tenure.term is None:
            return "this balancer does not lead by a lease: is etcd away?"
        try:
            leads = self._stance.renewed(await self._tenure.renew(), self._now())
        except (LeaseLost, CoordinationUnavailable) as error:
            return f"the lease was not renewed: {error}"
        self._seat.changed()
        return None if leads else "this balancer leads no more"

    async def _prepare(self, to: str, at: Address) -> Lease | str:
        """Have another be ready, and return its lease, or why not.

        Nothing is renewed in between: so that lease lasts longer than this balancer holds the address.
        """
        assert self._peers is not None
        assert self._stance.known is not None
        assert self._tenure.term is not None
        body = {
            "known": self._stance.known.to_json(),
            "lease_s": self._lease_s,
            "token": self._tenure.term.token,
        }
        timeout_s = min(ANSWER_TIMEOUT_S, PREPARING * self._lease_s)
        try:
            ready = await self._peers.call(to, at, "prepare", body, timeout_s)
            if why := ready.get("why"):
                return f"{to} {why}"
            return Lease(int(ready["lease"]), self._lease_s, 0.0)
        except (PeerUnavailable, KeyError, ValueError, TypeError) as error:
            return f"{to} gives no answer: {error}"

    @property
    def _leads(self) -> bool:
        return self._stance.holds(self._now())

    async def _give_term(self, to: str, lease: Lease) -> int | None:
        """Give the term away, and return its token; None when it was not, whether or not we still lead."""
        try:
            return (await self._tenure.give(to, lease)).token
        except (LeaseLost, CoordinationUnavailable):
            await self._keep_term()
        except Conflict:
            self._tenure.forget()
            self._stance.let_go()
            await self._seat.settle()
        return None

    async def _keep_term(self) -> None:
        """Go on leading if that is certain; else hold no longer than until our time is over."""
        try:
            await self._tenure.confirm()
            self._stance.keep(self._now())
        except (Conflict, LeaseLost, CoordinationUnavailable) as error:
            log.warning("leader.uncertain", why=str(error))
            self._tenure.forget()
        self._seat.changed()

    async def _after_giving(self) -> None:
        """Tidy up: what is left over ends by itself, too."""
        try:
            await self._tenure.end()
        except CoordinationUnavailable:
            self._tenure.forget()
        await self.end_detour()

    async def prepare(self, giver: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Be ready to be given the term (`prepare` of the link)."""
        known, token = Known.from_json(body["known"]), int(body["token"])
        if giver not in known.links or self._stance.name not in known.links:
            return {"why": "is not in the list of balancers yet"}
        if float(body["lease_s"]) != self._lease_s:
            return {
                "why": f"has another lease ({self._lease_s:g} s): let service.lease_s be the same everywhere"
            }
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
            await self.end_detour()
        return {"why": "was told meanwhile that it is not to lead"}

    async def _be_ready(self, giver: str, known: Known, token: Revision) -> Lease:
        lease = await self._tenure.be_ready()
        self._awaited = _Awaited(token)
        if self._stance.known is None or self._stance.known.revision <= known.revision:
            self._stance.known = known
        towards = await _resolve(known.links[giver])
        self._detours += 1
        await self._detour.begin(towards, self._flows())
        self.detour_to = giver
        return lease

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

    async def parked(self, _asker: str, _: Mapping[str, Any]) -> Mapping[str, Any]:
        """Tell how many flows of the time of leading still run here (`parked` of the link)."""
        return {"flows": len(self._flows()) if self._seat.is_parked else 0}

    async def wait(self, leader: Snapshot | None) -> None:
        """While prepared: keep the lease, and look whether the term has come, or has ended.

        Parameters
        ----------
        leader : Snapshot or None
            What the store says of the election, if it says anything.
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

    async def watch_flows(self) -> None:
        """End what no flow needs any more: our parked address, the detour to a former leader."""
        failed = 0
        while True:
            await asyncio.sleep(self._lease_s / 3)
            if self._seat.is_parked and not self._flows():
                await self._seat.unpark()
            if self.detour_to is None or self._stance.prepared_by(self._now()):
                failed = 0
                continue
            detours = self._detours
            flows = await self._flows_of(self.detour_to)
            failed = failed + 1 if flows is None else 0
            if detours != self._detours:
                continue  # the answer is about an earlier one
            if flows == 0 or failed >= LOST_GIVER_ASKED:
                await self.end_detour()

    async def end_detour(self) -> None:
        """Send nothing on any more. Where the kernel refuses, it is tried again (`watch_flows`)."""
        to, self.detour_to = self.detour_to, None
        if to is None:
            return
        try:
            await self._detour.end()
        except AddressFault as error:
            log.warning("leader.detour_not_ended", to=to, why=str(error))
            self.detour_to = self.detour_to or to
        else:
            log.info("leader.detour_ended", to=to)

    async def _flows_of(self, name: str) -> int | None:
        at = self._link_of(name)
        if self._peers is None or at is None:
            return None
        try:
            return int((await self._peers.call(name, at, "parked", {}, ANSWER_TIMEOUT_S))["flows"])
        except (PeerUnavailable, KeyError, ValueError, TypeError):
            return None

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
        await self.end_detour()

    async def _tell(
        self, to: str, at: Address, what: str, body: Mapping[str, Any]
    ) -> Mapping[str, Any] | None:
        assert self._peers is not None
        try:
            return await self._peers.call(to, at, what, body, ANSWER_TIMEOUT_S)
        except PeerUnavailable:
            return None

    def _link_of(self, name: str) -> Address | None:
        return self._stance.known.links.get(name) if self._stance.known is not None else None


async def _resolve(at: Address | None) -> IPAddress:
    if at is None:
        raise OSError("the leader has no link")
    try:
        return ip_address(at.host)
    except ValueError:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(at.host, at.port, type=socket.SOCK_STREAM)
        return ip_address(found[0][4][0])
