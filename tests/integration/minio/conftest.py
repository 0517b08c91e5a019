from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from deploy.minio import MinioServer, RootCredentials
from tests.integration.minio.world import Servers, World, world

_CREDENTIALS = RootCredentials.generate()
_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> RootCredentials:
    """The credentials of all servers, in the environment as sites look for them."""
    monkeypatch.setenv("ATRIA_S3_ACCESS_KEY", _CREDENTIALS.access_key)
    monkeypatch.setenv("ATRIA_S3_SECRET_KEY", _CREDENTIALS.secret_key)
    return _CREDENTIALS


@pytest.fixture(scope="session")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Three servers, each with its own folder and port, for all tests."""
    folder = tmp_path_factory.mktemp("minio")
    servers = {name: MinioServer(folder / name, credentials=_CREDENTIALS) for name in ("a", "b", "c")}
    try:
        for server in servers.values():
            asyncio.run(server.start())
        yield servers
    finally:
        for server in servers.values():
            asyncio.run(server.stop())


@pytest.fixture
async def servers(started: Servers) -> Servers:
    """The servers, all of them well, whatever the test before did to them."""
    for server in started.values():
        assert server.credentials == _CREDENTIALS
        server.signal(signal.SIGCONT)
        if server.pid is None:
            await server.start()
    return started


@pytest.fixture
def bucket() -> str:
    """The name of a bucket that is at no server yet."""
    return f"atria-{next(_numbers)}"


@pytest.fixture
async def running(servers: Servers, bucket: str, tmp_path: Path) -> AsyncIterator[World]:
    """A cluster over the servers."""
    async with world(tmp_path, servers, bucket) as one:
        yield one


@pytest.fixture
async def behind_proxies(servers: Servers, bucket: str, tmp_path: Path) -> AsyncIterator[World]:
    """A cluster over the servers, each of them behind a proxy."""
    async with world(tmp_path, servers, bucket, proxied=servers) as one:
        yield one
