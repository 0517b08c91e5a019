"""Connections that are closed before their first PDU: all are counted, and not too many logged."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Final

import structlog
from prometheus_client import Counter

REFUSED = Counter(
    "atria_refused_connections_total", "Connections closed before their first PDU, by reason", ["reason"]
)

LOGGED_AT_ONCE: Final = 10
"""Log lines that are written within `WINDOW_S`: who floods us with connections must not flood the log."""
WINDOW_S: Final = 10.0

log = structlog.get_logger()


class Refusal(enum.StrEnum):
    """Why a connection was closed."""

    STRANGER = "stranger"
    """It comes from where nobody may call from."""
    NO_PREFACE = "no_preface"
    """What should stand before the first PDU is not there, or is wrong."""


class Refusals:
    """Counts and logs refused connections.

    Parameters
    ----------
    now : callable
        A monotonic clock, in seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._window_ends_at = 0.0
        self._seen = 0

    def note(self, refusal: Refusal, what: str, source: str) -> None:
        """Note one.

        Parameters
        ----------
        refusal : Refusal
        what : str
            What was wrong.
        source : str
            `host:port` of who connected.
        """
        REFUSED.labels(reason=refusal).inc()
        if self._now() >= self._window_ends_at:
            unlogged = max(0, self._seen - LOGGED_AT_ONCE)
            if unlogged:
                log.warning("connection.refusals_unlogged", connections=unlogged)
            self._window_ends_at = self._now() + WINDOW_S
            self._seen = 0
        self._seen += 1
        if self._seen <= LOGGED_AT_ONCE:
            log.warning("connection.refused", reason=refusal.value, what=what, source=source)
