"""Ways to break what balancers decide: the simulation has to notice each of them.

Each clause of the proof in `balancer.leadership.stance` has a case of its own in the unit tests besides.
"""

from __future__ import annotations

from typing import Final

from tests.simulation.mutation import Mutation

_STANCE: Final = "balancer.leadership.stance"
_HAND_OVER: Final = "balancer.leadership.hand_over"


def _one(name: str, breaks: str, module: str, old: str, new: str, caught_by: int) -> Mutation:
    return Mutation(name, breaks, module, old, new, caught_by)


ALL: Final = (
    _one(
        "a_leader_promises",
        "who holds promises nothing",
        _STANCE,
        "if self.role in HOLDERS or self.role is Role.CAMPAIGNING:",
        "if self.role is Role.YIELDING:",
        0,
    ),
    _one(
        "promises_are_broken",
        "who has promised asks for nothing",
        _STANCE,
        "        if to := self.promised_to(now):\n            return",
        "        if (to := self.promised_to(now)) and not now:\n            return",
        0,
    ),
    _one(
        "promises_are_forgotten_at_the_start",
        "who begins anew waits until what it promised is over",
        _STANCE,
        "Role.STARTING: now >= self._starts_at,",
        "Role.STARTING: True,",
        40,
    ),
    _one(
        "one_promise_is_enough",
        "all others must promise",
        _STANCE,
        "if all(name in replies",
        "if any(name in replies",
        3,
    ),
    _one(
        "a_right_is_counted_from_the_answers",
        "a right is counted from before the first was asked",
        _STANCE,
        "max(asking.began + self._lease_s, self.until)",
        "now + self._lease_s",
        360,
    ),
    _one(
        "a_taker_does_not_wait",
        "who sees the term in its own name waits until the giver's time is over",
        _HAND_OVER,
        "if self._now() >= self._given_at + max(self._lease_s, lease.ttl_s):",
        "if self._now() >= self._given_at:",
        18,
    ),
)
