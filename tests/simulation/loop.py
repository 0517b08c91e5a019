"""An event loop that waits for nothing: when all tasks wait, the clock goes on to the next timer.

Two runs of the same program take the same steps in the same order: there is no selector and no thread, and
tasks have hashes that count them, so that even a set of tasks is walked in the order in which they began.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Executor
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Final, TypeVar

T = TypeVar("T")

BEGIN: Final = datetime(2026, 3, 1, tzinfo=UTC)
"""What the wall clock says when a loop's clock says 0."""

_RESOLUTION_S: Final = 1e-6
"""Timers that are so near are due at once; less would be lost beside the seconds of some years."""


class Deadlock(Exception):
    """Tasks wait, and nothing will ever happen."""


class SimulatedTask(asyncio.Task[T]):
    """A task whose hash is its number, not its address."""

    def __init__(self, *args: Any, number: int, **kwargs: Any) -> None:
        self._number = number
        super().__init__(*args, **kwargs)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class _Selector:
    """What the base class asks to wait: it moves the clock instead."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> tuple[()]:
        if timeout is None:
            raise Deadlock("all tasks wait, and no timer is set")
        self._loop.advance(timeout)
        return ()


class SimulatedLoop(asyncio.BaseEventLoop):
    """The loop.

    Parameters
    ----------
    began : callable
        Told of each task that begins, with the context that it runs in.

    Attributes
    ----------
    faults : list of str
        What no task took notice of: exceptions that were never retrieved, and callbacks that raised.
    """

    def __init__(self, began: Callable[[asyncio.Task[Any], contextvars.Context], None]) -> None:
        super().__init__()
        self.faults: list[str] = []
        self._now_s = 0.0
        self._clock_resolution = _RESOLUTION_S
        self._selector = _Selector(self)
        self._began = began
        self._numbers = count()
        self.set_debug(False)
        self.set_task_factory(self._make_task)
        self.set_exception_handler(self._note_fault)

    def time(self) -> float:
        """Return the clock's seconds since the loop was made."""
        return self._now_s

    def now(self) -> datetime:
        """Return the wall clock."""
        return BEGIN + timedelta(seconds=self._now_s)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now_s += seconds

    def abandon(self) -> None:
        """End all tasks, whatever they were about to do."""
        self.set_exception_handler(lambda loop, context: None)
        while tasks := sorted(asyncio.all_tasks(self), key=hash):
            for task in tasks:
                task.cancel()
            self.run_until_complete(asyncio.wait(tasks))

    def run_in_executor(  # type: ignore[override]  # a coroutine's caller cannot tell it from the future
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Do at once what would be done in a thread."""
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # it is the caller's, as it would be with a thread
            future.set_exception(error)
        return future

    def _make_task(
        self,
        loop: asyncio.AbstractEventLoop,
        work: Coroutine[Any, Any, T] | Generator[Any, None, T],
        context: contextvars.Context | None = None,
    ) -> asyncio.Task[T]:
        context = context or contextvars.copy_context()
        task: SimulatedTask[T] = SimulatedTask(work, loop=loop, context=context, number=next(self._numbers))
        self._began(task, context)
        return task

    def _note_fault(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.faults.append(f"{context['message']}: {context.get('exception')!r}")

    def _process_events(self, event_list: object) -> None:
        """Take what the selector found: nothing ever is."""

    def _write_to_self(self) -> None:
        """Wake the selector: it never sleeps."""
