"""One site's PostgreSQL database: how it is reached, made, and known for what it is.

All of a catalogue is in one schema. A site that lost its state gets another: the former one is moved aside,
and every transaction that changes something checks first whose schema it has before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias, cast

import asyncpg
import structlog

from cluster.nouns import SiteIdentity
from storage_node.catalogue import revisions
from storage_node.catalogue.postgresql import migrations
from storage_node.catalogue.postgresql.migrations import REVISION
from storage_node.catalogue.protocol import CatalogueUnavailable

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

Passing: TypeAlias = tuple[type[Exception], ...]

SCHEMA: Final = "atria"
CONNECT_TIMEOUT_S: Final = 5.0
STATEMENT_TIMEOUT_S: Final = 30.0
"""After which a connection is given up: who asks gives up earlier, and the next one needs another."""
CONNECTIONS: Final = 8
"""Of one process to one server at most, for each way to plan: one changes things, others look them up."""

_MIGRATING: Final = 0x61747269
"""The advisory lock that who changes the schema holds."""
_SETTINGS: Final = {
    "application_name": "atria",
    "default_transaction_isolation": "read committed",
    "jit": "off",
    "search_path": f"{SCHEMA}, public",
    "synchronous_commit": "on",
    "timezone": "UTC",
}
PLANS_BY_VALUE: Final = {"plan_cache_mode": "force_custom_plan"}
"""For statements that are planned anew for the values that they come with."""
PLANS_BY_KEY: Final = {
    "plan_cache_mode": "force_generic_plan",
    **dict.fromkeys(("enable_seqscan", "enable_hashjoin", "enable_mergejoin"), "off"),
}
"""For statements that look rows up by their keys: planned once, and as for tables that are large.

To plan what one row needs takes longer than to do it. A plan that was made for tables that were small then
would read all of them long after.
"""

_INSERT_IDENTITY: Final = (
    "INSERT INTO site (name, site_id, generation, feed_id)"
    " VALUES ($1, $2, $3, replace(gen_random_uuid()::text, '-', ''))"
)
_IDENTITY: Final = "SELECT name, site_id, generation FROM site"
_USABLE_FROM: Final = "SELECT usable_from FROM site"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Location:
    """Where a database is, and where the password for it is kept."""

    url: str
    """`postgresql://user@host:port/database`, and parameters of libpq (`?sslmode=…`); without a password."""
    passfile: Path | None = None
    """A password file as libpq has it; None for where libpq looks by itself (PGPASSWORD, PGPASSFILE)."""

    def __str__(self) -> str:
        return self.url


async def create(location: Location, identity: SiteIdentity) -> None:
    """Make an empty catalogue, whole or not at all. Harmless when it was made already.

    Raises
    ------
    FileExistsError
        Another site's catalogue is there, or something else that has its name.
    CatalogueUnavailable
        The database cannot be reached, or may not be changed.
    """
    async with alone(identity.name, location) as connection:
        if not await _has_schema(connection):
            await connection.execute(f"CREATE SCHEMA {SCHEMA}")
            await connection.execute(migrations.script(None))
            values = (identity.name, identity.site_id, identity.generation)
            await connection.execute(_INSERT_IDENTITY, *values)
            return
        found = await holder(connection)
    if found != identity:
        raise FileExistsError(f"{location}: schema {SCHEMA} is {_whose(found)}")


async def move_aside(site: str, location: Location, to: str) -> None:
    """Give a site's former catalogue another name, `atria_…`: it is never removed. Harmless without one.

    It waits for transactions that are changing it; none that comes later finds it.

    Raises
    ------
    CatalogueUnavailable
        The database cannot be reached, or there is a schema of that name already.
    """
    async with alone(site, location) as connection:
        if not await _has_schema(connection):
            return
        if await _has_identity(connection):
            await connection.execute("LOCK TABLE site IN ACCESS EXCLUSIVE MODE")
        await connection.execute(f'ALTER SCHEMA {SCHEMA} RENAME TO "{SCHEMA}_{to}"')


async def held(site: str, location: Location) -> SiteIdentity | None:
    """Return whose catalogue a database holds; None if it holds none.

    Raises
    ------
    CatalogueUnavailable
        The database cannot be reached.
    """
    async with alone(site, location) as connection:
        return await holder(connection)


async def read_identity(connection: asyncpg.Connection | PoolConnectionProxy) -> SiteIdentity | None:
    """Return the identity that a catalogue holds; None if it holds none."""
    found = await connection.fetchrow(_IDENTITY)
    return None if found is None else SiteIdentity(*found)


class Database:
    """The connections of one process to a catalogue, which are made as they are needed.

    Parameters
    ----------
    site : str
        Name of the site, for errors.
    location : Location
    expected : SiteIdentity
        What the catalogue must say that it is.
    plans : mapping of str to str
        Settings that say how statements are planned: `PLANS_BY_VALUE`, `PLANS_BY_KEY`; or as the server does.
    """

    def __init__(
        self,
        site: str,
        location: Location,
        expected: SiteIdentity,
        *,
        plans: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.site = site
        self.location = location
        self.expected = expected
        self._settings = {**_SETTINGS, **plans}
        self._pool: asyncpg.Pool | None = None
        self._opening = asyncio.Lock()

    @asynccontextmanager
    async def lent(self, *, passing: Passing = ()) -> AsyncGenerator[asyncpg.Connection]:
        """Lend a connection to the catalogue that is expected.

        Parameters
        ----------
        passing : tuple of exception types
            What does not say that the catalogue is unavailable, and is handed on as it is.

        Raises
        ------
        CatalogueUnavailable
            It cannot be had, or failed; whatever was done may have been done all the same.
        """
        with _translated(self.site, self.location, passing):
            pool = await self._opened()
            async with pool.acquire(timeout=CONNECT_TIMEOUT_S) as connection:
                yield cast("asyncpg.Connection", connection)  # a proxy, with all that a connection has

    def check(self, found: SiteIdentity | None) -> None:
        """Check that a catalogue is the one that is expected.

        Raises
        ------
        CatalogueUnavailable
        """
        if found != self.expected:
            raise CatalogueUnavailable(self.site, f"{self.location} is {_whose(found)}: another was expected")

    async def close(self) -> None:
        """End all connections; what is under way on them is given up."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.terminate()

    async def _opened(self) -> asyncpg.Pool:
        if self._pool is None:
            async with self._opening:
                if self._pool is None:
                    self._pool = await asyncpg.create_pool(
                        self.location.url,
                        passfile=_passfile(self.location),
                        min_size=0,
                        max_size=CONNECTIONS,
                        timeout=CONNECT_TIMEOUT_S,
                        command_timeout=STATEMENT_TIMEOUT_S,
                        server_settings=self._settings,
                        init=self._check_new,
                        reset=_nothing_to_reset,
                    )
        return self._pool

    async def _check_new(self, connection: asyncpg.Connection) -> None:
        if await connection.fetchval("SELECT current_setting('fsync')") != "on":
            raise CatalogueUnavailable(
                self.site,
                f"{self.location}: fsync is off in its settings, so it may forget what it confirmed",
            )
        try:
            self.check(await read_identity(connection))
        except asyncpg.UndefinedTableError:
            raise CatalogueUnavailable(self.site, f"{self.location} holds no catalogue") from None
        revision = await read_revision(connection)
        usable_from = await connection.fetchval(_USABLE_FROM) if revision > REVISION else ""
        revisions.check(self.site, str(self.location), revision, REVISION, usable_from)


