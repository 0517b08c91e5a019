from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvloop

from balancer import associate_rq as requests
from balancer.request_reader import LARGE_REQUEST_BYTES, LARGE_REQUESTS_AT_ONCE
from tests.certificates import Authority
from tests.integration.balancer.world import (
    A_ASSOCIATE_AC,
    Caller,
    FakeWorker,
    World,
    associate_rq,
    echo,
    pdu,
    world,
)
from tests.waiting import soon, until

CEILING = 50
AT_ONCE = 50
FLOODER = "127.0.0.2"
CLIENT_HELLO_BEGINS = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"


@dataclass
class Flood:
    """Connections that want nothing, from one address."""

    where: tuple[str, int]
    first_words: bytes
    held: list[socket.socket]

    async def connect(self, count: int, leave: Callable[[socket.socket], None] | None = None) -> None:
        """Connect so many times, and say the first words; stay, unless `leave` is given."""
        for _ in range(0, count, AT_ONCE):
            batch = await asyncio.gather(*(self._connect() for _ in range(AT_ONCE)))
            if leave is None:
                self.held += batch
            else:
                for connection in batch:
                    leave(connection)

    def say(self, words: bytes) -> None:
        """Say something more, at those connections that are still there."""
        for connection in self.held:
            with contextlib.suppress(OSError):
                connection.send(words)

    async def _connect(self) -> socket.socket:
        connection = socket.socket()
        connection.setblocking(False)
        connection.bind((FLOODER, 0))
        await asyncio.get_running_loop().sock_connect(connection, self.where)
        if self.first_words:
            with contextlib.suppress(OSError):  # it may have given way already
                connection.send(self.first_words)
        return connection


@contextlib.asynccontextmanager
async def flooded(here: World, kind: str, first_words: bytes = b"") -> AsyncIterator[Flood]:
    where = here.address if kind == "plain" else here.door.tls_address
    assert where is not None
    flood = Flood((where.host, where.port), first_words, [])
    try:
        yield flood
    finally:
        for connection in flood.held:
            connection.close()


