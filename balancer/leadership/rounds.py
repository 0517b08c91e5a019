"""Asking all other balancers for their promises."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog
from prometheus_client import Counter

from balancer.leadership.interfaces import Peers, PeerUnavailable
from balancer.leadership.promises import Reply, Round
from balancer.leadership.stance import Stance
from cluster.coordination.registry import Address

log = structlog.get_logger()

ROUNDS = Counter("atria_balancer_promise_rounds_total", "Times that all balancers were asked", ["outcome"])
REFUSED = Counter("atria_balancer_promises_refused_total", "Promises that another did not make", ["by"])


class Rounds:
    """Asks for a balancer, and says who does not promise.

    Parameters
    ----------
    stance : Stance
    peers : Peers or None
        None without a link: then nobody else promises anything.
    answer_timeout_s : float
        How long an answer may take.
    now : callable
        The loop's clock, in seconds.

    Attributes
    ----------
    refusals : dict of str to str
        Who did not promise when all were asked last, and why.
    """

    def __init__(
        self, stance: Stance, peers: Peers | None, *, answer_timeout_s: float, now: Callable[[], float]
    ) -> None:
        self.refusals: dict[str, str] = {}
        self._stance = stance
        self._peers = peers
        self._answer_timeout_s = answer_timeout_s
        self._now = now

    async def ask(self) -> bool | None:
        """Ask all others, and tell whether this balancer holds the address by it; None: it may not ask."""
        asking = self._stance.ask(self._now())
        if asking is None:
            return None
        answers = await asyncio.gather(*(self._one(asking, *other) for other in asking.asked.items()))
        replies = dict(zip(asking.asked, answers, strict=True))
        held = self._stance.count(asking, replies, self._now())
        self._report({name: reply.why for name, reply in replies.items() if not reply.promised})
        ROUNDS.labels("held" if held else "refused").inc()
        return held

    async def _one(self, asking: Round, name: str, at: Address | None) -> Reply:
        if self._peers is None or at is None:
            return Reply(False, "has no link: give it certificates (link.certificate_file and others)")
        try:
            found = await self._peers.call(name, at, "promise", asking.wish.to_json(), self._answer_timeout_s)
            return Reply.from_json(found)
        except (PeerUnavailable, ValueError) as error:
            return Reply(False, str(error))

    def _report(self, refusals: dict[str, str]) -> None:
        for name in refusals:
            REFUSED.labels(name).inc()
        if refusals and refusals != self.refusals:
            log.warning("leadership.no_promise", refusals=refusals)
        elif self.refusals and not refusals:
            log.info("leadership.all_promise")
        self.refusals = refusals
