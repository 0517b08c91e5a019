"""A few threads of one site's own, so that a disk that hangs holds up nobody else's work."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar

from storage_node.site.protocol import SiteUnavailable

T = TypeVar("T")

_Work = Callable[[], None]

CLOSE_TIMEOUT_S: Final = 5.0
"""How long closing waits for work that is under way."""


class Threads:
    """Runs blocking work of one site in a bounded number of daemon threads.

    Work that waits is bounded as well: past the limit the site does not keep up, and says so at once. Daemon
    threads, because a thread that hangs in a dead disk must not keep its process from ending.

    Parameters
    ----------
    site : str
        Name of the site, for errors and thread names.
    threads : int
        How many run at most; they are started as they are needed.
    queue_limit : int
        How much work may wait for a thread.
    """

    def __init__(self, site: str, *, threads: int, queue_limit: int) -> None:
        self._site = site
        self._limit = threads
        self._queue_limit = queue_limit
        self._queue: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._unfinished: set[asyncio.Future[None]] = set()
        self._closed = False

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` in a thread and return what it returns, or raise what it raises.

        When the caller is cancelled, work that has begun goes on to its end, and work that waits is dropped.

        Raises
        ------
        SiteUnavailable
            Too much work is waiting already, or the threads were closed.
        """
        if self._closed:
            raise SiteUnavailable(self._site, "it was closed")
        if len(self._unfinished) >= self._limit + self._queue_limit:
            raise SiteUnavailable(self._site, f"{len(self._unfinished)} calls are waiting for it")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        finished: asyncio.Future[None] = loop.create_future()
        self._unfinished.add(finished)
        finished.add_done_callback(self._unfinished.discard)

        def settle(result: T | None, error: BaseException | None) -> None:
            finished.set_result(None)
            if answer.done():
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(result)  # type: ignore[arg-type]  # None only when T is

        def run() -> None:
            result, error = None, None
            if not answer.cancelled():
                try:
                    result = work()
                except BaseException as caught:  # it is the caller's, whatever it is
                    error = caught
            with suppress(RuntimeError):  # the loop was closed: nobody waits any more
                loop.call_soon_threadsafe(settle, result, error)

        self._queue.put(run)
        if len(self._threads) < min(self._limit, len(self._unfinished)):
            self._start()
        return await answer

    def _start(self) -> None:
        name = f"site-{self._site}-{len(self._threads)}"
        thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _serve(self) -> None:
        while (work := self._queue.get()) is not None:
            work()
            del work  # what it holds must not wait for the next

    async def close(self) -> None:
        """Take no more work; wait for what was begun, within a limit: threads that hang are left behind."""
        self._closed = True
        if self._unfinished:
            await asyncio.wait(self._unfinished, timeout=CLOSE_TIMEOUT_S)
        for _ in self._threads:
            self._queue.put(None)
