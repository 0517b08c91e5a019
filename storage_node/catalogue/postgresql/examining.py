"""What a PostgreSQL server says of itself, and of the catalogue in one of its databases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from storage_node.catalogue.examination import Examined
from storage_node.catalogue.postgresql.database import SCHEMA, Location, connected, holder, read_revision
from storage_node.catalogue.postgresql.migrations import REVISION

if TYPE_CHECKING:
    from collections.abc import Mapping

    import asyncpg

_WANTED: Final = {
    "fsync": ("on", "it may forget what it confirmed"),
    "full_page_writes": ("on", "a power cut may leave pages that are half written"),
    "synchronous_commit": ("on", "it may forget what it confirmed"),
    "server_encoding": ("UTF8", "not every name can be kept in it"),
}
"""What settings have to be, and what follows if they are not."""
_SETTINGS: Final = "SELECT name, setting FROM pg_settings WHERE name = ANY($1::text[])"
_TRIGRAMS: Final = "SELECT extversion FROM pg_extension WHERE extname = 'pg_trgm'"
_COLLATIONS: Final = (
    "SELECT format('%s.%s', relname, attname) FROM pg_attribute"
    " JOIN pg_class ON pg_class.oid = attrelid JOIN pg_collation ON pg_collation.oid = attcollation"
    " WHERE relnamespace = to_regnamespace($1) AND relkind = 'r' AND relname <> 'alembic_version'"
    " AND attnum > 0 AND NOT attisdropped AND collname NOT IN ('C', 'POSIX') ORDER BY 1"
)
"""Columns whose texts are not compared by their bytes."""
_INVALID: Final = (
    "SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid"
    " WHERE relnamespace = to_regnamespace($1) AND NOT indisvalid ORDER BY 1"
)


async def examine(site: str, location: Location) -> Examined:
    """Find out what a database is like, and what it holds.

    Raises
    ------
    CatalogueUnavailable
        It cannot be reached.
    """
    async with connected(site, location) as connection:
        found = await connection.fetch(_SETTINGS, list(_WANTED))
        settings: dict[str, str] = {row["name"]: row["setting"] for row in found}
        problems = [
            f"{location}: {name} is {settings.get(name, 'missing')} in its settings, so {why}"
            for name, (wanted, why) in _WANTED.items()
            if settings.get(name) != wanted
        ]
        identity = await holder(connection)
        if identity is None:
            return Examined(None, "", REVISION, settings, tuple(problems))
        settings["pg_trgm"] = await connection.fetchval(_TRIGRAMS) or "missing"
        settings["collation"] = "C"
        problems += await _problems(connection, location, settings)
        return Examined(identity, await read_revision(connection), REVISION, settings, tuple(problems))


async def _problems(
    connection: asyncpg.Connection, location: Location, settings: Mapping[str, str]
) -> list[str]:
    """Return what is wrong with the catalogue's tables and indexes."""
    problems = []
    if settings["pg_trgm"] == "missing":
        problems.append(f"{location}: extension pg_trgm is missing, so parts of names are not found quickly")
    columns = [column for (column,) in await connection.fetch(_COLLATIONS, SCHEMA)]
    if columns:
        problems.append(f"{location}: {', '.join(columns)}: not of collation C, so pages come out of order")
    indexes = [index for (index,) in await connection.fetch(_INVALID, SCHEMA)]
    if indexes:
        problems.append(f"{location}: index {', '.join(indexes)} is invalid: REINDEX it")
    return problems
