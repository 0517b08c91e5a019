"""The file of an SQLite catalogue: made once, never by accident, and watched while it is open.

Operators move site folders away, and put others in their place, while we run. So a file is opened only where
it is, with the identity that is expected, and before anything is confirmed its path must still lead to it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from cluster.nouns import SiteIdentity
from storage_node.catalogue import revisions
from storage_node.catalogue.protocol import CatalogueUnavailable
from storage_node.catalogue.schema import REVISION

if TYPE_CHECKING:
    import sqlalchemy

BUSY_TIMEOUT_S: Final = 5.0
"""How long SQLite's own lock is waited for: only a foreign program can hold it, as ours take `Lock` first."""

_CACHED_STATEMENTS: Final = 256


def create(file: Path, identity: SiteIdentity) -> None:
    """Make an empty catalogue, whole or not at all, durably. Harmless when it was made already.

    Raises
    ------
    FileExistsError
        The file holds something else, or another site's catalogue.
    OSError
    """
    if file.exists():
        if held(file) != identity:
            raise FileExistsError(errno.EEXIST, "something else is here", str(file))
        return
    beside = file.with_name(f"{file.name}.{secrets.token_hex(8)}.new")
    beside.touch(mode=0o666, exist_ok=False)
    try:
        with closing(connect(beside)) as connection:
            migrate(connection)
            values = (*_identity_row(identity), secrets.token_hex(8))
            connection.execute(
                "INSERT INTO site (name, site_id, generation, feed_id) VALUES (?, ?, ?, ?)", values
            )
            connection.execute("PRAGMA journal_mode = WAL")
        _sync(beside)
        os.link(beside, file)
    finally:
        beside.unlink()
    _sync(file.parent)


def held(file: Path) -> SiteIdentity | None:
    """Return whose catalogue a file holds; None where there is no file, or something else.

    Raises
    ------
    OSError
    """
    if not file.exists():
        return None
    try:
        with closing(connect(file)) as connection:
            return read_identity(connection)
    except sqlite3.Error:
        return None


def read_revision(connection: sqlite3.Connection) -> str:
    """Return the revision of a catalogue's schema; an empty text if it says none."""
    (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone() or ("",)
    return str(revision)


def read_identity(connection: sqlite3.Connection) -> SiteIdentity | None:
    """Return the identity that a catalogue holds; None if it holds none."""
    row = connection.execute("SELECT name, site_id, generation FROM site").fetchone()
    return None if row is None else SiteIdentity(*row)


class DatabaseFile:
    """One connection to a catalogue's file, which opens by itself as soon as the right file is there.

    It belongs to one thread.

    Parameters
    ----------
    site : str
        Name of the site, for errors.
    file : Path
    expected : SiteIdentity
        What the file must say that it is.
    """

    def __init__(self, site: str, file: Path, expected: SiteIdentity) -> None:
        self._site = site
        self._file = file
        self._expected = expected
        self._connection: sqlite3.Connection | None = None
        self._inode: tuple[int, int] | None = None
        self._log_inode: tuple[int, int] | None = None
        self._without_log: tuple[int, int] | None = None
        """A file whose log was removed. It is not opened again: what is written to a new log, while others
        have the file open, could not be read back."""
        self._lock: int | None = None

    @contextmanager
    def opened(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection. The path leads to its very file when it is lent, and when it comes back.

        Raises
        ------
        CatalogueUnavailable
            The file is not there, is another, or failed; whatever was done may have been done all the same.
        """
        try:
            connection = self._open()
            yield connection
            self.check()
        except sqlite3.Error as error:
            # Corrupt, full, locked, or gone: whatever it is, the next call begins afresh.
            self.close()
            raise CatalogueUnavailable(self._site, f"{self._file}: {error}") from error
        except OSError as error:
            self.close()
            raise CatalogueUnavailable(self._site, f"{self._file}: {error.strerror}") from error
        except CatalogueUnavailable:
            self.close()
            raise

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock that writers of all processes take in turn, while the file is opened.

        SQLite's own lock is polled, up to 100 ms apart; this one is handed over by the kernel at once.
        """
        assert self._lock is not None
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def check(self) -> None:
        """Check that the path leads to the file that is open, and beside it is the log that is written to.

        Raises
        ------
        OSError
            The path leads nowhere.
        CatalogueUnavailable
            It leads to another file, or the log was removed or replaced.
        """
        log_inode = _log_inode(self._file)
        if self._inode != _inode(self._file):
            raise CatalogueUnavailable(self._site, f"{self._file} is another file than it was")
        if self._log_inode != log_inode:
            self._without_log = self._inode
            raise self._log_is_lost()

    def _log_is_lost(self) -> CatalogueUnavailable:
        return CatalogueUnavailable(
            self._site, f"{self._file} has lost its write-ahead log: end all processes, then start them again"
        )

    def close(self) -> None:
        """Let go of the file. SQLite leaves alone what is at the path if that is not what it opened."""
        connection, self._connection, self._inode, self._log_inode = self._connection, None, None, None
        lock, self._lock = self._lock, None
        if connection is not None:
            with suppress(sqlite3.Error):  # closing is all that can be done with a broken file
                connection.close()
        if lock is not None:
            os.close(lock)

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None:
            self.check()
            return self._connection
        self._inode = _inode(self._file)
        if self._inode == self._without_log:
            raise self._log_is_lost()
        self._connection = connect(self._file)
        self._lock = open_lock(self._file)
        self._check_contents(self._connection)
        self._log_inode = _log_inode(self._file)
        self.check()
        return self._connection

    def _check_contents(self, connection: sqlite3.Connection) -> None:
        found = read_identity(connection)
        if found != self._expected:
            whose = (
                "of no site"
                if found is None
                else f"of site {found.name}, {found.site_id}, {found.generation}"
            )
            raise CatalogueUnavailable(self._site, f"{self._file} is {whose}: another was expected")
        revision, usable_from = read_revision(connection), ""
        if revision > REVISION:
            (usable_from,) = connection.execute("SELECT usable_from FROM site").fetchone()
        revisions.check(self._site, str(self._file), revision, REVISION, usable_from)


def open_lock(file: Path) -> int:
    """Return a handle of the file by which writers of all processes take turns."""
    return os.open(f"{file}-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)


def connect(file: Path) -> sqlite3.Connection:
    """Connect to a file that is there: one that is not is never made."""
    connection = sqlite3.connect(
        f"file:{quote(str(file))}?mode=rw",
        uri=True,
        isolation_level=None,
        timeout=BUSY_TIMEOUT_S,
        cached_statements=_CACHED_STATEMENTS,
        check_same_thread=False,
    )
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema up to date in one transaction; the one who comes second finds nothing to do."""
    import sqlalchemy

    from storage_node.catalogue.migrations import upgrade

    engine = sqlalchemy.create_engine(
        "sqlite://", creator=lambda: connection, poolclass=sqlalchemy.StaticPool
    )

    @sqlalchemy.event.listens_for(engine, "begin")
    def _(begun: sqlalchemy.Connection) -> None:
        begun.exec_driver_sql("BEGIN IMMEDIATE")

    with engine.begin() as migrated:
        upgrade(migrated)


def _identity_row(identity: SiteIdentity) -> tuple[str, str, int]:
    return identity.name, identity.site_id, identity.generation


def _inode(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_dev, status.st_ino


def _log_inode(file: Path) -> tuple[int, int] | None:
    try:
        return _inode(file.with_name(f"{file.name}-wal"))
    except FileNotFoundError:
        return None


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
