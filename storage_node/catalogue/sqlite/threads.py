"""Threads that work for an event loop, each with a queue of its own."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

T = TypeVar("T")
W = TypeVar("W")

CLOSE_TIMEOUT_S: Final = 5.0
"""How long closing waits for what is under way: a thread that hangs in a dead disk is left alone."""


@dataclass(frozen=True, slots=True)
class Job(Generic[W]):
    """Something to be done, and who waits for it."""

    work: W
    future: asyncio.Future[object]


Outcome = object | BaseException
"""What a job returned, or why it failed."""


class WorkThread(Generic[W]):
    """A daemon thread that takes all work that waits, does it, and hands the outcomes over at once.

    Parameters
    ----------
    name : str
    perform : callable
        Called in the thread with some work, returns an outcome for each piece, and never raises.
    at_once : int
        How many pieces are taken together at most.
    queue_limit : int
        How many may wait.
    at_end : callable
        Called in the thread when it ends.
    """

    def __init__(
        self,
        name: str,
        perform: Callable[[Sequence[W]], Sequence[Outcome]],
        *,
        at_once: int,
        queue_limit: int,
        at_end: Callable[[], None],
    ) -> None:
        self._name = name
        self._perform = perform
        self._at_once = at_once
        self._queue_limit = queue_limit
        self._at_end = at_end
        self._queue: queue.SimpleQueue[Job[W] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    @property
    def is_full(self) -> bool:
        """Whether as much work waits as may."""
        return self._queue.qsize() >= self._queue_limit

    async def do(self, work: W) -> object:
        """Have something done. A caller that is cancelled before it was begun takes it back."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        job = Job(work, asyncio.get_running_loop().create_future())
        self._queue.put(job)
        return await job.future

    async def close(self) -> None:
        """End the thread after the work that waits, or leave it alone if it hangs."""
        if self._thread is None:
            return
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join, CLOSE_TIMEOUT_S)

    def _run(self) -> None:
        going_on = True
        while going_on:
            jobs: list[Job[W] | None] = [self._queue.get()]
            with suppress(queue.Empty):
                while len(jobs) < self._at_once and jobs[-1] is not None:
                    jobs.append(self._queue.get_nowait())
            going_on = jobs[-1] is not None
            asked = [job for job in jobs if job is not None and not job.future.cancelled()]
            if asked:
                _hand_over(asked, self._perform([job.work for job in asked]))
        self._at_end()


def _hand_over(jobs: Sequence[Job[W]], outcomes: Sequence[Outcome]) -> None:
    loop = jobs[0].future.get_loop()
    with suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(_resolve, jobs, outcomes)


def _resolve(jobs: Sequence[Job[W]], outcomes: Sequence[Outcome]) -> None:
    for job, outcome in zip(jobs, outcomes, strict=True):
        if job.future.done():
            continue
        if isinstance(outcome, BaseException):
            job.future.set_exception(outcome)
        else:
            job.future.set_result(outcome)
