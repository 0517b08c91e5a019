"""Where associations wait for a worker: first come, first served among those that could be served."""

from __future__ import annotations

import asyncio
import bisect
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

LOOK_INTERVAL_S: Final = 0.1
"""How often it is looked whether somebody can be served whom no event has woken: a rest is over."""

T = TypeVar("T")


class QueueFull(Exception):
    """As many wait as may."""


@dataclass(order=True, slots=True)
class _Waiting(Generic[T]):
    place: int
    attempt: Callable[[], T | None] = field(compare=False)
    served: asyncio.Future[None] = field(compare=False)
    got: T | None = field(default=None, compare=False)


class Queue(Generic[T]):
    """Those who wait, each for what its attempt gets it: one whose attempt fails holds up nobody behind it.

    Parameters
    ----------
    limit : callable
        How many may wait at once.
    is_open : callable, optional
        Whether there is anything to be had at all: otherwise those who wait do not try. So newcomers, while
        many wait and there is least time for it, do not cost an attempt of each of them.
    """

    def __init__(self, limit: Callable[[], int], is_open: Callable[[], bool] = lambda: True) -> None:
        self._limit = limit
        self._is_open = is_open
        self._waiting: list[_Waiting[T]] = []
        self._places = itertools.count()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def place(self) -> int:
        """Return a place behind all others: who comes back with it stands where it stood, and finds it free.

        Raises
        ------
        QueueFull
        """
        if len(self._waiting) >= self._limit():
            raise QueueFull
        return next(self._places)

    def attempt(self, attempt: Callable[[], T | None]) -> T | None:
        """Make an attempt without waiting, when those who wait have had theirs."""
        self.wake()
        return attempt()

    async def wait(self, place: int, attempt: Callable[[], T | None], give_back: Callable[[T], None]) -> T:
        """Wait until an attempt succeeds, and return what it got. The caller sets the time limit.

        Parameters
        ----------
        place : int
            From `place`.
        attempt : callable
            Called whenever it may succeed, in order of places; returns None when it does not. Must not raise.
        give_back : callable
            Called with what was got when the waiting was cancelled at that very moment.
        """
        waiting = _Waiting(place, attempt, asyncio.get_running_loop().create_future())
        bisect.insort(self._waiting, waiting)
        self.wake()
        try:
            await waiting.served
        except asyncio.CancelledError:
            if waiting.got is not None:
                give_back(waiting.got)
            raise
        finally:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
        assert waiting.got is not None
        return waiting.got

    def wake(self) -> None:
        """Let those who wait make their attempts: to be called when one of them may succeed."""
        is_open = bool(self._waiting) and self._is_open()
        for waiting in list(self._waiting):
            if not is_open:
                break
            if waiting in self._waiting and (got := waiting.attempt()) is not None:
                waiting.got = got
                self._waiting.remove(waiting)
                if not waiting.served.done():
                    waiting.served.set_result(None)
                is_open = self._is_open()
        self._look_again()

    def _look_again(self) -> None:
        if self._timer is None and self._waiting:
            self._timer = asyncio.get_running_loop().call_later(LOOK_INTERVAL_S, self._look)

    def _look(self) -> None:
        self._timer = None
        self.wake()
