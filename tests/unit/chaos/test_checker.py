from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from chaos.checker import judge
from chaos.history import Attempt, Content, Outcome

_CONTENT = Content("1.2.1", "1.2.840.10008.1.2.1", "aa", 10)
_OTHER = replace(_CONTENT, digest="bb")
_NEVER_SENT = replace(_CONTENT, digest="cc")
_UID = _CONTENT.sop_instance_uid


def _attempt(outcome: Outcome, content: Content = _CONTENT) -> Attempt:
    return Attempt(0, content, datetime(2026, 3, 1, tzinfo=UTC), outcome)


def test_what_was_acknowledged_and_comes_back_as_it_was_sent_holds() -> None:
    verdict = judge([_attempt(Outcome.ACKNOWLEDGED)], {_UID: _CONTENT})
    assert verdict.held
    assert verdict.acknowledged == 1


def test_what_was_acknowledged_and_is_not_there_is_lost() -> None:
    attempt = _attempt(Outcome.ACKNOWLEDGED)
    verdict = judge([attempt, _attempt(Outcome.REFUSED)], {})
    assert verdict.lost == (attempt,)
    assert not verdict.held


def test_what_comes_back_otherwise_than_anybody_sent_it_differs() -> None:
    attempt = _attempt(Outcome.ACKNOWLEDGED)
    for back in (_NEVER_SENT, replace(_CONTENT, transfer_syntax_uid="1.2.840.10008.1.2")):
        verdict = judge([attempt], {_UID: back})
        assert verdict.differing == (attempt,)
        assert not verdict.held


def test_a_refusal_may_be_stored_all_the_same_or_not() -> None:
    for outcome in (Outcome.REFUSED, Outcome.UNKNOWN):
        assert judge([_attempt(outcome)], {}).held
        verdict = judge([_attempt(outcome)], {_UID: _CONTENT})
        assert verdict.held
        assert verdict.unknown == 1
        assert judge([_attempt(Outcome.ACKNOWLEDGED), _attempt(outcome, _OTHER)], {_UID: _OTHER}).held
