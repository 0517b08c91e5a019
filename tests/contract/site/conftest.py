"""One MinIO server for all tests; each has a bucket of its own in it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from deploy.minio import MinioServer


@pytest.fixture(scope="session")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MinioServer]:
    server = MinioServer(tmp_path_factory.mktemp("minio"))
    asyncio.run(server.start())
    yield server
    asyncio.run(server.stop())
