from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.integration.rebuild.world import World, world
from tests.postgresql import Databases, running_server


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    with running_server() as server:
        yield Databases(server)


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    """A grid over catalogues in files."""
    async with world(tmp_path) as one:
        yield one


@pytest.fixture(params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest) -> Databases | None:
    """Where the catalogues are; None for in files."""
    if request.param == "sqlite":
        return None
    databases: Databases = request.getfixturevalue("databases")
    return databases


@pytest.fixture
async def either(server: Databases | None, tmp_path: Path) -> AsyncIterator[World]:
    """A grid over catalogues of each kind."""
    async with AsyncExitStack() as stack:
        tables: list[dict[str, object]] | None = None
        if server is not None:
            locations = [await stack.enter_async_context(server.empty()) for _ in "abc"]
            tables = [
                {"catalogue": location.url, "catalogue_passfile": location.passfile} for location in locations
            ]
        yield await stack.enter_async_context(world(tmp_path, tables))
