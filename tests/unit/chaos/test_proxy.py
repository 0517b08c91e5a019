from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientConnectionError, ClientSession, ClientTimeout, TCPConnector, web

from chaos.proxy import Mode, Proxy
from cluster.coordination.registry import Address


class _Server:
    """Says what it is sent; notes each request."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.port = 0

    async def answer(self, request: web.Request) -> web.Response:
        self.requests.append(await request.read())
        return web.Response(body=self.requests[-1])


@pytest.fixture
async def server() -> AsyncIterator[_Server]:
    server = _Server()
    application = web.Application(client_max_size=0)
    application.router.add_route("*", "/", server.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.port = runner.addresses[0][1]
    yield server
    await runner.cleanup()


@pytest.fixture
async def proxy(server: _Server) -> AsyncIterator[Proxy]:
    proxy = Proxy(Address("127.0.0.1", server.port))
    await proxy.start()
    yield proxy
    await proxy.close()


@pytest.fixture
async def client() -> AsyncIterator[ClientSession]:
    async with ClientSession(connector=TCPConnector(limit=1)) as session:
        yield session


async def _put(client: ClientSession, proxy: Proxy, body: bytes = b"x" * 300_000) -> tuple[int, bytes]:
    async with client.put(proxy.endpoint, data=body) as response:
        return response.status, await response.read()


async def test_what_is_passed_on_is_passed_on_both_ways(client: ClientSession, proxy: Proxy) -> None:
    for body in (b"x" * 300_000, b"y"):
        assert await _put(client, proxy, body) == (200, body)


async def test_503_is_answered_to_each_request_of_a_connection(
    client: ClientSession, proxy: Proxy, server: _Server
) -> None:
    proxy.mode = Mode.UNAVAILABLE
    for _ in range(3):
        status, said = await _put(client, proxy)
        assert (status, b"<Code>SlowDown</Code>" in said) == (503, True)
        async with client.head(proxy.endpoint) as response:
            assert response.status == 503
    assert server.requests == []


async def test_a_request_that_hangs_reaches_nobody(
    client: ClientSession, proxy: Proxy, server: _Server
) -> None:
    proxy.mode = Mode.HANG
    with pytest.raises(TimeoutError):
        await client.put(proxy.endpoint, data=b"x", timeout=ClientTimeout(total=0.2))
    assert server.requests == []


async def test_a_lost_answer_is_that_of_a_request_that_happened(
    client: ClientSession, proxy: Proxy, server: _Server
) -> None:
    proxy.mode = Mode.LOSE_ANSWERS
    with pytest.raises(ClientConnectionError):
        await _put(client, proxy, b"done")
    assert b"done" in server.requests


async def test_another_mode_cuts_what_is_under_way_and_passing_on_heals(
    client: ClientSession, proxy: Proxy, server: _Server
) -> None:
    assert (await _put(client, proxy))[0] == 200
    proxy.mode = Mode.HANG
    hanging = asyncio.create_task(_put(client, proxy))
    while not hanging.done():
        await asyncio.sleep(0.01)
        proxy.mode = Mode.CUT
    assert isinstance(hanging.exception(), ClientConnectionError)
    with pytest.raises(ClientConnectionError):
        await _put(client, proxy)
    proxy.mode = Mode.PASS
    assert (await _put(client, proxy))[0] == 200
    assert len(server.requests) == 2
