"""How fast, and how much at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable
from contextlib import aclosing
from typing import Any, TypeVar

T = TypeVar("T")


class Pace:
    """Lets through so many bytes a second, on average; a piece that is larger makes the next one wait.

    Parameters
    ----------
    bytes_per_s : float or None
        None lets everything through at once.
    """

    def __init__(self, bytes_per_s: float | None) -> None:
        self.bytes_per_s = bytes_per_s
        self._free_at_s = 0.0

    async def spend(self, size_bytes: int) -> None:
        """Wait until these bytes may be moved."""
        if self.bytes_per_s is None:
            return
        now_s = asyncio.get_running_loop().time()
        begins_s = max(self._free_at_s, now_s)
        self._free_at_s = begins_s + size_bytes / self.bytes_per_s
        if begins_s > now_s:
            await asyncio.sleep(begins_s - now_s)


async def all_of(calls: Iterable[Awaitable[T]]) -> list[T]:
    """Await some calls at once, each to its end, and return their answers.

    Raises
    ------
    Exception
        The first in their order that failed.
    """
    answers = await asyncio.gather(*calls, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return [answer for answer in answers if not isinstance(answer, BaseException)]


async def together(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Do some works at once. When one fails, or this is cancelled, so are the others, in their order.

    It is over when all are, whereas a `gather` that is cancelled is over with the first of them: what they
    worked on can be closed.

    Raises
    ------
    Exception
        The first that one of them raised.
    """
    tasks = [asyncio.ensure_future(work) for work in works]
    cancelled: asyncio.CancelledError | None = None
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            if not task.cancelling():
                task.cancel()
        while unfinished := [task for task in tasks if not task.done()]:
            try:
                await asyncio.wait(unfinished)
            except asyncio.CancelledError as again:
                cancelled = again
        if cancelled is not None:
            raise cancelled


async def in_turn(items: Iterable[T]) -> AsyncGenerator[T]:
    """Yield items, for `each`."""
    for item in items:
        yield item


async def pages(items: AsyncGenerator[T], size: int) -> AsyncGenerator[list[T]]:
    """Yield items, so many at a time, and the rest."""
    page: list[T] = []
    async with aclosing(items):
        async for item in items:
            page.append(item)
            if len(page) == size:
                yield page
                page = []
    if page:
        yield page


async def each(items: AsyncGenerator[T], work: Callable[[T], Awaitable[None]], *, at_once: int) -> None:
    """Work on items, so many at the same time; they are begun in their order.

    After a fault no other item is begun. What is cancelled is so in a fixed order.

    Raises
    ------
    Exception
        The first that `work` or `items` raised.
    """
    taking = asyncio.Lock()
    faults: list[BaseException] = []

    async def go_on() -> None:
        while True:
            async with taking:
                if faults:
                    return
                try:
                    item = await anext(items)
                except StopAsyncIteration:
                    return
            await work(item)

    async def until_a_fault() -> None:
        try:
            await go_on()
        except Exception as fault:  # handed on below, once the others have ended
            faults.append(fault)

    async with aclosing(items):
        await together(until_a_fault() for _ in range(at_once))
    if faults:
        raise faults[0]
