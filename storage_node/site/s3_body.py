"""The body of a request: parts that are sent as they are, without being put together first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, NoReturn

from aiohttp import Payload

if TYPE_CHECKING:
    import asyncio

    from aiohttp.abc import AbstractStreamWriter

    from cluster.nouns import Buffer

PIECE_BYTES: Final = 1024 * 1024
"""How much is handed to the transport at once."""
_JOINED_BYTES: Final = 64 * 1024
"""Parts smaller than this cost less to copy together than to hand over one by one."""


class Body(Payload):
    """Parts of a known size; they can be sent again on another connection.

    A request that is given up must not go on holding them: a transport that is merely closed keeps what it
    has not sent yet until the other side has taken it, which a server that hangs never does. So `give_up`
    breaks the connection off.
    """

    def __init__(self, parts: Sequence[Buffer]) -> None:
        super().__init__(parts, content_type="application/octet-stream")
        self._parts = parts
        self._size = sum(memoryview(part).nbytes for part in parts)
        self._transport: asyncio.WriteTransport | None = None
        self.sent = False
        """Whether all of it was handed over; a service may answer, and hang up, before."""

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Send all parts."""
        await self.write_with_length(writer, None)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Send all parts: as much as was declared."""
        assert content_length in (None, self._size)
        self.sent = False
        self._transport = writer.transport
        for piece in _pieces(self._parts):
            if len(piece) >= _JOINED_BYTES:
                writer.send_headers()  # by themselves, if that was not done yet: with them it would be copied
            await writer.write(piece)
        self.sent = True

    def give_up(self) -> None:
        """Break the connection off, and let go of the parts."""
        self._parts = ()
        if self._transport is not None:
            self._transport.abort()

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> NoReturn:  # noqa: ARG002  as in Payload
        """Refuse: they are bytes."""
        raise TypeError("not a text")


def _pieces(parts: Sequence[Buffer]) -> Iterator[Buffer]:
    small: list[Buffer] = []
    small_bytes = 0
    for part in parts:
        view = memoryview(part).cast("B")
        if view.nbytes < _JOINED_BYTES:
            small.append(view)
            small_bytes += view.nbytes
            if small_bytes < PIECE_BYTES:
                continue
        if small:
            yield b"".join(small)
            small, small_bytes = [], 0
        if view.nbytes >= _JOINED_BYTES:
            yield from (view[start : start + PIECE_BYTES] for start in range(0, view.nbytes, PIECE_BYTES))
    if small:
        yield b"".join(small)
