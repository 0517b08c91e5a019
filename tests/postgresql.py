"""PostgreSQL servers for tests, and catalogues in databases of them."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from cluster.nouns import SiteIdentity
from deploy.postgresql import PostgresqlServer
from storage_node.catalogue.postgresql import database
from storage_node.catalogue.postgresql.catalogue import PostgresqlCatalogue
from storage_node.catalogue.postgresql.database import Location


@contextmanager
def reachable_folder() -> Iterator[Path]:
    """A folder for servers, which whom they run as can get into: pytest's own is for us alone."""
    folder = Path(tempfile.mkdtemp(prefix="atria-postgresql-"))
    try:
        folder.chmod(0o755)
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def running_server() -> Iterator[PostgresqlServer]:
    """A server of its own, for as long as the context lasts."""
    with reachable_folder() as folder:
        server = PostgresqlServer(folder)
        asyncio.run(server.start())
        try:
            yield server
        finally:
            asyncio.run(server.stop())


class Databases:
    """Makes catalogues in one server, each in a database of its own."""

    def __init__(self, server: PostgresqlServer) -> None:
        self.server = server
        self._numbers = itertools.count(1)
        self._templates: dict[SiteIdentity, str] = {}

    def location(self, name: str) -> Location:
        return Location(self.server.url(name), self.server.passfile)

    @asynccontextmanager
    async def empty(self) -> AsyncIterator[Location]:
        """A database with nothing in it, which is removed in the end."""
        name = f"empty_{next(self._numbers)}"
        await self.server.new_database(name)
        try:
            yield self.location(name)
        finally:
            await self.server.drop_database(name)

    @asynccontextmanager
    async def made(self, identity: SiteIdentity) -> AsyncIterator[Location]:
        """A database with an empty catalogue, which is removed in the end."""
        if identity not in self._templates:
            template = f"template_{next(self._numbers)}"
            await self.server.new_database(template)
            await database.create(self.location(template), identity)
            self._templates[identity] = template
        name = f"catalogue_{next(self._numbers)}"
        await self.server.new_database(name, template=self._templates[identity])
        try:
            yield self.location(name)
        finally:
            await self.server.drop_database(name)

    @asynccontextmanager
    async def catalogue(self, identity: SiteIdentity) -> AsyncIterator[PostgresqlCatalogue]:
        """An empty catalogue, which is removed in the end."""
        async with self.made(identity) as location:
            catalogue = PostgresqlCatalogue(identity.name, location, identity)
            try:
                yield catalogue
            finally:
                await catalogue.close()
