"""A front door with workers that do as they are told, and callers, all on loopback."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

from balancer.front_door import FrontDoor
from cluster import proxy_protocol
from cluster.coordination.registry import Address, Announcement, Member, Registry
from cluster.settings import Settings
from cluster.settings.live import LiveSettings
from tests.registry import registry_in_memory
from tests.waiting import until

Script = Callable[["Visit"], Awaitable[None]]


def pdu(pdu_type: int, body: bytes) -> bytes:
    return struct.pack("!BBI", pdu_type, 0, len(body)) + body


def associate_rq(calling: str = "CT-1", *, padding_bytes: int = 0) -> bytes:
    body = b"\0\1\0\0" + b"ATRIA".ljust(16) + calling.encode().ljust(16) + bytes(32 + padding_bytes)
    return pdu(1, body)


A_ASSOCIATE_AC = pdu(2, b"\0\1\0\0" + bytes(64))
A_RELEASE_RQ = pdu(5, bytes(4))
A_RELEASE_RP = pdu(6, bytes(4))
A_ABORT = pdu(7, b"\0\0\2\0")
TRANSIENT = pdu(3, b"\0\2\3\1")
AT_LIMIT = pdu(3, b"\0\2\3\2")
PERMANENT = pdu(3, b"\0\1\1\7")


@dataclass
class Visit:
    """One connection, as a worker sees it."""

    header: proxy_protocol.Header
    request: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def read_pdu(self) -> bytes:
        head = await self.reader.readexactly(6)
        return head + await self.reader.readexactly(int.from_bytes(head[2:], "big"))

    async def accept(self) -> None:
        self.writer.write(A_ASSOCIATE_AC)
        await self.writer.drain()


async def echo(visit: Visit) -> None:
    """Accept, send every P-DATA back as it is, and answer a release."""
    await visit.accept()
    while True:
        try:
            found = await visit.read_pdu()
        except asyncio.IncompleteReadError:
            return
        if found[0] == 5:
            visit.writer.write(A_RELEASE_RP)
            await visit.reader.read()
            return
        visit.writer.write(found)
        await visit.writer.drain()


@dataclass
class LateReader:
    """The script of a worker that accepts, and reads nothing before it is to go on."""

    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    received_bytes: int = 0

    async def __call__(self, visit: Visit) -> None:
        await visit.accept()
        visit.reader._transport.pause_reading()  # type: ignore[attr-defined]
        await self.go_on.wait()
        visit.reader._transport.resume_reading()  # type: ignore[attr-defined]
        while data := await visit.reader.read(1024 * 1024):
            self.received_bytes += len(data)


async def echo_probe(visit: Visit) -> None:
    """Answer a C-ECHO, as a worker that is well does."""
    accepted_context = bytes.fromhex("21000019 01000000 40000011") + b"1.2.840.10008.1.2"
    body = visit.request[6:74] + accepted_context + bytes.fromhex("50000008 51000004 00004000")
    visit.writer.write(pdu(2, body))
    await visit.read_pdu()
    elements = [
        (0x0002, b"1.2.840.10008.1.1\0"),
        (0x0100, struct.pack("<H", 0x8030)),
        (0x0120, struct.pack("<H", 1)),
        (0x0800, struct.pack("<H", 0x0101)),
        (0x0900, struct.pack("<H", 0)),
    ]
    group = b"".join(struct.pack("<HHI", 0, tag, len(value)) + value for tag, value in elements)
    command = struct.pack("<HHII", 0, 0, 4, len(group)) + group
    visit.writer.write(pdu(4, struct.pack("!IBB", len(command) + 2, 1, 3) + command))
    await visit.read_pdu()
    visit.writer.write(A_RELEASE_RP)
    await visit.reader.read()


@dataclass
class FakeWorker:
    """A worker whose behaviour is a script."""

    script: Script
    name: str = "worker-1"
    visits: list[Visit] = field(default_factory=list)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    faults: list[BaseException] = field(default_factory=list)
    address: Address = field(default_factory=lambda: Address("127.0.0.1", 0))
    described: dict[str, Any] = field(default_factory=dict)
    """What it says of itself besides: fields of `Member`."""
    answers_probes: bool = True
    probes: int = 0
    callers: set[str] = field(default_factory=set)
    """Addresses that it was called from."""
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    announcement: Announcement | None = None

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = Address(*server.sockets[0].getsockname()[:2])
        try:
            yield
        finally:
            server.close()
            for task in self.tasks:
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)
            await server.wait_closed()

    def member(self) -> Member:
        return Member(
            kind="worker",
            name=self.name,
            http=Address("127.0.0.1", 1),
            pid=1,
            version="0",
            started_at=self.started_at,
            dicom=self.address,
            **self.described,
        )

    async def describe(self, **fields: Any) -> None:
        """Say something else of itself."""
        assert self.announcement is not None
        self.described |= fields
        await self.announcement.update(self.member())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        self.callers.add(writer.get_extra_info("peername")[0])
        try:
            data = b""
            while (header := proxy_protocol.parse(data)) is None:
                data += await reader.readexactly(1)
            head = await reader.readexactly(6)
            request = head + await reader.readexactly(int.from_bytes(head[2:], "big"))
            visit = Visit(header, request, reader, writer)
            if header.command is proxy_protocol.Command.LOCAL:
                self.probes += 1
                await (echo_probe(visit) if self.answers_probes else reader.read())
                return
            self.visits.append(visit)
            await self.script(visit)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError) as error:
            self.faults.append(error)
        finally:
            self.tasks.discard(task)
            writer.close()


@dataclass
class Caller:
    """A connection to the front door."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def associate(self, calling: str = "CT-1") -> bytes:
        self.writer.write(associate_rq(calling))
        return await self.read_pdu()

    async def read_pdu(self) -> bytes:
        head = await self.reader.readexactly(6)
        return head + await self.reader.readexactly(int.from_bytes(head[2:], "big"))

    async def release(self) -> None:
        self.writer.write(A_RELEASE_RQ)
        assert await self.read_pdu() == A_RELEASE_RP

    def reset(self) -> None:
        self.writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        self.writer.transport.abort()


