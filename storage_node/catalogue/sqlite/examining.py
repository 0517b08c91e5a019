"""What SQLite says of the file of a catalogue."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from storage_node.catalogue.examination import Examined
from storage_node.catalogue.protocol import CatalogueUnavailable
from storage_node.catalogue.schema import REVISION
from storage_node.catalogue.sqlite.database import connect, held, read_revision

if TYPE_CHECKING:
    from pathlib import Path


def examine(site: str, file: Path, *, thoroughly: bool = False) -> Examined:
    """Find out what a file is like, and what it holds. Blocks.

    Parameters
    ----------
    site : str
        Name of the site, for errors.
    file : Path
    thoroughly : bool
        Whether to read all of it, and look for damage.

    Raises
    ------
    CatalogueUnavailable
        It is not there, or cannot be read.
    """
    try:
        with closing(connect(file)) as connection:
            identity = held(file)
            settings = {"sqlite": sqlite3.sqlite_version, "journal_mode": _ask(connection, "journal_mode")}
            problems = []
            if identity is not None and settings["journal_mode"] != "wal":
                problems.append(f"{file}: journal_mode is {settings['journal_mode']}, and not wal")
            if thoroughly and (found := _ask(connection, "integrity_check")) != "ok":
                problems.append(f"{file} is damaged: {found}: `atria catalogue rebuild {site}`")
            revision = "" if identity is None else read_revision(connection)
            return Examined(identity, revision, REVISION, settings, tuple(problems))
    except (sqlite3.Error, OSError) as error:
        raise CatalogueUnavailable(site, f"{file}: {error}") from error


def _ask(connection: sqlite3.Connection, pragma: str) -> str:
    (answer,) = connection.execute(f"PRAGMA {pragma}").fetchone()
    return str(answer)
