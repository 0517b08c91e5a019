"""The next instances are read while the present one is sent: sites and peer then work at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from itertools import islice
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cluster.nouns import Version
    from storage_node.grid.grid import Grid

READ_AHEAD: Final = 3
"""Versions that are read for one peer before they are asked for: reading one takes longer than sending it."""
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
    """Reads versions for one peer, and `READ_AHEAD` of them at most before they are asked for.

    Parameters
    ----------
    grid : Grid
    room : Room
    """

    def __init__(self, grid: Grid, room: Room) -> None:
        self._grid = grid
        self._room = room
        self._reading: dict[Version, asyncio.Task[bytes]] = {}

    async def begin(self, following: Iterable[Version]) -> None:
        """Begin to read what is asked for next, in that order, as far as there is room; let go of all else.

        A large one ends it: that is sent while it is read anyway.
        """
        wanted = list(islice(following, READ_AHEAD))
        for version in self._reading.keys() - set(wanted):
            await self._end(version, self._reading.pop(version))
        for version in wanted:
            if version in self._reading:
                continue
            if version.block_digests or not self._room.take(version.size_bytes):
                return
            self._reading[version] = asyncio.create_task(self._read_whole(version))

    async def _read_whole(self, version: Version) -> bytes:
        async with aclosing(self._grid.read(version)) as pieces:
            return await anext(pieces)

    async def read(self, version: Version) -> AsyncGenerator[bytes]:
        """Yield the pieces of a version (see `Grid.read`), which may have been begun before.

        Raises
        ------
        NoCopy
        """
        reading = self._reading.pop(version, None)
        if reading is None:
            async with aclosing(self._grid.read(version)) as pieces:
                async for piece in pieces:
                    yield piece
            return
        try:
            yield await reading
        finally:
            await self._end(version, reading)

    async def close(self) -> None:
        """Let go of what was read and not asked for."""
        await self.begin(())

    async def _end(self, version: Version, reading: asyncio.Task[bytes]) -> None:
        self._room.give_back(version.size_bytes)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
