"""Requests where what they wait in is damaged, or away for a while."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path

import pytest
import structlog

from cluster.coordination import request_json, stored_requests
from cluster.coordination.folder_requests import FolderRequests
from cluster.coordination.memory import MemoryCoordination
from cluster.coordination.protocol import (
    Change,
    Compacted,
    CoordinationUnavailable,
    Revision,
    Snapshot,
    Term,
)
from cluster.coordination.requests import Request, RequestsUnavailable, Wish
from cluster.coordination.stored_requests import StoredRequests

DRAIN = Request(Wish.DRAIN, datetime(2026, 1, 2, tzinfo=UTC))


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"{}", b'{"wish": "dance"}', b'{"wish": "drain", "started_at": 7}', b"\xff"]
)
def test_what_is_no_request_is_told_as_one_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        request_json.decode(data)


def test_what_a_later_release_says_besides_is_passed_over() -> None:
    assert request_json.decode(b'{"wish": "start", "by": "somebody"}') == Request(Wish.START)


async def test_a_file_that_is_no_request_is_taken_away_and_the_next_comes(tmp_path: Path) -> None:
    requests = FolderRequests(tmp_path)
    (tmp_path / "worker.worker-1.json").write_bytes(b"{")
    with structlog.testing.capture_logs() as logs:
        async with asyncio.timeout(5), aclosing(requests.incoming("worker", "worker-1")) as coming:
            waiting = asyncio.ensure_future(anext(coming))
            await asyncio.sleep(0.05)
            await requests.ask("worker", "worker-1", DRAIN)
            assert await waiting == DRAIN
    assert [entry["event"] for entry in logs] == ["request.unreadable"]
    assert list(tmp_path.iterdir()) == []


async def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RequestsUnavailable, match=str(tmp_path)):
        await FolderRequests(tmp_path / "file" / "requests").ask("worker", "worker-1", DRAIN)


class Flaky(MemoryCoordination):
    """A store that is away now and then, and has forgotten its history."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.forgetful = False

    async def read(self, prefix: str) -> Snapshot:
        if self.away:
            raise CoordinationUnavailable("away")
        return await super().read(prefix)

    async def watch(self, prefix: str, after: Revision) -> AsyncGenerator[Sequence[Change]]:
        if self.forgetful:
            self.forgetful = False
            raise Compacted
        async with aclosing(super().watch(prefix, after)) as watch:
            async for changes in watch:
                yield changes


def go_away(coordination: Flaky) -> None:
    coordination.away = True
    asyncio.get_running_loop().call_later(0.1, setattr, coordination, "away", False)


def forget(coordination: Flaky) -> None:
    coordination.forgetful = True


@pytest.mark.parametrize("trouble", [go_away, forget])
async def test_a_request_comes_after_trouble_with_the_store(
    trouble: Callable[[Flaky], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_requests, "RETRY_S", 0.05)
    coordination = Flaky()
    requests = StoredRequests(coordination)
    async with asyncio.timeout(5), aclosing(requests.incoming("worker", "worker-1")) as coming:
        trouble(coordination)
        waiting = asyncio.ensure_future(anext(coming))
        await asyncio.sleep(0.15)
        await requests.ask("worker", "worker-1", DRAIN)
        assert await waiting == DRAIN


class Contended(MemoryCoordination):
    """A store in which somebody else is always quicker to take what waits."""

    async def delete(
        self, key: str, *, expected: Revision | None = None, during: Term | None = None
    ) -> Revision:
        await super().delete(key)
        return await super().delete(key, expected=expected, during=during)


async def test_what_somebody_else_has_taken_does_not_come() -> None:
    requests = StoredRequests(Contended())
    await requests.ask("worker", "worker-1", DRAIN)
    assert not await requests.withdraw("worker", "worker-1")


async def test_a_store_that_is_away_is_told() -> None:
    coordination = Flaky()
    coordination.away = True
    with pytest.raises(RequestsUnavailable, match="away"):
        await StoredRequests(coordination).waits("worker", "worker-1")
