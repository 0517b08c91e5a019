"""A server that says what a test wants, byte by byte: for what a real one says once in a year."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from cluster.nouns import SiteIdentity
from storage_node.site.identity import IDENTITY_FILE, identity_content
from storage_node.site.s3 import S3Objects
from storage_node.site.s3_location import Credentials, S3Location

IDENTITY = SiteIdentity("a", "6f1c5a0e-6a43-4b6f-9c39-7f1f6a3f2d11", 1)

Say = Callable[["Asked"], bytes | None]
"""Returns the answer to a request as it is on the wire; None hangs up without one."""


class Asked:
    """A request: its first line and its body."""

    def __init__(self, line: str, body: bytes, connection: int) -> None:
        self.line = line
        self.body = body
        self.connection = connection
        """Which connection it came by, counted from 0."""


def answer(status: str, content: bytes = b"", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(content)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


def error(status: str, code: str, message: str = "") -> bytes:
    return answer(status, f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode())


@asynccontextmanager
async def fake_service(
    say: Say, *, tls: ssl.SSLContext | None = None, ca_file: Path | None = None
) -> AsyncIterator[tuple[S3Objects, list[Asked]]]:
    """Serve, and open a site there; its identity is answered well, and not shown to `say`."""
    asked: list[Asked] = []
    handlers: list[asyncio.Task[object]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = len(handlers)
        if (handler := asyncio.current_task()) is not None:
            handlers.append(handler)
        try:
            while head := await _head(reader):
                line, length = head
                body = await reader.readexactly(length)
                if IDENTITY_FILE in line:
                    said: bytes | None = answer("200 OK", identity_content(IDENTITY))
                else:
                    asked.append(Asked(line, body, number))
                    said = say(asked[-1])
                if said is None:
                    break
                if line.startswith("HEAD "):  # RFC 9110 9.3.2
                    said = said.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
                writer.write(said)
                await writer.drain()
                if b"Connection: close" in said:
                    break
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    known = Credentials("access-key", "secret-key")
    endpoint = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    site = S3Objects("a", S3Location(endpoint, "bucket", ca_file=ca_file), lambda: known, IDENTITY)
    try:
        yield site, asked
    finally:
        await site.close()
        server.close()
        await asyncio.gather(*handlers)


async def _head(reader: asyncio.StreamReader) -> tuple[str, int] | None:
    line = (await reader.readline()).decode()
    length = 0
    while line and (header := (await reader.readline()).decode().strip()):
        name, _, value = header.partition(":")
        if name.lower() == "content-length":
            length = int(value)
    return (line.strip(), length) if line else None


Call = Callable[[S3Objects], Awaitable[object]]
