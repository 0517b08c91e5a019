from __future__ import annotations

import structlog

from cluster.dicom.refusals import LOGGED_AT_ONCE, WINDOW_S, Refusal, Refusals


def test_after_a_flood_the_log_says_how_many_it_does_not_show() -> None:
    now = 100.0
    refusals = Refusals(lambda: now)
    with structlog.testing.capture_logs() as logs:
        for _ in range(LOGGED_AT_ONCE + 7):
            refusals.note(Refusal.STRANGER, "nobody may call from there", "192.0.2.7:4711")
        assert len(logs) == LOGGED_AT_ONCE
        now += WINDOW_S
        refusals.note(Refusal.NO_PREFACE, "no signature", "192.0.2.8:4711")
        refusals.note(Refusal.NO_PREFACE, "no signature", "192.0.2.8:4711")
    assert [entry["event"] for entry in logs[LOGGED_AT_ONCE:]] == [
        "connection.refusals_unlogged",
        "connection.refused",
        "connection.refused",
    ]
    assert logs[LOGGED_AT_ONCE]["connections"] == 7
