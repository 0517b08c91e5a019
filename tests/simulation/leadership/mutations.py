"""Ways to break what balancers decide: the simulation has to notice each of them."""

from __future__ import annotations

from typing import Final

from tests.simulation.mutation import Mutation

_STANCE: Final = "balancer.leadership.stance"
_HAND_OVER: Final = "balancer.leadership.hand_over"


def _one(name: str, breaks: str, module: str, old: str, new: str, caught_by: int = 0) -> Mutation:
    return Mutation(name, breaks, module, old, new, caught_by)


ALL: Final = (
    _one(
        "a_leader_promises",
        "who holds promises nothing",
        _STANCE,
        "if self.role in HOLDERS or self.role is Role.CAMPAIGNING:",
        "if self.role is Role.YIELDING:",
    ),
    _one(
        "a_candidate_promises",
        "who has asked the store promises nothing",
        _STANCE,
        "if self.role in HOLDERS or self.role is Role.CAMPAIGNING:",
        "if self.role in HOLDERS:",
    ),
    _one(
        "promises_are_broken",
        "who has promised asks for nothing",
        _STANCE,
        "        if to := self.promised_to(now):\n            return",
        "        if (to := self.promised_to(now)) and not now:\n            return",
    ),
    _one(
        "promises_are_forgotten_at_the_start",
        "who begins anew waits until what it promised is over",
        _STANCE,
        "Role.STARTING: now >= self._starts_at,",
        "Role.STARTING: True,",
    ),
    _one(
        "one_promise_is_enough",
        "all others must promise",
        _STANCE,
        "if all(name in replies",
        "if any(name in replies",
    ),
    _one(
        "a_right_is_counted_from_the_answers",
        "a right is counted from before the first was asked",
        _STANCE,
        "max(asking.began + self._lease_s, self.until)",
        "now + self._lease_s",
    ),
    _one(
        "late_answers_count",
        "answers to what was dropped meanwhile do not count",
        _STANCE,
        "        if self._round is not asking:\n            return False\n",
        "        if self._round is not asking:\n            self.role = Role.ASKING\n",
    ),
    _one(
        "who_promises_goes_on_asking",
        "who promises drops what it asks for itself",
        _STANCE,
        "if self.role in (Role.ASKING, Role.PREPARED):",
        "if self.role is Role.PREPARED:",
    ),
    _one(
        "two_promises_at_a_time",
        "a promise is given to one",
        _STANCE,
        "if (to := self.promised_to(now)) not in (None, wish.name):",
        "if (to := self.promised_to(now)) not in (None, wish.name) and not now:",
    ),
    _one(
        "old_lists_are_good_enough",
        "nothing is promised to who knows an older list",
        _STANCE,
        "if wish.known.revision < self.known.revision:",
        "if wish.known.revision < 0:",
    ),
    _one(
        "a_giver_renews",
        "who gives the term away renews nothing",
        _STANCE,
        "RENEWERS: Final = frozenset({Role.LEADING, Role.LEADING_BY_PROMISES})",
        "RENEWERS: Final = frozenset({Role.LEADING, Role.LEADING_BY_PROMISES, Role.YIELDING})",
    ),
    _one(
        "a_taker_does_not_wait",
        "who sees the term in its own name waits until the giver's time is over",
        _HAND_OVER,
        "if self._now() >= self._given_at + max(self._lease_s, lease.ttl_s):",
        "if self._now() >= self._given_at:",
    ),
    _one(
        "the_giver_goes_on_without_knowing",
        "who cannot tell whether its term was given away lets go",
        _HAND_OVER,
        "            await self._tenure.confirm()\n",
        "            await asyncio.sleep(0)\n",
    ),
    _one(
        "a_lost_lease_is_kept",
        "who has lost its lease lets go",
        _STANCE,
        "        self.settle(now)\n        if self.role not in RENEWERS:\n            return False\n",
        "        if self.role not in RENEWERS:\n            return False\n",
    ),
)