@dataclass
class World:
    """A front door, the registry it looks into, and how to call."""

    door: FrontDoor
    address: Address
    registry: Registry
    live: LiveSettings

    @asynccontextmanager
    async def caller(self) -> AsyncIterator[Caller]:
        reader, writer = await asyncio.open_connection(self.address.host, self.address.port)
        try:
            yield Caller(reader, writer)
        finally:
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)

    async def outcomes(self, total: int = 1) -> dict[str, int]:
        """Wait until so many connections have ended, and tell how."""
        await until(lambda: sum(self._outcomes().values()) >= total, seen=self._outcomes)
        return self._outcomes()

    def _outcomes(self) -> dict[str, int]:
        return cast("dict[str, int]", self.door.status()["outcomes"])


async def sent(writer: asyncio.StreamWriter) -> None:
    """Wait until all is taken, and one may read."""
    writer.transport.set_write_buffer_limits(0)
    await writer.drain()


async def settled(writer: asyncio.StreamWriter) -> int:
    """Wait until nothing more is taken, and return how much is left."""
    before, now = -1, buffered(writer)
    while now != before:
        await asyncio.sleep(0.1)
        before, now = now, buffered(writer)
    return now


def buffered(writer: asyncio.StreamWriter) -> int:
    return writer.transport.get_write_buffer_size()


@asynccontextmanager
async def world(*workers: FakeWorker, host: str = "127.0.0.1", **tables: object) -> AsyncIterator[World]:
    """Open a front door before these workers; `tables` are those of the settings. Nobody is probed unless
    they say so."""
    registry = registry_in_memory()
    live = LiveSettings(Settings.model_validate({"probing": {"interval_s": 3600}, **tables}))
    async with AsyncExitStack() as announced, asyncio.TaskGroup() as tasks:
        for worker in workers:
            announcement = await registry.announce(worker.member())
            worker.announcement = await announced.enter_async_context(announcement)
        door = FrontDoor(live, registry, name="balancer-1")
        address = await door.listen(host, 0)
        following = tasks.create_task(door.follow())
        try:
            yield World(door, address, registry, live)
        finally:
            await door.drain(0)
            following.cancel()
