"""Group commit: changes that callers make at the same time share a transaction."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from storage_node.catalogue.protocol import CatalogueUnavailable

C = TypeVar("C")

AT_ONCE: Final = 256
"""Changes that share a transaction at most."""


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[C]):
    change: C
    outcome: asyncio.Future[object]


class GroupCommit(Generic[C]):
    """Takes all changes that wait, has them made in one transaction, and hands the outcomes over.

    While one transaction is under way the next ones gather: the busier it is, the more share one.

    Parameters
    ----------
    perform : callable
        Makes changes in one transaction, and returns an outcome for each.
    """

    def __init__(self, perform: Callable[[Sequence[C]], Awaitable[Sequence[object]]]) -> None:
        self._perform = perform
        self._waiting: deque[_Waiting[C]] = deque()
        self._running: asyncio.Task[None] | None = None

    async def do(self, change: C) -> object:
        """Have a change made. A caller that is cancelled before it was begun takes it back.

        Raises
        ------
        CatalogueUnavailable
            It may have been made all the same.
        """
        waiting = _Waiting(change, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await waiting.outcome

    async def close(self) -> None:
        """Let what waits be made."""
        if self._running is not None:
            await asyncio.wait([self._running])

    async def _run(self) -> None:
        try:
            while batch := self._next():
                await self._make(batch)
        finally:
            self._running = None

    def _next(self) -> list[_Waiting[C]]:
        batch: list[_Waiting[C]] = []
        while self._waiting and len(batch) < AT_ONCE:
            if not (one := self._waiting.popleft()).outcome.done():
                batch.append(one)
        return batch

    async def _make(self, batch: Sequence[_Waiting[C]]) -> None:
        try:
            outcomes = await self._perform([one.change for one in batch])
        except Exception as error:  # handed to who asked: the others are to have their turn
            if isinstance(error, CatalogueUnavailable) or len(batch) == 1:
                outcomes = [error] * len(batch)
            else:  # one of the changes is at fault: the others are not to suffer for it
                for one in batch:
                    await self._make([one])
                return
        for one, outcome in zip(batch, outcomes, strict=True):
            if one.outcome.done():
                continue
            if isinstance(outcome, BaseException):
                one.outcome.set_exception(outcome)
            else:
                one.outcome.set_result(outcome)
