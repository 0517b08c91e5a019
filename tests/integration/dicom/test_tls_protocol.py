from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from cluster.settings import Tls, TlsMode
from cluster.tls import server_context
from cluster.tls_protocol import TlsProtocol
from tests.certificates import Authority
from tests.waiting import soon

MIB = 1024 * 1024
PREFACE = b"before TLS"


class Above(asyncio.BufferedProtocol):
    """Reads a preface, puts TLS on, and keeps what comes then."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context
        self.received = bytearray()
        self.ended = asyncio.Event()
        self.lost = asyncio.Event()
        self.changed = asyncio.Event()
        self.writable = asyncio.Event()
        self.writable.set()
        self._room = bytearray(65536)
        self._first = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        if isinstance(self.transport, TlsProtocol):
            self.received += self._room[:nbytes]
            self.changed.set()
            return
        self._first += self._room[:nbytes]
        if len(self._first) > len(PREFACE):
            below = self.transport
            tls = TlsProtocol(self.context, below, self)
            below.set_protocol(tls)
            self.transport = cast(asyncio.Transport, tls)
            tls.feed(self._first[len(PREFACE) :])

    def eof_received(self) -> None:
        self.ended.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()


@asynccontextmanager
async def connected(folder: Path) -> AsyncIterator[tuple[Above, asyncio.StreamReader, asyncio.StreamWriter]]:
    authority = Authority(folder)
    pair = authority.pair("worker")
    context = server_context(
        Tls(mode=TlsMode.ENDED, certificate_file=pair.certificate_file, key_file=pair.key_file)
    )
    made: list[Above] = []

    def make() -> Above:
        made.append(Above(context))
        return made[-1]

    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    try:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        writer.write(PREFACE)
        await writer.start_tls(authority.client_context(), server_hostname="127.0.0.1")
        writer.write(b"hello")
        await until(made[0], lambda: made[0].received == b"hello")
        made[0].received.clear()
        yield made[0], reader, writer
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
    finally:
        server.close()
        for above in made:
            above.transport.abort()
            await above.lost.wait()


async def until(above: Above, condition: Callable[[], bool]) -> None:
    async with soon("the condition holds", seen=lambda: len(above.received)):
        while not condition():
            above.changed.clear()
            await above.changed.wait()


async def test_what_comes_before_and_after_is_told_apart_and_goes_both_ways(tmp_path: Path) -> None:
    async with connected(tmp_path) as (above, reader, writer):
        writer.write(bytes(range(256)) * 4096)
        await until(above, lambda: len(above.received) == MIB)
        assert above.received == bytes(range(256)) * 4096
        above.transport.writelines([b"answer", b"", memoryview(bytes(MIB))])
        assert await reader.readexactly(6 + MIB) == b"answer" + bytes(MIB)


async def test_nothing_is_delivered_while_reading_is_paused_and_nothing_is_lost(tmp_path: Path) -> None:
    async with connected(tmp_path) as (above, _, writer):
        writer.write(b"one")
        await until(above, lambda: len(above.received) == 3)
        above.transport.pause_reading()
        writer.write(bytes(8 * MIB))
        await asyncio.sleep(0.2)
        assert len(above.received) == 3
        above.transport.resume_reading()
        await until(above, lambda: len(above.received) == 3 + 8 * MIB)


async def test_a_reader_that_pauses_in_the_middle_gets_the_rest_later(tmp_path: Path) -> None:
    async with connected(tmp_path) as (above, _, writer):
        deliver = above.buffer_updated

        def deliver_and_pause(nbytes: int) -> None:
            deliver(nbytes)
            above.transport.pause_reading()

        above.buffer_updated = deliver_and_pause  # type: ignore[method-assign]
        writer.write(bytes(MIB))
        while len(above.received) < MIB:
            before = len(above.received)
            await until(above, lambda: len(above.received) > before)  # noqa: B023
            above.transport.resume_reading()


async def test_a_peer_that_does_not_read_pauses_the_writer(tmp_path: Path) -> None:
    async with connected(tmp_path) as (above, reader, _):
        above.transport.set_write_buffer_limits(MIB, MIB // 4)
        above.transport.writelines([bytes(32 * MIB)])
        await asyncio.sleep(0)  # one of the loops writes at the end of a turn
        assert not above.writable.is_set()
        assert above.transport.get_write_buffer_size() > MIB
        assert len(await reader.readexactly(32 * MIB)) == 32 * MIB
        await above.writable.wait()


async def test_closing_says_farewell(tmp_path: Path) -> None:
    async with connected(tmp_path) as (above, reader, _):
        above.transport.writelines([b"last words"])
        above.transport.close()
        assert await reader.read() == b"last words"
        await above.lost.wait()


async def test_a_peers_farewell_is_an_end(tmp_path: Path) -> None:
    async with connected(tmp_path) as (above, _, writer):
        writer.close()
        await above.ended.wait()


async def test_what_is_no_tls_ends_the_connection(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with connected(tmp_path) as (above, _, writer):
        below = writer.get_extra_info("socket")
        os.write(below.fileno(), b"\x17\x03\x03\x00\x20" + bytes(32))
        await above.lost.wait()
    assert "tls.refused" in capsys.readouterr().out
