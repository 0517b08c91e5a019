"""Each implementation of the store, so that one suite holds all of them to the protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeAlias

import pytest

from cluster.coordination.memory import MemoryCoordination
from cluster.coordination.protocol import Coordination
from cluster.settings import Etcd
from tests.etcd import EtcdCluster

Stores: TypeAlias = tuple[Coordination, Coordination]
"""Two processes' views of one store."""


@pytest.fixture(params=["memory", "etcd"])
def place(request: pytest.FixtureRequest) -> Etcd | None:
    """Settings of keys that no other test has; None: in memory."""
    if request.param == "memory":
        return None
    cluster: EtcdCluster = request.getfixturevalue("etcd_for_all")
    return cluster.settings()


@asynccontextmanager
async def stores_in(place: Etcd | None) -> AsyncIterator[Stores]:
    """Open the store at a place."""
    if place is None:
        store = MemoryCoordination()
        yield store, store
        return
    from cluster.coordination.etcd import EtcdCoordination

    here, there = EtcdCoordination(place), EtcdCoordination(place)
    try:
        yield here, there
    finally:
        await here.close()
        await there.close()


@pytest.fixture
async def stores(place: Etcd | None) -> AsyncIterator[Stores]:
    async with stores_in(place) as opened:
        yield opened


@pytest.fixture
def store(stores: Stores) -> Coordination:
    return stores[0]
