"""The next item of a generator, waited for no longer than wanted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Generic, Self, TypeVar

Item = TypeVar("Item")


class Patience(Generic[Item]):
    """Waits for a generator's items with a limit, which does not end the generator as a cancellation would.

    As an asynchronous context manager it closes the generator at the end of the block.
    """

    def __init__(self, items: AsyncGenerator[Item]) -> None:
        self._items = items
        self._waiting: asyncio.Future[Item] | None = None

    async def next(self, limit_s: float | None) -> Item:
        """Return the next item.

        Parameters
        ----------
        limit_s : float or None
            How long it is waited for; None for as long as it takes.

        Raises
        ------
        TimeoutError
            It has not come yet: ask again.
        StopAsyncIteration
        """
        if self._waiting is None:
            self._waiting = asyncio.ensure_future(anext(self._items))
        done, _ = await asyncio.wait({self._waiting}, timeout=limit_s)
        if not done:
            raise TimeoutError
        waiting, self._waiting = self._waiting, None
        return waiting.result()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            await asyncio.gather(self._waiting, return_exceptions=True)
        await self._items.aclose()
