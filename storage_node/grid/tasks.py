"""Tasks that outlive the call that began them: each has an owner, who awaits it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog

T = TypeVar("T")

log = structlog.get_logger()


class Tasks:
    """Owns tasks until they are done, or until it is closed."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin a task. A fault of it that nobody expected is logged, whoever awaits it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task.failed", exc_info=error)

    async def drain(self) -> None:
        """Wait until all that was begun is done, and what that begins."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self, timeout_s: float) -> None:
        """Give what was begun so long to end by itself, then cancel it."""
        try:
            async with asyncio.timeout(timeout_s):
                await self.drain()
        except TimeoutError:
            log.warning("tasks.cancelled", tasks=len(self._tasks))
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)
