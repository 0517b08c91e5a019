"""Ways to break what balancers decide: the simulation has to notice each of them.

Each clause of the proof in `balancer.leadership.stance`, and what a taker has to heed, is taken away in the
unit tests besides: most of it takes more at one time than a short row of histories meets.
"""

from __future__ import annotations

from typing import Final

from tests.simulation.mutation import Mutation

_STANCE: Final = "balancer.leadership.stance"

ALL: Final = (
    Mutation(
        "a_leader_promises",
        "who holds promises nothing",
        _STANCE,
        "if self.role in HOLDERS or self.role is Role.CAMPAIGNING:",
        "if self.role is Role.YIELDING:",
        1,
    ),
    Mutation(
        "promises_are_broken",
        "who has promised asks for nothing",
        _STANCE,
        "        if to := self.promised_to(now):\n            return",
        "        if (to := self.promised_to(now)) and not now:\n            return",
        2,
    ),
)
