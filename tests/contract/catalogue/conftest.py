"""Each implementation of a catalogue, so that one suite holds all of them to the protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import pytest

from cluster.nouns import SiteIdentity
from storage_node.catalogue.memory import MemoryCatalogue
from storage_node.catalogue.protocol import Catalogue
from storage_node.catalogue.sqlite.catalogue import SqliteCatalogue
from tests.postgresql import Databases, running_server

IDENTITY = SiteIdentity("a", "7d3f4d1c-6c8e-4a3c-9a55-3a7d5f0f1b11", 1)

Make: TypeAlias = Callable[[], AbstractAsyncContextManager[Catalogue]]
"""Makes an empty catalogue, and closes it in the end."""


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    """One PostgreSQL server for all tests."""
    with running_server() as server:
        yield Databases(server)


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    @asynccontextmanager
    async def memory() -> AsyncIterator[Catalogue]:
        catalogue = MemoryCatalogue(IDENTITY.name, IDENTITY)
        yield catalogue
        await catalogue.close()

    @asynccontextmanager
    async def sqlite() -> AsyncIterator[Catalogue]:
        file = tmp_path / "catalogue.sqlite"
        SqliteCatalogue.create(file, IDENTITY)
        catalogue = SqliteCatalogue(IDENTITY.name, file, IDENTITY)
        yield catalogue
        await catalogue.close()

    if request.param == "postgresql":
        databases: Databases = request.getfixturevalue("databases")
        return lambda: databases.catalogue(IDENTITY)
    return {"memory": memory, "sqlite": sqlite}[request.param]


@pytest.fixture
async def catalogue(make: Make) -> AsyncIterator[Catalogue]:
    async with make() as made:
        yield made
