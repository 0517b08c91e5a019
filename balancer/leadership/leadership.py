"""The daemon: it leads or stands by, and does what the stance allows. All that is decided is in `stance`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import structlog

from balancer.leadership import orders, remembered
from balancer.leadership.hand_over import HandOver
from balancer.leadership.interfaces import Detour, Handler, Notebook, Peers, ServiceAddress
from balancer.leadership.known import KEY, Known, Links, encode_links
from balancer.leadership.promises import Wish
from balancer.leadership.rounds import Rounds
from balancer.leadership.seat import Seat
from balancer.leadership.stance import RENEWERS, Role, Stance
from balancer.leadership.store import follow
from balancer.leadership.tenure import ELECTION, Tenure
from cluster.coordination.protocol import (
    Conflict,
    Coordination,
    CoordinationUnavailable,
    LeaseLost,
    Snapshot,
)
from cluster.coordination.registry import Address, Registry
from cluster.proxy_protocol import Endpoint

log = structlog.get_logger()

BEATS: Final = 6
"""Renewals in one lease. The kernel counts whole seconds: of a lease of 3 s that was renewed a moment ago it
grants 2. With three beats a store that takes a second to answer would cost the address."""
PATIENCE: Final = 1 / 12
"""Of a lease: how late a renewal by the store may be before the other balancers are asked."""


@dataclass(frozen=True, slots=True)
class Outside:
    """What a balancer's leadership works with."""

    coordination: Coordination
    registry: Registry
    notebook: Notebook
    address: ServiceAddress
    detour: Detour
    peers: Peers | None
    """None without a link: then it leads by lease only."""
    flows: Callable[[], Collection[Endpoint]]
    """The clients whose connections came in by the service address and are served here."""


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
        self._name = name
        self._outside = outside
        self._lease_s = lease_s
        self._cold_start_s = cold_start_s
        self._random = random
        self._now = asyncio.get_running_loop().time
        memory = remembered.recall(outside.notebook)
        self._stance = Stance(name, lease_s=lease_s, now=self._now(), grace_s=max(lease_s, memory.lease_s))
        self._written = memory.known
        if memory.known is not None:
            self._stance.learn(memory.known)
        self._tenure = Tenure(outside.coordination, name, lease_s)
        self._seat = Seat(self._stance, outside.address, self._now)
        self._rounds = Rounds(self._stance, outside.peers, answer_timeout_s=lease_s / BEATS, now=self._now)
        self._store = asyncio.Lock()
        self._hand_over = HandOver(
            self._stance,
            self._tenure,
            self._seat,
            peers=outside.peers,
            detour=outside.detour,
            flows=outside.flows,
            now=self._now,
            store=self._store,
            lease_s=lease_s,
        )
        self._leader: Snapshot | None = None
        self._away_since: float | None = self._now()
        self._members: Links = {}
        self._wake = asyncio.Event()
        self._retiring = False
        self._rests_until = 0.0

    async def run(self) -> None:
        """Lead or stand by until cancelled; then hold nothing any more."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for work in (
                    self._seat.run(),
                    self._keep_by_lease(),
                    self._keep_by_promises(),
                    self._hand_over.watch_flows(),
                    self._follow_leader(),
                    self._follow_list(),
                    self._follow_members(),
                    orders.follow(
                        self._outside.coordination,
                        self.hand_over,
                        self._lease_s / BEATS,
                        lambda: self._seat.is_held,
                    ),
                ):
                    tasks.create_task(work)
        finally:
            await self._seat.close()
            await self._hand_over.end_detour()
            await self._end_tenure()

    async def retire(self) -> None:
        """Let another lead, if there is one; and do not lead any more once it does."""
        self._retiring = True
        if self._stance.role in RENEWERS:
            for name in sorted(self._members.keys() - {self._name}):
                if await self._hand_over.give(name) is None:
                    return

    async def hand_over(self, to: str | None) -> str | None:
        """Let another lead, as an operator asks of a leader; None leaves it to the leader who.

        Return why it was refused, or None.
        """
        if to == self._name:
            return f"{to} leads already"
        others = sorted(self._members.keys() - {self._name})
        if to is not None and to not in others:
            return (
                f"there is no balancer {to}: there {'are' if others else 'is no other'} {', '.join(others)}"
            )
        if not others:
            return "there is no other balancer"
        refusals = []
        for name in [to] if to is not None else others:
            if (why := await self._hand_over.give(name)) is None:
                return None
            refusals.append(why)
        return "; ".join(refusals)

    def led_by(self) -> str | None:
        """Tell who leads instead, or why nobody is known to; None when this balancer leads."""
        if self._seat.is_held:
            return None
        return self._leader_name() or "nobody is known to lead"

    def handlers(self) -> Mapping[str, Handler]:
        """Return who answers what over the link."""
        return {
            "promise": self._promise,
            "prepare": self._prepare,
            "take": self._hand_over.take,
            "abandon": self._hand_over.abandon,
            "parked": self._hand_over.parked,
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
            "parked_flows": len(self._outside.flows()) if self._seat.is_parked else 0,
            "detour_to": self._hand_over.detour_to,
            "store_away": self._away_since is not None,
            "balancers": encode_links(known.everyone) if known is not None else {},
        }

    async def _keep_by_lease(self) -> None:
        while True:
            self._wake.clear()
            try:
                async with self._store:
                    await self._step()
            except CoordinationUnavailable as error:
                log.debug("leadership.store_away", why=str(error))
            except (Conflict, LeaseLost, ValueError, OSError) as error:
                log.warning("leadership.step_failed", why=str(error))
            try:
                async with asyncio.timeout(self._lease_s / BEATS):
                    await self._wake.wait()
            except TimeoutError:
                pass  # it is time

    async def _step(self) -> None:
        """Do the next thing that the store is needed for."""
        now = self._now()
        self._stance.settle(now)
        role = self._stance.role
        if role is Role.PREPARED:
            await self._hand_over.wait(self._leader)
        elif role in RENEWERS and self._tenure.term is not None:
            await self._renew()
        elif role is Role.STANDBY and self._tenure.lease is not None:
            self._rests_until = now + self._lease_s if self._seat.fault else 0.0
            await self._tenure.end()
        elif self._is_vacant() and self._may_campaign(now):
            await self._campaign()
        if self._stance.role is Role.LEADING and not self._retiring:
            await self._add_newcomers()
        await self._write_down()

    def _may_campaign(self, now: float) -> bool:
        return not self._retiring and now >= self._rests_until and self._stance.hindrance(now) is None

    def _is_vacant(self) -> bool:
        return self._leader is not None and ELECTION not in self._leader.entries

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
            links = {**former, self._name: self._members.get(self._name)}
            known = await self._tenure.write_list(links, known)
        if self._stance.known is None or self._stance.known.revision != known.revision:
            self._stance.known = known
        return self._name in known.links

    async def _add_newcomers(self) -> None:
        known = self._stance.known
        assert known is not None
        links = {**known.links, **self._members}
        if links == known.links:
            return
        self._stance.known = known.adding(self._members)
        await self._write_down()
        try:
            self._stance.learn(await self._tenure.write_list(links, known))
        except Conflict:
            if (found := await self._tenure.read_list()) is not None:
                self._stance.learn(found)
            return
        log.info("leadership.balancers", names=sorted(links))

    async def _write_down(self) -> None:
        known = self._stance.known
        if known is not None and known != self._written:
            await asyncio.to_thread(remembered.remember, self._outside.notebook, known, self._lease_s)
            self._written = known

    async def _keep_by_promises(self) -> None:
        """Ask the others when the store is late, or was never there."""
        beat_s = self._lease_s / BEATS
        slack_s = self._lease_s - beat_s - PATIENCE * self._lease_s
        while True:
            now = self._now()
            if self._stance.holds(now):
                early_s = self._stance.until - now - slack_s
                if early_s > 0 or self._stance.role not in RENEWERS:
                    await asyncio.sleep(max(early_s, beat_s / 4))
                elif not await self._ask():
                    await asyncio.sleep(beat_s / 4)
            elif self._is_cold(now) and await self._ask() is False:
                log.warning("leadership.nobody_leads", refusals=self._rounds.refusals)
                await asyncio.sleep(self._lease_s + self._pause_s())
            else:
                await asyncio.sleep(beat_s)

    async def _ask(self) -> bool | None:
        held = await self._rounds.ask()
        self._seat.changed()
        return held

    def _is_cold(self, now: float) -> bool:
        return (
            self._away_since is not None
            and now >= self._away_since + self._cold_start_s
            and not self._retiring
            and now >= self._rests_until
        )

    def _pause_s(self) -> float:
        """Return how long to wait before asking again: the higher the name, the longer."""
        names = sorted(self._stance.known.everyone) if self._stance.known is not None else []
        rank = names.index(self._name) if self._name in names else 0
        return (rank + self._random.random() / 2) * self._lease_s / 2

    async def _follow_leader(self) -> None:
        async for found in follow(self._outside.coordination, ELECTION, self._lease_s / BEATS):
            if found is None:
                self._away_since = self._now() if self._away_since is None else self._away_since
            else:
                self._away_since = None
            self._leader = found
            self._heed(found)
            self._wake.set()

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
        async for found in follow(self._outside.coordination, KEY, self._lease_s / BEATS):
            if found is None:
                continue
            try:
                if (entry := found.entries.get(KEY)) is not None:
                    self._stance.learn(Known.of_entry(entry))
            except ValueError as error:
                log.warning("leadership.list_unreadable", why=str(error))
                continue
            known = self._stance.known
            if known is None or not known.others(self._name):
                self._stance.alone()
            self._wake.set()

    async def _follow_members(self) -> None:
        async for members in self._outside.registry.watch():
            found: dict[str, Address | None] = {
                member.name: member.link for member in members if member.kind == "balancer"
            }
            if found != self._members:
                self._members = found
                self._wake.set()

    async def _promise(self, sender: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        reply = self._stance.asked(Wish.from_json(sender, body), self._now())
        if reply.promised:
            log.info("leadership.promised", to=sender)
        return reply.to_json()

    async def _prepare(self, sender: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        if self._retiring:
            return {"why": "is about to end"}
        return await self._hand_over.prepare(sender, body)

    def _leader_name(self) -> str | None:
        if self._away_since is not None:
            return self._stance.promised_to(self._now())
        entry = self._leader.entries.get(ELECTION) if self._leader is not None else None
        return entry.value.decode("utf-8", "replace") if entry is not None else None

    async def _end_tenure(self) -> None:
        try:
            await self._tenure.end()
        except CoordinationUnavailable as error:
            log.warning("leader.not_resigned", why=str(error))
