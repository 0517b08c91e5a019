"""The daemon: it leads or stands by, and does what the stance allows. All that is decided is in `stance`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from random import Random
from typing import Any, Final

import structlog

from balancer.leadership import metrics, orders, remembered
from balancer.leadership.by_lease import ByLease
from balancer.leadership.by_promises import ByPromises
from balancer.leadership.former_flows import FormerFlows
from balancer.leadership.giving import Giving
from balancer.leadership.interfaces import Handler, Outside
from balancer.leadership.known import KEY, Known, encode_links
from balancer.leadership.listing import Listing
from balancer.leadership.parts import Parts
from balancer.leadership.promises import Wish
from balancer.leadership.rounds import Rounds
from balancer.leadership.seat import Seat
from balancer.leadership.stance import RENEWERS, Role, Stance
from balancer.leadership.taking import Taking
from balancer.leadership.tenure import ELECTION, Tenure
from balancer.leadership.view import View
from cluster.coordination.following import follow, sightings
from cluster.coordination.protocol import CoordinationUnavailable, Snapshot

log = structlog.get_logger()

RETIRING: Final = 2
"""Leases in which one that ends looks for somebody to lead: what hinders another is over after one."""


class Leadership:
    """One balancer's part in who leads.

    Parameters
    ----------
    name : str
        In the cluster.
    outside : Outside
    lease_s : float
        How long a leader that has gone is waited for.
    cold_start_s : float
        How long the store may be away before a balancer that holds nothing asks the others.
    random : Random
        Source of pauses.
    """

    def __init__(
        self, name: str, outside: Outside, *, lease_s: float, cold_start_s: float, random: Random
    ) -> None:
        now = asyncio.get_running_loop().time
        memory = remembered.recall(outside.notebook)
        stance = Stance(name, lease_s=lease_s, now=now(), kept_s=memory.lease_s)
        if memory.known is not None:
            stance.learn(memory.known)
        parts = Parts(
            name=name,
            outside=outside,
            lease_s=lease_s,
            now=now,
            stance=stance,
            tenure=Tenure(outside.coordination, name, lease_s),
            seat=Seat(stance, outside.address, now),
            view=View(away_since=now()),
            store=asyncio.Lock(),
        )
        metrics.expose(stance, parts.view, now)
        self._leader_seen = metrics.LeaderSeen()
        self._remembered = memory.known
        self._parts = parts
        self._name, self._outside, self._now = name, outside, now
        self._stance, self._tenure, self._seat, self._view = stance, parts.tenure, parts.seat, parts.view
        self._former = FormerFlows(parts)
        self._giving = Giving(parts, self._former)
        self._taking = Taking(parts, self._former)
        self._by_lease = ByLease(parts, self._taking)
        self._listing = Listing(parts, memory)
        self._rounds = Rounds(stance, outside.peers, answer_timeout_s=parts.beat_s, now=now)
        self._by_promises = ByPromises(parts, self._rounds, cold_start_s=cold_start_s, random=random)

    async def run(self) -> None:
        """Lead or stand by until cancelled; then hold nothing any more."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for work in (
                    self._seat.run(),
                    self._by_lease.run(),
                    self._by_promises.run(),
                    self._listing.run(),
                    self._former.watch(),
                    self._follow_leader(),
                    self._follow_list(),
                    self._follow_members(),
                    orders.follow(
                        self._outside.coordination,
                        self.hand_over,
                        self._parts.beat_s,
                        lambda: self._seat.is_held,
                    ),
                ):
                    tasks.create_task(work)
        finally:
            gone = await self._seat.close()
            await self._former.end_detour()
            await self._end_tenure(gone)

    async def retire(self) -> None:
        """Let another lead, if there is one; and do not lead any more once it does.

        One that has just begun, or has promised something, can lead within a lease: it is waited for.
        """
        self._view.retiring = True
        ends_at = self._now() + RETIRING * self._parts.lease_s
        while self._stance.role in RENEWERS and (others := self._others()):
            for name in others:
                if await self._giving.give(name) is None:
                    return
            if self._now() >= ends_at:
                return
            await asyncio.sleep(self._parts.beat_s)

    async def hand_over(self, to: str | None) -> str | None:
        """Let another lead, as an operator asks of a leader; None leaves it to the leader who.

        Return why it was refused, or None.
        """
        if to == self._name:
            return f"{to} leads already"
        others = self._others()
        if to is not None and to not in others:
            return (
                f"there is no balancer {to}: there {'are' if others else 'is no other'} {', '.join(others)}"
            )
        if not others:
            return "there is no other balancer"
        refusals = []
        for name in [to] if to is not None else others:
            why = await self._former.reason_to_wait(name) or await self._giving.give(name)
            if why is None:
                return None
            refusals.append(why)
        return "; ".join(refusals)

    def led_by(self) -> str | None:
        """Tell who leads instead, or why nobody is known to; None when this balancer leads."""
        if self._seat.is_held:
            return None
        if (leader := self._leader_name()) is not None:
            return leader
        refusals = "; ".join(f"{name} {why}" for name, why in self._rounds.refusals.items())
        return f"nobody is known to lead{f': {refusals}' if refusals else ''}"

    def handlers(self) -> Mapping[str, Handler]:
        """Return who answers what over the link."""
        return {
            "promise": self._promise,
            "prepare": self._taking.prepare,
            "take": self._taking.take,
            "abandon": self._taking.abandon,
            "parked": self._former.parked,
        }

    def status(self) -> dict[str, object]:
        """Return what the status page says."""
        now, known = self._now(), self._stance.known
        return {
            "leads": self._seat.is_held,
            "role": self._stance.role.value,
            "leader": self._name if self._seat.is_held else self._leader_name(),
            "holds_by": {Role.LEADING_BY_PROMISES: "promises"}.get(self._stance.role, "lease")
            if self._seat.is_held
            else None,
            "holds_for_s": round(self._stance.until - now, 3) if self._seat.is_held else None,
            "term": self._tenure.term.token if self._tenure.term is not None else None,
            "promised_to": self._stance.promised_to(now),
            "refusals": self._rounds.refusals,
            "address_fault": self._seat.fault,
            "parked_flows": self._former.parked_flows,
            "detour_to": self._former.detour_to,
            "store_away": self._view.away_since is not None,
            "balancers": encode_links(known.everyone) if known is not None else {},
        }

    def _others(self) -> list[str]:
        """Return who else is there: first a former leader whose flows still run."""
        others = self._view.members.keys() - {self._name}
        return sorted(others, key=lambda name: (name != self._former.detour_to, name))

    async def _follow_leader(self) -> None:
        coordination = self._outside.coordination
        async for found in sightings(coordination, ELECTION, longest_pause_s=self._parts.beat_s):
            if found is not None:
                self._view.away_since = None
            elif self._view.away_since is None:
                self._view.away_since = self._now()
            self._view.leader = found
            self._leader_seen.note(None if found is None else self._leader_name())
            self._heed(found)
            self._view.changed.set()

    def _heed(self, found: Snapshot | None) -> None:
        """Let go when the store says that the term is over, whatever became of the lease."""
        term = self._tenure.term
        if found is None or term is None or self._stance.role is not Role.LEADING:
            return
        entry = found.entries.get(ELECTION)
        if found.revision > term.token and (entry is None or entry.changed > term.token):
            log.warning("leader.term_over", token=term.token)
            self._stance.lease_lost()
            self._seat.changed()

    async def _follow_list(self) -> None:
        async for found in follow(self._outside.coordination, KEY, longest_pause_s=self._parts.beat_s):
            try:
                if (entry := found.entries.get(KEY)) is not None:
                    self._stance.learn(Known.of_entry(entry))
            except ValueError as error:
                log.warning("leadership.list_unreadable", why=str(error))
                continue
            if not self._may_have_promised():
                self._stance.alone()
            self._view.changed.set()

    def _may_have_promised(self) -> bool:
        """Tell whether there was, or may have been, somebody to promise something to before this began.

        That is told by the list that was known then, and not by a later one: others may have been forgotten.
        """
        lists = (self._remembered, self._stance.known)
        if lists == (None, None):
            return False
        return any(known is None or known.others(self._name) for known in lists)

    async def _follow_members(self) -> None:
        async for members in self._outside.registry.watch():
            found = {member.name: member.link for member in members if member.kind == "balancer"}
            if found != self._view.members:
                self._view.members = found
                self._view.changed.set()

    async def _promise(self, sender: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        now = self._now()
        before = self._stance.promised_to(now)
        may_be_elected = self._view.away_since is None and self._view.may_ask(now)
        reply = self._stance.asked(Wish.from_json(sender, body), now, reaches_store=may_be_elected)
        if reply.promised and before != sender:
            log.info("leadership.promised", to=sender)
        return reply.to_json()

    def _leader_name(self) -> str | None:
        if self._view.away_since is not None:
            return self._stance.promised_to(self._now())
        entry = self._view.entry
        return entry.value.decode("utf-8", "replace") if entry is not None else None

    async def _end_tenure(self, gone: bool) -> None:
        """Let others lead at once, unless somebody may have the address yet: this host, or a giver."""
        if not gone or self._stance.prepared_by(self._now()):
            self._tenure.forget()
        try:
            await self._tenure.end()
        except CoordinationUnavailable as error:
            log.warning("leader.not_resigned", why=str(error))
