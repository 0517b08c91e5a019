"""Waiting for what must come, and saying what was there instead when it does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

SOON_S: Final = 60.0
"""Limit of what must come: no measure of how fast. A test that passes waits for the event alone, and a
machine on which all takes many times as long as usual has room; one that fails ends before pytest ends it."""


@asynccontextmanager
async def soon(
    what: str, *, seen: Callable[[], object] = lambda: "nothing", within_s: float = SOON_S
) -> AsyncIterator[None]:
    """End the block after so long, and say what was waited for in vain, and what was seen last.

    Raises
    ------
    AssertionError
    """
    limit = asyncio.timeout(within_s)
    try:
        async with limit:
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise AssertionError(f"not within {within_s:g} s: {what}; seen last: {seen()}") from error


async def until(
    holds: Callable[[], bool] | Callable[[], Awaitable[bool]],
    what: str = "what was waited for came to hold",
    *,
    seen: Callable[[], object] = lambda: "nothing",
    within_s: float = SOON_S,
) -> None:
    """Wait for what raises no event here: another process does it, or a clock.

    Raises
    ------
    AssertionError
    """
    async with soon(what, seen=seen, within_s=within_s):
        while True:
            answer = holds()
            if answer if isinstance(answer, bool) else await answer:
                return
            await asyncio.sleep(0.01)