@pytest.fixture(params=["plain", "tls"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@contextlib.asynccontextmanager
async def open_door(authority: Authority) -> AsyncIterator[tuple[World, FakeWorker]]:
    pair = authority.pair("pacs")
    tls = {
        "mode": "ended",
        "port": 0,
        "certificate_file": pair.certificate_file,
        "key_file": pair.key_file,
    }
    worker = FakeWorker(echo)
    async with (
        worker.listening(),
        world(worker, tls=tls, limits={"balancer_associations": CEILING}) as here,
    ):
        yield here, worker


async def call(here: World, kind: str, authority: Authority, source: str = "127.0.0.1") -> None:
    """Do what a modality does, within a time that it would wait."""
    where = here.address if kind == "plain" else here.door.tls_address
    assert where is not None
    context = authority.client_context() if kind == "tls" else None
    async with soon("a caller is served", seen=here.door.status, within_s=20):
        reader, writer = await asyncio.open_connection(
            where.host,
            where.port,
            local_addr=(source, 0),
            ssl=context,
            server_hostname="127.0.0.1" if context else None,
        )
        caller = Caller(reader, writer)
        assert await caller.associate() == A_ASSOCIATE_AC
        data = pdu(4, bytes(100_000))
        writer.write(data)
        assert await caller.read_pdu() == data
        await caller.release()
        writer.close()
        await writer.wait_closed()


def held_by_us() -> tuple[int, int, int]:
    """Count descriptors, pipes and tasks of this process."""
    links = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            links.append(str(link.readlink()))
    return len(links), sum(link.startswith("pipe:") for link in links), len(asyncio.all_tasks())


async def unharmed(
    authority: Authority, kind: str, disaster: Callable[[World], Awaitable[None]]
) -> dict[str, int]:
    """Let something happen; look that nothing is left of it, and return how connections ended."""
    async with open_door(authority) as (here, worker):

        def quiet() -> bool:
            return not here.door.status()["connections"] and not worker.tasks

        await call(here, kind, authority)
        await until(quiet)
        before = held_by_us()
        await disaster(here)
        await until(quiet)
        # What was just closed is gone with the next turn of the loop, and may be in what was there before.
        await until(
            lambda: all(now <= then for now, then in zip(held_by_us(), before, strict=True)),
            seen=lambda: (before, held_by_us()),
        )
        await call(here, kind, authority)
        await until(quiet)
        return await here.outcomes()


def many() -> int:
    """Return how many a flood has: fewer on the loop that no balancer runs on."""
    return 800 if isinstance(asyncio.get_running_loop(), uvloop.Loop) else 400


def connections(here: World) -> int:
    found = here.door.status()["connections"]
    assert isinstance(found, int)
    return found


@pytest.mark.parametrize(
    "first_words",
    [b"", b"\x01", associate_rq()[:40], CLIENT_HELLO_BEGINS],
    ids=["silent", "one byte", "half a request", "half a handshake"],
)
async def test_connections_that_stay_and_ask_for_nothing_keep_nobody_out(
    authority: Authority, kind: str, first_words: bytes
) -> None:
    async def disaster(here: World) -> None:
        async with flooded(here, kind, first_words) as flood:
            for _ in range(2):
                await flood.connect(many() // 2)
                assert connections(here) <= 2 * CEILING + AT_ONCE
                await call(here, kind, authority)
                await call(here, kind, authority, source=FLOODER)

    outcomes = await unharmed(authority, kind, disaster)
    assert outcomes["released"] == 6
    closed = {name: count for name, count in outcomes.items() if name != "released"}
    assert sum(closed.values()) == many()


@pytest.mark.parametrize(
    "beginning", [associate_rq(), CLIENT_HELLO_BEGINS + bytes(600)], ids=["a request", "a handshake"]
)
async def test_one_byte_a_second_gets_no_more_time_than_silence(
    authority: Authority, kind: str, beginning: bytes
) -> None:
    pair = authority.pair("pacs")
    tls = {"mode": "ended", "port": 0, "certificate_file": pair.certificate_file, "key_file": pair.key_file}
    async with world(tls=tls, upper_layer={"artim_timeout_s": 0.5}) as here:
        async with flooded(here, kind) as flood:
            await flood.connect(AT_ONCE)
            for byte in beginning[:8]:
                flood.say(bytes((byte,)))
                await asyncio.sleep(0.1)
            ended = await here.outcomes(AT_ONCE)
        assert set(ended) <= {"no_associate_rq", "no_tls"}


@pytest.mark.parametrize("reset", [False, True], ids=["close", "reset"])
async def test_connections_that_are_closed_at_once_keep_nobody_out(
    authority: Authority, kind: str, *, reset: bool
) -> None:
    def leave(connection: socket.socket) -> None:
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    async def disaster(here: World) -> None:
        async with flooded(here, kind) as flood:
            flooding = asyncio.create_task(flood.connect(many(), leave))
            for _ in range(5):
                await call(here, kind, authority)
            await flooding

    outcomes = await unharmed(authority, kind, disaster)
    assert outcomes["released"] == 7
    assert set(outcomes) <= {"released", "probe", "gave_way"}


LARGE_BYTES = 900_000


@pytest.fixture
def memory() -> Iterator[Callable[[], int]]:
    """Tell how many bytes of requests are held."""

    def held_bytes() -> int:
        filters = [tracemalloc.Filter(inclusive=True, filename_pattern=requests.__file__)]
        return sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces(filters).traces)

    tracemalloc.start()
    yield held_bytes
    tracemalloc.stop()


async def test_large_requests_that_are_not_completed_fill_no_memory(
    authority: Authority, memory: Callable[[], int]
) -> None:
    most_bytes = 2 * CEILING * LARGE_REQUEST_BYTES + (LARGE_REQUESTS_AT_ONCE + 1) * LARGE_BYTES
    words = associate_rq(padding_bytes=LARGE_BYTES)[:-1]
    async with open_door(authority) as (here, _), flooded(here, "plain") as flood:
        await flood.connect(AT_ONCE)
        async with asyncio.TaskGroup() as saying:
            tasks = [saying.create_task(sent(one, words)) for one in flood.held]
            await until(lambda: memory() >= LARGE_REQUESTS_AT_ONCE * LARGE_BYTES)
            for _ in range(3):
                await call(here, "plain", authority)
                assert memory() < most_bytes
            for task in tasks:
                task.cancel()


async def test_large_requests_wait_for_each_other_and_are_forgotten_once_taken(
    authority: Authority, memory: Callable[[], int]
) -> None:
    async with open_door(authority) as (here, _), contextlib.AsyncExitStack() as callers:
        called = [await callers.enter_async_context(here.caller()) for _ in range(LARGE_REQUESTS_AT_ONCE + 4)]
        for caller in called:
            caller.writer.write(associate_rq(padding_bytes=LARGE_BYTES))
        for caller in called:
            assert await caller.read_pdu() == A_ASSOCIATE_AC
        assert memory() < 2 * LARGE_BYTES


async def sent(connection: socket.socket, words: bytes) -> None:
    with contextlib.suppress(OSError):
        await asyncio.get_running_loop().sock_sendall(connection, words)
