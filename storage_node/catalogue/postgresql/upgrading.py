"""Bringing a PostgreSQL catalogue to the schema of the code, while processes are at work on it."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import asyncpg
import structlog

from storage_node.catalogue import revisions
from storage_node.catalogue.migrations import folded_names
from storage_node.catalogue.postgresql import migrations
from storage_node.catalogue.postgresql.database import Location, alone, holder, read_revision
from storage_node.catalogue.postgresql.migrations import REVISION
from storage_node.catalogue.protocol import CatalogueUnavailable
from storage_node.catalogue.revisions import Upgraded

_LOCK_TIMEOUT_MS: Final = 2000
_UPGRADE_ATTEMPTS: Final = 30
"""How long a migration waits for those who are at work on a table, and how often it tries."""
_GIVES_WAY: Final = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)

NAMES_FOLDED_SINCE: Final = "0002"
_NAMES: Final = (
    f"{folded_names.SELECT} WHERE studies.study_instance_uid > $1"
    " AND coalesce(patient_name, '') || coalesce(referring_physician_name, '') ~ '[^a-z0-9^]'"
    " ORDER BY studies.study_instance_uid LIMIT $2"
)
_RENAME: Final = (
    "UPDATE studies SET patient_name = $1, referring_physician_name = $2 WHERE study_instance_uid = $3"
)

log = structlog.get_logger()


async def upgrade(site: str, location: Location) -> Upgraded:
    """Bring a catalogue to the schema of the code, in one transaction. Harmless when it has it.

    Processes may be at work on it. Whoever reads or changes a table waits while it is changed; so the
    migration does not wait for long for those before it, who would hold up all others that come meanwhile:
    it gives way, and begins anew. One at a time runs, and whoever comes second finds nothing to do.

    Raises
    ------
    NewerSchema
    CatalogueUnavailable
        The database cannot be reached, holds no catalogue, is never left alone long enough, or has a schema
        that nothing leads on from.
    """
    for _ in range(_UPGRADE_ATTEMPTS - 1):
        with suppress(_GaveWay):
            return await _upgrade(site, location)
    return await _upgrade(site, location)


async def fold_names(connection: asyncpg.Connection) -> None:
    """Bring names to the form that they are compared in now (`folded_names`)."""
    after = ""
    while page := await connection.fetch(_NAMES, after, folded_names.PAGE):
        after = page[-1][0]
        if renamed := [change for row in page if (change := folded_names.changed(*row))]:
            await connection.executemany(_RENAME, renamed)


class _GaveWay(CatalogueUnavailable):
    """Others were at work on a table for too long."""


async def _upgrade(site: str, location: Location) -> Upgraded:
    from alembic.util import CommandError

    try:
        async with alone(site, location, passing=_GIVES_WAY) as connection:
            if await holder(connection) is None:
                raise CatalogueUnavailable(site, f"{location} holds no catalogue")
            before = await read_revision(connection)
            revisions.check_not_newer(site, str(location), before, REVISION)
            if before < REVISION:
                await connection.execute(f"SET LOCAL lock_timeout = {_LOCK_TIMEOUT_MS}")
                await connection.execute(migrations.script(before))
                if before < NAMES_FOLDED_SINCE:
                    await fold_names(connection)
                log.info("catalogue.upgraded", site=site, before=before, now=REVISION)
            return Upgraded(before, await read_revision(connection))
    except _GIVES_WAY as error:
        raise _GaveWay(site, f"{location}: others are at work on it all the time: {error}") from error
    except CommandError as error:
        reason = str(error).partition("\n")[0]
        raise CatalogueUnavailable(
            site, f"{location} cannot be brought to schema {REVISION}: {reason}"
        ) from error
