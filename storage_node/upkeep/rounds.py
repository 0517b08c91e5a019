"""Rounds: what each daemon of the upkeep does again and again, and what is told of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, is_dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import structlog
from prometheus_client import Counter, Gauge

if TYPE_CHECKING:
    from datetime import datetime

    from _typeshed import DataclassInstance

_LAST = Gauge(
    "atria_upkeep_last_round_timestamp_seconds", "When a round of this kind last came to its end", ["daemon"]
)
_FAILED = Counter("atria_upkeep_failed_rounds_total", "Rounds that a fault ended early", ["daemon"])

log = structlog.get_logger()

Progress: TypeAlias = Callable[[int, int], None]
"""Told how much is done, and of how much: the second may grow."""


class Rounds:
    """Does one thing again and again, at intervals or when it is asked to, until it is cancelled.

    Parameters
    ----------
    name : str
        Name of the daemon, in metrics, log lines and on the status page.
    once : callable
        Does one round, and returns its report: a dataclass.
    now : callable
        Returns the time, aware.
    """

    def __init__(
        self, name: str, once: Callable[[], Awaitable[DataclassInstance]], now: Callable[[], datetime]
    ) -> None:
        self.name = name
        self._once = once
        self._now = now
        self._wanted = asyncio.Event()
        self._last: dict[str, Any] | None = None

    def run_soon(self) -> None:
        """Do the next round now: something happened that it looks for."""
        self._wanted.set()

    async def run_forever(
        self, interval_s: float, ready: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """Do round after round.

        Parameters
        ----------
        interval_s : float
            Time between two rounds.
        ready : callable, optional
            Awaited before each round.
        """
        while True:
            if ready is not None:
                await ready()
            self._wanted.clear()
            await self._round()
            # Not wait_for: until Python 3.12 it swallows a cancellation that comes with what it waits for.
            with suppress(TimeoutError):
                async with asyncio.timeout(interval_s):
                    await self._wanted.wait()

    async def _round(self) -> None:
        began = self._now()
        try:
            report = await self._once()
        except Exception as error:  # a fault of one round must not be the last of all rounds
            _FAILED.labels(daemon=self.name).inc()
            log.exception("upkeep.round_failed", daemon=self.name)
            self._last = {"began_at": began.isoformat(), "failed": repr(error)}
            return
        ended = self._now()
        _LAST.labels(daemon=self.name).set(ended.timestamp())
        self._last = {"began_at": began.isoformat(), "ended_at": ended.isoformat(), **_values(report)}

    def to_json(self) -> dict[str, Any] | None:
        """Return what the last round did, as JSON values; None before the first has ended."""
        return self._last


class SiteRounds:
    """Does one thing again and again at each site by itself: none waits for another's round to end.

    Parameters
    ----------
    name : str
        Name of the daemon, as of `Rounds`.
    once : callable
        Does one round at the site of that name.
    sites : iterable of str
    now : callable
        Returns the time, aware.
    """

    def __init__(
        self,
        name: str,
        once: Callable[[str], Awaitable[DataclassInstance]],
        sites: Iterable[str],
        now: Callable[[], datetime],
    ) -> None:
        self.name = name
        self._rounds = {site: Rounds(name, partial(once, site), now) for site in sites}

    async def run_forever(self, interval_s: float) -> None:
        """Do round after round at each site, so much time apart."""
        async with asyncio.TaskGroup() as running:
            for rounds in self._rounds.values():
                running.create_task(rounds.run_forever(interval_s))

    def to_json(self) -> dict[str, Any]:
        """Return what the last round at each site did, as JSON values; None before its first has ended."""
        return {site: rounds.to_json() for site, rounds in self._rounds.items()}


def _values(report: DataclassInstance) -> dict[str, Any]:
    assert is_dataclass(report)
    return asdict(report)
