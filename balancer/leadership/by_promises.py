"""Leading by the promises of all others: when the store is late, and when it never was there."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Final

import structlog

from balancer.leadership.parts import Parts
from balancer.leadership.rounds import Rounds
from balancer.leadership.stance import RENEWERS

log = structlog.get_logger()

PATIENCE: Final = 1 / 12
"""Of a lease: how late a renewal by the store may be before the other balancers are asked."""


class ByPromises:
    """Asks for one balancer when it is time.

    Parameters
    ----------
    parts : Parts
    rounds : Rounds
    cold_start_s : float
        How long the store may be away before a balancer that holds nothing asks.
    random : Random
        Source of pauses.
    """

    def __init__(self, parts: Parts, rounds: Rounds, *, cold_start_s: float, random: Random) -> None:
        self._stance, self._seat, self._view = parts.stance, parts.seat, parts.view
        self._rounds = rounds
        self._lease_s, self._beat_s = parts.lease_s, parts.beat_s
        self._slack_s = parts.lease_s - parts.beat_s - PATIENCE * parts.lease_s
        self._cold_start_s = cold_start_s
        self._random = random
        self._now = parts.now
        self._told: dict[str, str] | None = None

    async def run(self) -> None:
        """Ask when it is time, until cancelled."""
        while True:
            now = self._now()
            if self._stance.holds(now):
                self._told = None
                await self._hold_on(now)
            elif self._is_cold(now) and await self._ask() is False:
                self._tell(self._rounds.refusals)
                await asyncio.sleep(self._lease_s + self._pause_s())
            else:
                await asyncio.sleep(self._beat_s)

    async def _hold_on(self, now: float) -> None:
        early_s = self._stance.until - now - self._slack_s
        if early_s > 0 or self._stance.role not in RENEWERS:
            await asyncio.sleep(max(early_s, self._beat_s / 4))
        elif not await self._ask():
            await asyncio.sleep(self._beat_s / 4)

    async def _ask(self) -> bool | None:
        held = await self._rounds.ask()
        self._seat.changed()
        return held

    def _tell(self, refusals: dict[str, str]) -> None:
        """Say that nobody leads, and say it again only for other reasons: it may be so for a night."""
        if refusals != self._told:
            log.warning("leadership.nobody_leads", refusals=refusals)
        self._told = refusals

    def _is_cold(self, now: float) -> bool:
        """Whether the store has been away for so long that it is not waited for."""
        away_since = self._view.away_since
        return away_since is not None and now >= away_since + self._cold_start_s and self._view.may_ask(now)

    def _pause_s(self) -> float:
        """Return how long to wait before asking again: the higher the name, the longer."""
        names = sorted(self._stance.known.everyone) if self._stance.known is not None else []
        rank = names.index(self._stance.name) if self._stance.name in names else 0
        return (rank + self._random.random() / 2) * self._lease_s / 2
