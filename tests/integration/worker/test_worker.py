"""One worker in this process, with sites in a temporary folder, called as a balancer calls it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from cluster.coordination.registry import Address, Load, Member, Registry, Share
from cluster.coordination.requests import Request, Requests, Wish
from cluster.dicom import negotiation
from cluster.proxy_protocol import Command, Endpoint, Header, encode
from cluster.settings import Settings, load
from cluster.settings.live import LiveSettings
from deploy import compose, making, pages
from storage_node import worker
from tests.integration.dicom.peers import REQUEST, raw, read_pdu
from tests.unit.dicom.exchange import ECHO, message
from tests.waiting import soon

CLIENT = Endpoint(ip_address("192.0.2.7"), 4711)
HEADER = encode(
    Header(Command.PROXY, CLIENT, Endpoint(ip_address("192.0.2.1"), 104), "lb-1-0123456789abcdef")
)
ASSOCIATE_AC, P_DATA, ABORT = 2, 4, 7


@dataclass
class Running:
    """A worker that runs."""

    registry: Registry
    requests: Requests
    member: Member
    stop: asyncio.Event
    task: asyncio.Task[bool]

    @property
    def port(self) -> int:
        assert self.member.dicom is not None
        return self.member.dicom.port

    async def ask(self, wish: Wish, *, age: timedelta = timedelta()) -> None:
        await self.requests.ask("worker", self.member.name, Request(wish, self.member.started_at - age))

    async def until_taken(self) -> None:
        """Wait until nothing waits that was asked."""
        while await self.requests.waits("worker", self.member.name):  # noqa: ASYNC110  no event tells
            await asyncio.sleep(0.01)

    async def until(self, holds: Callable[[list[Member]], bool]) -> list[Member]:
        """Wait until the membership is so."""
        members: list[Member] = []
        async with soon("so are the members", seen=lambda: members), aclosing(self.registry.watch()) as watch:
            async for members in watch:
                if holds(members):
                    return members
        raise AssertionError


@asynccontextmanager
async def running(folder: Path, *, balancer: bool = True, **tables: object) -> AsyncIterator[Running]:
    settings: Settings = load(None, data_folder=folder, **tables)
    making.prepare(settings)
    registry, stop = compose.registry(settings), asyncio.Event()
    if balancer:
        http = Address("127.0.0.1", 1)
        await registry.announce(Member("balancer", "lb-1", http, 1, "1", datetime.now(UTC)))
    async with compose.requests(settings) as requests, compose.running_grid(settings) as grid:
        task = asyncio.create_task(
            worker.run(LiveSettings(settings), grid, registry, requests, stop, name="w-1")
        )
        try:
            async with soon("the worker is announced"), aclosing(registry.watch()) as memberships:
                async for members in memberships:
                    if found := [member for member in members if member.kind == "worker"]:
                        break
            yield Running(registry, requests, found[0], stop, task)
        finally:
            stop.set()
            await task


@asynccontextmanager
async def associated(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    async with raw(port) as (reader, writer):
        writer.write(HEADER + REQUEST.encode())
        assert (await read_pdu(reader))[0] == ASSOCIATE_AC
        yield reader, writer


async def test_it_says_what_it_is_for_and_how_much_it_takes(tmp_path: Path) -> None:
    tables: dict[str, Any] = {
        "worker": {"labels": {"for": "ct"}, "weight": 3},
        "site": "b",
        "limits": {"associations": 7},
    }
    async with running(tmp_path, **tables) as one:
        member = one.member
        assert member.labels == (("for", "ct"), ("site", "b"))
        assert (member.weight, member.capacity, member.draining) == (3, 7, False)


async def test_its_first_requestor_does_not_wait_for_tables_to_be_read(tmp_path: Path) -> None:
    negotiation._sop_classes.cache_clear()
    async with running(tmp_path):
        assert negotiation._sop_classes.cache_info().currsize


async def test_it_listens_where_the_settings_say_for_associations_and_for_its_pages(tmp_path: Path) -> None:
    async with running(tmp_path, worker={"host": "127.0.0.5"}) as one:
        assert one.member.dicom is not None
        assert (one.member.dicom.host, one.member.http.host) == ("127.0.0.5", "127.0.0.5")
        assert (await pages.fetch(one.member.http, "/readyz")).status == 200


async def test_it_tells_whose_associations_it_has(tmp_path: Path) -> None:
    async with running(tmp_path) as one:
        async with associated(one.port), associated(one.port):
            load = Load(2, (Share("lb-1", "RAW", "192.0.2.7", 2),))
            await one.until(lambda members: members[-1].load == load)
        await one.until(lambda members: members[-1].load == Load())


async def test_without_a_header_nobody_is_served(tmp_path: Path) -> None:
    async with running(tmp_path) as one, raw(one.port) as (reader, writer):
        writer.write(REQUEST.encode())
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await read_pdu(reader)


async def ask_to_drain(one: Running) -> None:
    await one.ask(Wish.DRAIN)


async def ask_to_restart(one: Running) -> None:
    await one.ask(Wish.RESTART)


async def give_a_signal(one: Running) -> None:
    one.stop.set()


@pytest.mark.parametrize(
    ("ask", "stays_ended"), [(ask_to_drain, True), (ask_to_restart, False), (give_a_signal, False)]
)
async def test_who_asks_decides_whether_it_stays_ended(
    tmp_path: Path, ask: Callable[[Running], Awaitable[None]], stays_ended: bool
) -> None:
    async with running(tmp_path) as one:
        await ask(one)
        async with soon("the worker has ended"):
            assert await one.task is stays_ended
        assert [member.kind for member in await one.registry.members()] == ["balancer"]


async def test_what_was_asked_last_holds(tmp_path: Path) -> None:
    async with running(tmp_path) as one, associated(one.port) as (_, writer):
        await one.ask(Wish.RESTART)
        await one.until(lambda members: members[-1].draining)
        await one.ask(Wish.DRAIN)
        await one.until_taken()
        writer.close()
        assert await one.task


async def test_a_request_to_a_process_that_was_here_before_is_void(tmp_path: Path) -> None:
    async with running(tmp_path) as one:
        await one.ask(Wish.DRAIN, age=timedelta(microseconds=1))
        await one.until_taken()
        await asyncio.sleep(0)
        assert not one.stop.is_set()
        async with associated(one.port) as (reader, writer):
            writer.write(message(ECHO))
            assert (await read_pdu(reader))[0] == P_DATA
        assert not one.member.draining


async def test_draining_it_says_so_first_and_serves_who_comes_before_balancers_have_seen_it(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, drain_idle_s=2.0) as one:
        one.stop.set()
        await one.until(lambda members: members[-1].draining)
        page = await pages.fetch(one.member.http, "/readyz")
        assert (page.status, b"drains" in page.body) == (503, True)
        async with associated(one.port) as (reader, writer):
            writer.write(message(ECHO))
            assert (await read_pdu(reader))[0] == P_DATA
            await asyncio.sleep(worker.NOTICE_S)
            writer.write(message(ECHO))
            assert (await read_pdu(reader))[0] == P_DATA
            with pytest.raises(OSError):
                await asyncio.open_connection("127.0.0.1", one.port)
            assert (await read_pdu(reader))[0] == ABORT, "it was idle then"
        assert not await one.task


async def test_where_nobody_balances_it_does_not_wait_for_them_to_see_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "NOTICE_S", 3600)
    async with running(tmp_path, balancer=False) as one:
        one.stop.set()
        async with soon("the worker has ended"):
            await one.task
