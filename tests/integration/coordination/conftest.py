"""The etcd cluster of all tests, mended after each of these, and clients of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TypeAlias

import pytest

from cluster.coordination.etcd import EtcdCoordination
from tests.etcd import EtcdCluster, EtcdMember

Open: TypeAlias = Callable[..., EtcdCoordination]
"""Makes a client with the same keys as the others, which is closed in the end."""


@pytest.fixture
def etcd(etcd_for_all: EtcdCluster) -> Iterator[EtcdCluster]:
    yield etcd_for_all
    asyncio.run(etcd_for_all.mend())


@pytest.fixture
async def opened(etcd: EtcdCluster) -> AsyncIterator[Open]:
    clients: list[EtcdCoordination] = []
    settings = etcd.settings()

    def make(*first: EtcdMember | str, **changed: object) -> EtcdCoordination:
        endpoints = [one if isinstance(one, str) else one.endpoint for one in first]
        endpoints += [endpoint for endpoint in settings.endpoints if endpoint not in endpoints]
        client = EtcdCoordination(
            settings.model_copy(update={"endpoints": tuple(endpoints), **changed}),
        )
        clients.append(client)
        return client

    yield make
    for client in clients:
        await client.close()


@pytest.fixture
def store(opened: Open) -> EtcdCoordination:
    return opened()
