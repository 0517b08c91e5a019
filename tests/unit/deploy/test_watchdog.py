from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import cast

import pytest

from cluster.coordination.registry import Address, Member
from deploy import watchdog
from deploy.child import Child
from deploy.watchdog import SILENCES, Watchdog
from tests.registry import registry_in_memory


class _Child:
    def __init__(self) -> None:
        self.ended: list[int] = []

    def end_hung(self, process_id: int) -> None:
        self.ended.append(process_id)


class _Page:
    answers = True

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if self.answers:
            writer.write(b"HTTP/1.0 200 OK\r\n\r\nok\n")
        else:
            await reader.read()
        writer.close()


@asynccontextmanager
async def _member(page: _Page, pid: int) -> AsyncIterator[Member]:
    async with await asyncio.start_server(page.serve, "127.0.0.1", 0) as server:
        http = Address("127.0.0.1", server.sockets[0].getsockname()[1])
        yield Member("worker", f"worker-{pid}", http, pid, "1", datetime.now(UTC))


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "ANSWER_TIMEOUT_S", 0.1)


async def test_who_is_silent_so_often_in_a_row_is_ended_and_nobody_else() -> None:
    silent, well = _Page(), _Page()
    silent.answers = False
    children = {"worker-1": _Child(), "worker-2": _Child()}
    dog = Watchdog(registry_in_memory(), cast("dict[str, Child]", children))
    async with _member(silent, 1) as hung, _member(well, 2) as other:
        for _ in range(SILENCES - 1):
            await dog.look_at([hung, other])
        assert children["worker-1"].ended == []
        await dog.look_at([hung, other])
    assert children["worker-1"].ended == [1]
    assert children["worker-2"].ended == []


async def test_one_answer_is_enough_to_begin_counting_anew() -> None:
    page = _Page()
    child = _Child()
    dog = Watchdog(registry_in_memory(), cast("dict[str, Child]", {"worker-1": child}))
    async with _member(page, 1) as member:
        for page.answers in (False, False, True, False, False):
            await dog.look_at([member])
    assert child.ended == []
