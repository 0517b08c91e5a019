"""A planned change of leader, as its giver sees it: somebody answers at the address all the time.

The giver asks the taker to prepare (`taking`): it readies a lease, and sends on to the giver what comes for
the address and did not begin at the taker. The term is given to that lease. The giver parks the address, so
that its flows go on, and says so; the taker takes the address. When no flow of the giver is left, the detour
ends (`former_flows`).

Where it stops in between: before the term is given, the giver goes on, and the taker's preparation runs out.
After it, the taker sees the term in its own name, and takes the address one lease later, when the giver's
time is over whatever became of it. When the giver dies, the taker campaigns as after any failure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import structlog

from balancer.leadership.former_flows import ANSWER_TIMEOUT_S, FormerFlows
from balancer.leadership.interfaces import PeerUnavailable
from balancer.leadership.parts import Parts
from cluster.coordination.protocol import Conflict, CoordinationUnavailable, Lease, LeaseLost
from cluster.coordination.registry import Address

log = structlog.get_logger()

PREPARING: Final = 1 / 3
"""Of a lease: how long the taker may need to prepare. Nothing is renewed meanwhile, and a taker that gives no
answer must not cost the giver its lease."""


class Giving:
    """Gives the term of one balancer away.

    Parameters
    ----------
    parts : Parts
    former : FormerFlows
    """

    def __init__(self, parts: Parts, former: FormerFlows) -> None:
        self._stance, self._tenure, self._seat = parts.stance, parts.tenure, parts.seat
        self._peers = parts.outside.peers
        self._store = parts.store
        self._lease_s = parts.lease_s
        self._now = parts.now
        self._former = former

    async def give(self, to: str) -> str | None:
        """Let another lead. Return why it was refused, or None; it is logged what became of it."""
        at = self._stance.link_of(to)
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
        if token is not None:
            return await self._let_take(to, at, token)
        if self._stance.holds(self._now()):
            return "the term could not be given away: this balancer goes on"
        return "the term is over"

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

        The lease of this balancer is not renewed in between: so that one lasts longer.
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

    async def _let_take(self, to: str, at: Address, token: int) -> str | None:
        """Let go of the address, and say so. Return why the other did not take it, or None."""
        gone = await self._seat.park()
        answer = await self._tell(to, at, "take", {"token": token}) if gone else None
        await self._tidy_up()
        if answer is None:
            log.warning("leader.not_told", to=to, what="it takes the address one lease later by itself")
            return None
        return None if answer.get("taken") is True else f"{to} did not take the address: its log says why"

    async def _tidy_up(self) -> None:
        """End what is left over; it ends by itself, too."""
        try:
            await self._tenure.end()
        except CoordinationUnavailable:
            self._tenure.forget()
        await self._former.end_detour()

    async def _tell(
        self, to: str, at: Address, what: str, body: Mapping[str, Any]
    ) -> Mapping[str, Any] | None:
        assert self._peers is not None
        try:
            return await self._peers.call(to, at, what, body, ANSWER_TIMEOUT_S)
        except PeerUnavailable:
            return None
