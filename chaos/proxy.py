"""A proxy on loopback that stands before a server, and passes on, refuses, hangs, cuts, or loses answers."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import re
from typing import TYPE_CHECKING, Final

from cluster.coordination.registry import Address

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import AsyncGenerator, Awaitable, Callable

_HOST: Final = "127.0.0.1"
_PIECE_BYTES: Final = 64 * 1024
_CONTENT_LENGTH: Final = re.compile(rb"(?im)^content-length:\s*(\d+)\s*$")
_SLOW_DOWN: Final = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
_UNAVAILABLE_HEAD: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n"
    % len(_SLOW_DOWN)
)


class Mode(enum.Enum):
    """What is done to requests."""

    PASS = "passed on, and so are the answers"  # noqa: S105  no password
    UNAVAILABLE = "answered 503 SlowDown, as S3 does under load"
    HANG = "taken, and never answered"
    CUT = "cut off as soon as they connect"
    LOSE_ANSWERS = "passed on, and cut off when the answer comes"


class Proxy:
    """A proxy before one server.

    Parameters
    ----------
    server : Address
        Need not listen yet.
    """

    def __init__(self, server: Address) -> None:
        self.port = 0
        self._server = server
        self._mode = Mode.PASS
        self._listener: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], StreamWriter] = {}
        self._serve: dict[Mode, Callable[[StreamReader, StreamWriter], Awaitable[None]]] = {
            Mode.PASS: self._pass_on,
            Mode.UNAVAILABLE: self._refuse,
            Mode.HANG: self._hang,
            Mode.CUT: self._cut,
            Mode.LOSE_ANSWERS: self._lose_answers,
        }

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"http://{_HOST}:{self.port}"

    @property
    def mode(self) -> Mode:
        """What is done to requests now."""
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        """Do something else from now on. Connections that are open are cut: nobody goes on in the old way."""
        self._mode = mode
        self._abort()

    async def start(self) -> None:
        """Listen on a free port, which is its own from then on.

        Raises
        ------
        OSError
        """
        self._listener = await asyncio.start_server(self._on_connection, _HOST, self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Cut all connections, and listen no more."""
        if self._listener is not None:
            self._listener.close()
        for connection in list(self._connections):
            connection.cancel()
        self._abort()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _abort(self) -> None:
        for writer in self._connections.values():
            writer.transport.abort()

    def _on_connection(self, reader: StreamReader, writer: StreamWriter) -> None:
        connection = asyncio.create_task(self._run(reader, writer))
        self._connections[connection] = writer
        connection.add_done_callback(self._connections.pop)

    async def _run(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            await self._serve[self._mode](reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # one of the two ends is gone, which is what this is for
        finally:
            writer.transport.abort()

    async def _pass_on(self, reader: StreamReader, writer: StreamWriter) -> None:
        async with self._to_server(reader) as answers:
            while piece := await answers.read(_PIECE_BYTES):
                writer.write(piece)
                await writer.drain()

    async def _lose_answers(self, reader: StreamReader, _: StreamWriter) -> None:
        async with self._to_server(reader) as answers:
            await answers.read(1)

    async def _refuse(self, reader: StreamReader, writer: StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = _CONTENT_LENGTH.search(head)
            await reader.readexactly(int(length[1]) if length else 0)
            writer.write(_UNAVAILABLE_HEAD + (b"" if head.startswith(b"HEAD ") else _SLOW_DOWN))
            await writer.drain()

    async def _hang(self, reader: StreamReader, _: StreamWriter) -> None:
        while await reader.read(_PIECE_BYTES):
            pass

    async def _cut(self, _: StreamReader, writer: StreamWriter) -> None:
        writer.transport.abort()

    @contextlib.asynccontextmanager
    async def _to_server(self, requests: StreamReader) -> AsyncGenerator[StreamReader]:
        """Connect to the server, and pass on what is asked; give what it answers."""
        answers, upwards = await asyncio.open_connection(self._server.host, self._server.port)
        pump = asyncio.create_task(_pump(requests, upwards))
        try:
            yield answers
        finally:
            pump.cancel()
            upwards.transport.abort()
            await asyncio.gather(pump, return_exceptions=True)


async def _pump(source: StreamReader, target: StreamWriter) -> None:
    while piece := await source.read(_PIECE_BYTES):
        target.write(piece)
        await target.drain()
    target.write_eof()
