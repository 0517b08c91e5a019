from __future__ import annotations

import asyncio
import socket

import pytest

from cluster.coordination.registry import Address
from cluster.http import Pages, StatusServer
from deploy.pages import NoPage, fetch


async def test_a_page_is_read_with_its_status() -> None:
    async def status() -> dict[str, object]:
        return {"name": "x" * 100_000}

    server = StatusServer(Pages(not_ready=lambda: "no worker", status=status))
    address = Address("127.0.0.1", await server.start("127.0.0.1", 0))
    try:
        assert (await fetch(address, "/readyz")).status == 503
        assert (await fetch(address, "/status")).json() == {"name": "x" * 100_000}
    finally:
        await server.close()


@pytest.mark.parametrize(
    "answer", [b"", b"\r\n\r\n", b"HTTP/1.0\r\n\r\n", b"\xff\xff\r\n\r\n", b"HTTP/1.0 2OO \r\n\r\n"]
)
async def test_what_is_no_answer_is_no_page(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(NoPage):
            await fetch(Address("127.0.0.1", port), "/status")


async def test_who_hangs_is_no_page_and_the_limit_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = Address("127.0.0.1", listener.getsockname()[1])
        with pytest.raises(NoPage, match=r"does not answer within 0\.05 s$"):
            await fetch(address, "/status", timeout_s=0.05)


async def test_nobody_there_is_no_page() -> None:
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
    with pytest.raises(NoPage):
        await fetch(Address("127.0.0.1", port), "/status")


@pytest.mark.parametrize(("led_by", "expected"), [(None, (200, b"this one\n")), ("lb2", (503, b"lb2\n"))])
async def test_only_who_leads_answers_that_it_does(led_by: str | None, expected: tuple[int, bytes]) -> None:
    async def status() -> dict[str, object]:
        return {}

    server = StatusServer(Pages(not_ready=lambda: None, status=status, led_by=lambda: led_by))
    address = Address("127.0.0.1", await server.start("127.0.0.1", 0))
    try:
        page = await fetch(address, "/leader")
        assert (page.status, page.body) == expected
    finally:
        await server.close()


async def test_a_process_that_cannot_lead_has_no_such_page() -> None:
    async def status() -> dict[str, object]:
        return {}

    server = StatusServer(Pages(not_ready=lambda: None, status=status))
    address = Address("127.0.0.1", await server.start("127.0.0.1", 0))
    try:
        assert (await fetch(address, "/leader")).status == 404
    finally:
        await server.close()
