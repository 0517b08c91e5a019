"""The next instance is read while the present one is sent: sites and peer then work at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cluster.nouns import Version
    from storage_node.grid.grid import Grid

READ_AHEAD_LIMIT_BYTES: Final = 64 * 1024 * 1024
"""What one worker reads ahead for all its retrievals; past it they read what they send, when they send it."""


class Room:
    """Memory of one worker for what is read ahead.

    Parameters
    ----------
    size_bytes : int
    """

    def __init__(self, size_bytes: int = READ_AHEAD_LIMIT_BYTES) -> None:
        self._left_bytes = size_bytes

    def take(self, size_bytes: int) -> bool:
        """Take so much, if it is left."""
        if size_bytes > self._left_bytes:
            return False
        self._left_bytes -= size_bytes
        return True

    def give_back(self, size_bytes: int) -> None:
        """Give back what was taken."""
        self._left_bytes += size_bytes


class ReadAhead:
    """Reads versions for one peer, and at most one of them before it is asked for.

    Parameters
    ----------
    grid : Grid
    room : Room
    """

    def __init__(self, grid: Grid, room: Room) -> None:
        self._grid = grid
        self._room = room
        self._version: Version | None = None
        self._reading: asyncio.Task[bytes] | None = None

    async def begin(self, version: Version) -> None:
        """Begin to read what is asked for next, unless it is large: that is sent while it is read anyway."""
        await self.close()
        if not version.block_digests and self._room.take(version.size_bytes):
            self._version = version
            self._reading = asyncio.create_task(self._read_whole(version))

    async def _read_whole(self, version: Version) -> bytes:
        async with aclosing(self._grid.read(version)) as pieces:
            return await anext(pieces)

    async def read(self, version: Version) -> AsyncGenerator[bytes]:
        """Yield the pieces of a version (see `Grid.read`), which may have been begun before.

        Raises
        ------
        NoCopy
        """
        if self._reading is None or version != self._version:
            async with aclosing(self._grid.read(version)) as pieces:
                async for piece in pieces:
                    yield piece
            return
        reading, self._reading = self._reading, None
        try:
            yield await reading
        finally:
            await self._end(reading, version)

    async def close(self) -> None:
        """Let go of what was read and not asked for."""
        reading, self._reading = self._reading, None
        if reading is not None:
            assert self._version is not None
            await self._end(reading, self._version)

    async def _end(self, reading: asyncio.Task[bytes], version: Version) -> None:
        self._room.give_back(version.size_bytes)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
