"""Changes of a PostgreSQL catalogue in a transaction that ends only when a test lets it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from cluster.nouns import time_text
from storage_node.catalogue.postgresql.changes import AddFact, AddRow
from storage_node.catalogue.postgresql.database import Location
from storage_node.catalogue.postgresql.standings import Standings
from storage_node.catalogue.postgresql.write import make
from storage_node.catalogue.protocol import Row
from tests.contract.catalogue.rows import BEGIN


@asynccontextmanager
async def connected(
    location: Location, kind: type[asyncpg.Connection] = asyncpg.Connection
) -> AsyncIterator[asyncpg.Connection]:
    settings = {"search_path": "atria, public"}
    connection = await asyncpg.connect(
        location.url,
        passfile=str(location.passfile),
        server_settings=settings,
        connection_class=kind,
    )
    try:
        yield connection
    finally:
        await connection.close()


class Late(asyncpg.Connection):
    """A connection whose transaction ends only when it may."""

    def wait(self) -> None:
        self.is_made, self.may_end = asyncio.Event(), asyncio.Event()
        self.end = "COMMIT"

    async def execute(self, query: str, *args: object, timeout: float | None = None) -> str:
        if query == "COMMIT":
            self.is_made.set()
            await self.may_end.wait()
            query = self.end
        return str(await super().execute(query, *args, timeout=timeout))


@asynccontextmanager
async def under_way(
    location: Location, *changes: AddRow | AddFact, end: str = "COMMIT"
) -> AsyncIterator[None]:
    """Make changes in a transaction that ends only when the context does."""
    async with connected(location, Late) as connection:
        assert isinstance(connection, Late)
        connection.wait()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(make(connection, changes, part=0, check=lambda _: None, standings=Standings()))
            await connection.is_made.wait()
            yield
            connection.end = end
            connection.may_end.set()


def adding(one: Row) -> AddRow:
    return AddRow(one, (), time_text(BEGIN))
