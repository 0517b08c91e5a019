"""Bringing an SQLite catalogue to the schema of the code, while processes have its file open."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import structlog

from storage_node.catalogue import revisions
from storage_node.catalogue.protocol import CatalogueUnavailable
from storage_node.catalogue.revisions import Upgraded
from storage_node.catalogue.schema import REVISION
from storage_node.catalogue.sqlite.database import connect, migrate, open_lock, read_revision

log = structlog.get_logger()


def upgrade(site: str, file: Path) -> Upgraded:
    """Bring a catalogue to the schema of the code, in one transaction. Harmless when it has it.

    Processes may have it open: they wait, and whoever comes second finds nothing to do.

    Parameters
    ----------
    site : str
        Name of the site, for errors.
    file : Path

    Raises
    ------
    NewerSchema
    CatalogueUnavailable
        It is not there, is no catalogue, or has a schema that nothing leads on from.
    """
    from alembic.util import CommandError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with closing(connect(file)) as connection, _alone(file):
            before = read_revision(connection)
            revisions.check_not_newer(site, str(file), before, REVISION)
            if before < REVISION:
                migrate(connection)
                log.info("catalogue.upgraded", site=site, before=before, now=REVISION)
            return Upgraded(before, read_revision(connection))
    except (sqlite3.Error, OSError, CommandError, SQLAlchemyError) as error:
        reason = str(error).partition("\n")[0]
        raise CatalogueUnavailable(
            site, f"{file} cannot be brought to schema {REVISION}: {reason}"
        ) from error


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Hold the lock that writers of all processes take in turn."""
    handle = open_lock(file)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
