"""PostgreSQL servers on loopback, one a site, each with a folder of its own on the disk that is measured."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import asyncpg

from cluster.nouns import SiteIdentity
from deploy.errors import UserError
from deploy.postgresql import PostgresqlServer
from storage_node.catalogue.postgresql import database
from storage_node.catalogue.postgresql.database import Location
from tests.bench.processes import Broken

_CONNECT_TIMEOUT_S: Final = 10.0
IDENTITY: Final = SiteIdentity("bench", "5d0f2c0e-0a5f-4a52-93f5-0f6b1c6f7a10", 1)
"""Of every catalogue that is measured by itself."""


@contextlib.contextmanager
def catalogue_servers(folder: Path, *names: str) -> Iterator[Mapping[str, PostgresqlServer]]:
    """Run a server of each name in `folder` until the block is left.

    Raises
    ------
    Broken
        One did not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        servers = {name: PostgresqlServer(folder / f"postgresql-{name}") for name in names}
        for server in servers.values():
            stack.callback(_end, server)
            try:
                asyncio.run(server.start())
            except UserError as error:
                raise Broken(str(error)) from error
        yield servers


def new_catalogue(server: PostgresqlServer, name: str) -> Location:
    """Make an empty catalogue, in a database of its own."""
    location = Location(server.url(name), server.passfile)

    async def make() -> None:
        await server.new_database(name)
        await database.create(location, IDENTITY)

    asyncio.run(make())
    return location


async def connect(location: Location) -> asyncpg.Connection:
    """Connect to a catalogue's database, to see its tables as a catalogue does, or to fill them."""
    settings = {"search_path": f"{database.SCHEMA}, public", "jit": "off", "maintenance_work_mem": "256MB"}
    return await asyncpg.connect(
        location.url, passfile=str(location.passfile), server_settings=settings, timeout=_CONNECT_TIMEOUT_S
    )


def _end(server: PostgresqlServer) -> None:
    asyncio.run(server.stop())