async def _nothing_to_reset(_: asyncpg.Connection) -> None:
    """Spare a round trip: all that is done is done in transactions, which leave nothing behind."""


async def read_revision(connection: asyncpg.Connection | PoolConnectionProxy) -> str:
    """Return the revision of a catalogue's schema; an empty text if it says none."""
    return await connection.fetchval("SELECT version_num FROM alembic_version") or ""


async def _has_schema(connection: asyncpg.Connection) -> bool:
    found: bool = await connection.fetchval("SELECT to_regnamespace($1) IS NOT NULL", SCHEMA)
    return found


async def _has_identity(connection: asyncpg.Connection) -> bool:
    """Return whether there is a table that says whose the catalogue is."""
    found: bool = await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", f"{SCHEMA}.site")
    return found


async def holder(connection: asyncpg.Connection) -> SiteIdentity | None:
    """Return whose catalogue is there; None also where there is something else."""
    return await read_identity(connection) if await _has_identity(connection) else None


def _passfile(location: Location) -> str | None:
    return None if location.passfile is None else str(location.passfile)


def _whose(found: SiteIdentity | None) -> str:
    return "of no site" if found is None else f"of site {found.name}, {found.site_id}, {found.generation}"


@asynccontextmanager
async def alone(
    site: str, location: Location, *, passing: Passing = ()
) -> AsyncGenerator[asyncpg.Connection]:
    """Be in a transaction, on a connection of its own, as the only one that changes the schema.

    Parameters, and what is raised, are those of `connected`.
    """
    async with connected(site, location, passing=passing) as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _MIGRATING)
        yield connection


@asynccontextmanager
async def connected(
    site: str, location: Location, *, passing: Passing = ()
) -> AsyncGenerator[asyncpg.Connection]:
    """Have a connection of one's own to a database, whatever it holds.

    Parameters
    ----------
    site : str
        Name of the site, for errors.
    location : Location
    passing : tuple of exception types
        What is handed on as it is.

    Raises
    ------
    CatalogueUnavailable
    """
    with _translated(site, location, passing):
        connection = await asyncpg.connect(
            location.url,
            passfile=_passfile(location),
            timeout=CONNECT_TIMEOUT_S,
            server_settings=_SETTINGS,
        )
        try:
            yield connection
        finally:
            connection.terminate()


@contextmanager
def _translated(site: str, location: Location, passing: Passing = ()) -> Generator[None]:
    """Tell whatever a server or a connection does wrong as the catalogue's being unavailable."""
    try:
        yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        if isinstance(error, passing):
            raise
        raise CatalogueUnavailable(site, f"{location}: {error or type(error).__name__}") from error
