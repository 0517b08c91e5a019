"""The bytes in memory that one worker allows itself for instances it is receiving."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Budget:
    """Bytes that may be held at once; who asks for more than is left waits his turn.

    While he waits nobody reads his association, so that TCP holds his peer back: that is how a limit
    on memory reaches the sender.
    """

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._held_bytes = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def hold(self, size_bytes: int) -> AsyncIterator[None]:
        """Hold so many bytes (at most the whole budget) for as long as the context lasts."""
        size_bytes = min(size_bytes, self._size_bytes)
        await self._acquire(size_bytes)
        try:
            yield
        finally:
            self._held_bytes -= size_bytes
            self._admit()

    async def _acquire(self, size_bytes: int) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size_bytes, turn))
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it was his turn already
                self._held_bytes -= size_bytes
            self._admit()
            raise

    def _admit(self) -> None:
        while self._waiting:
            size_bytes, turn = self._waiting[0]
            if not turn.cancelled():
                if self._held_bytes + size_bytes > self._size_bytes:
                    return
                self._held_bytes += size_bytes
                turn.set_result(None)
            self._waiting.popleft()
