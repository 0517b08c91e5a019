"""The tests of `stance` and `taking` notice each clause of the proof that is taken away.

Those are cases of one process, which random histories of several meet too seldom. What the simulation does
notice is in its own list (`tests/simulation/leadership/mutations.py`).
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest

from balancer.leadership import stance, taking
from tests.simulation.mutation import Mutation
from tests.unit.balancer.leadership import test_hand_over, test_stance

STANCE: Final = {
    "a holder holds beyond its time": ("self.role in HOLDERS and now >= self.until", "False"),
    "what was promised before the start is forgotten": (
        "Role.STARTING: now >= self._starts_at",
        "Role.STARTING: True",
    ),
    "a lease that was longer before is forgotten": ("now + max(lease_s, kept_s)", "now + lease_s"),
    "who has promised asks": ("        if to := self.promised_to(now):\n", "        if (to := None):\n"),
    "who is not listed campaigns": (
        'and self.name not in self.known.links:\n            return "is not',
        'and not now + 1:\n            return "is not',
    ),
    "an older list replaces a later one": ("known.revision > self.known.revision", "True"),
    "a renewal that came too late counts": (
        "settle(now)\n        if self.role not in RENEWERS:\n            return False\n        self._hold",
        "link_of(str())\n        if self.role not in RENEWERS:\n            return False\n        self._hold",
    ),
    "a lost lease does not let go": (
        "        if self.role is Role.LEADING:\n            self._move",
        "        if self.role is Role.STANDBY:\n            self._move",
    ),
    "one that is being added is not asked": (
        "self.known.others(self.name), now)",
        "{n: a for n, a in self.known.links.items() if n != self.name}, now)",
    ),
    "one promise is enough": ("if all(name in replies", "if any(name in replies"),
    "a right is counted from the answers": (
        "max(asking.began + self._lease_s, self.until)",
        "now + self._lease_s",
    ),
    "a right that is promised shortens a lease": (
        "self.until = max(self.until, until)",
        "self.until = min(self.until or until, until)",
    ),
    "an asking that ended counts": ("        if self._round is not asking:\n            return False\n", ""),
    "a lost disk promises": (
        '        if self.known is None:\n            return Reply(False, "knows no list of balancers")\n',
        "        self.known = self.known or wish.known\n",
    ),
    "who knows less is promised to": (
        "if wish.known.revision < self.known.revision:",
        "if wish.known.revision < 0:",
    ),
    "who promises asks on": ("if self.role is Role.ASKING or (", "if ("),
    "who is prepared is given the term after it has promised": (
        "(self.role is Role.PREPARED and not wish.holds)",
        "not self.role",
    ),
    "a promise is shorter than it is taken for": (
        "Promise(wish.name, now + self._lease_s)",
        "Promise(wish.name, now + self._lease_s / 2)",
    ),
    "who can be elected is bound": ("if reaches_store and", "if reaches_store and not now + 1 and"),
    "who is promised to another is prepared": (
        "and self.promised_to(now) != giver:",
        "and self.promised_to(now) is None:",
    ),
    "a preparation does not end": ("now >= self._prepared.until,", "False,"),
    "a giver renews": (
        "RENEWERS: Final = frozenset({Role.LEADING, Role.LEADING_BY_PROMISES})",
        "RENEWERS: Final = HOLDERS",
    ),
    "longer promises are made than kept": ("if wish.lease_s > self._lease_s:", "if wish.lease_s < 0:"),
    "longer promises are made than written down": ("if self.kept_s < self._lease_s:", "if self.kept_s < 0:"),
    "a stranger is promised to": ("or wish.name not in wish.known.links:", ":"),
    "a stranger promises": ("if self.name not in wish.known.everyone or", "if"),
    "one that is being added is not counted": (
        "if added := self.known.pending.keys() - wish.known.everyone.keys():",
        "if added := set[str]():",
    ),
    "a holder promises": ("if self.role in HOLDERS or self.role is", "if self.role is"),
    "a candidate promises": (
        "if self.role in HOLDERS or self.role is Role.CAMPAIGNING:",
        "if self.role in HOLDERS:",
    ),
    "who is prepared promises to others": ("and self._prepared.to != wish.name:", "and not now + 1:"),
    "who renews is refused": ("        if wish.holds:\n            return None\n", ""),
    "who has just begun promises": (
        '        if self.role is Role.STARTING:\n            return "has',
        '        if self.role is Role.STANDBY and not now + 1:\n            return "has',
    ),
    "both who ask promise": (
        "if self.role is Role.ASKING and self.name < wish.name:",
        "if self.role is Role.YIELDING:",
    ),
    "a promise is given to two": ("not in (None, wish.name):", "not in (None, to):"),
}
"""What goes wrong, by the lines of `stance` that are changed."""
TAKING: Final = {
    "a taker does not wait": (">= awaited.seen_at + max(self._lease_s, lease.ttl_s):", ">= awaited.seen_at:"),
    "a preparation ends while it waits": ("return  # it is being readied", "return await self._not_given()"),
    "a vacancy of before the giver's term counts": ("leader.revision > awaited.giver_token:", "leader:"),
    "a word of an earlier hand-over counts": (" or token <= awaited.giver_token:", ":"),
    "a lease is offered that was abandoned": (
        "if self._stance.prepared_by(self._now()) == giver:\n                return {",
        "if lease:\n                return {",
    ),
    "a term that may have been given is ended": (
        "        self._tenure.forget()\n",
        "        await self._tenure.end()\n",
    ),
}
"""The same, of `taking`."""


@pytest.mark.parametrize("wrong", STANCE)
def test_a_clause_of_the_proof_that_is_taken_away_is_missed(
    wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _is_missed(stance, wrong, STANCE[wrong], test_stance, monkeypatch), f"no test misses it: {wrong}"


@pytest.mark.parametrize("wrong", TAKING)
def test_what_a_taker_has_to_heed_is_missed(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _is_missed(taking, wrong, TAKING[wrong], test_hand_over, monkeypatch), (
        f"no test misses it: {wrong}"
    )


def _is_missed(
    module: ModuleType,
    wrong: str,
    change: tuple[str, str],
    tests: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
) -> bool:
    mutation = Mutation(module.__name__, wrong, module.__name__, *change, caught_by=0)
    monkeypatch.setitem(sys.modules, module.__name__, _module(module, mutation.apply))
    return any(map(_fails, _cases(_module(tests))))


def _module(original: ModuleType, change: Callable[[str], str] = str) -> ModuleType:
    """Return a module made anew from its source, as it is changed."""
    assert original.__file__ is not None
    made = ModuleType(original.__name__)
    code = compile(change(Path(original.__file__).read_text("utf-8")), original.__file__, "exec")
    exec(code, made.__dict__)
    return made


def _cases(tests: ModuleType) -> list[Callable[[], object]]:
    """Return the tests that need nothing."""
    functions = [found for name, found in vars(tests).items() if name.startswith("test_")]
    return [found for found in functions if not inspect.signature(found).parameters]


def _fails(case: Callable[[], object]) -> bool:
    try:
        if inspect.iscoroutine(work := case()):
            asyncio.run(work)
    except AssertionError:
        return True
    return False
