"""The folder of one site, held open: what is done in it is done in this folder, or not at all.

Operators move site folders away, and put others in their place, while we run. So all work is relative to a
handle, and before anything is confirmed the path must still lead to the folder that the handle is of.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import weakref
from collections import OrderedDict
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Final, TypeVar

import structlog

from storage_node.site.direct_file import DirectFile
from storage_node.site.identity import IDENTITY_FILE, identity_content, read_identity, what_is_wrong
from storage_node.site.protocol import SiteUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cluster.nouns import SiteIdentity

T = TypeVar("T")

INCOMING: Final = "_incoming"
"""Where files are written before they are renamed into place."""

ABANDONED_AFTER_S: Final = 6 * 3600.0
"""Age at which a file in `_incoming` that nobody has written to is no live writer's."""

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_KNOWN_FOLDERS: Final = 4096

log = structlog.get_logger()


def create(folder: Path, identity: SiteIdentity) -> None:
    """Make an empty site in a folder that is new or empty, durably. Harmless when it was made already.

    Raises
    ------
    FileExistsError
        The folder holds something else, or another site.
    OSError
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / IDENTITY_FILE
    if file.exists():
        if read_identity(file.read_bytes()) != identity:
            raise FileExistsError(errno.EEXIST, "another site is here", str(folder))
        return
    if any(entry.name != INCOMING for entry in folder.iterdir()):
        raise FileExistsError(errno.EEXIST, "the folder is not empty", str(folder))
    _write_identity(folder, identity)


def held(folder: Path) -> SiteIdentity | None:
    """Return which site a folder is; None if it is none.

    Raises
    ------
    OSError
    """
    file = folder / IDENTITY_FILE
    return read_identity(file.read_bytes()) if file.exists() else None


def renew(folder: Path, identity: SiteIdentity) -> None:
    """Give a site a higher generation, durably, or make it in a folder that is new or empty.

    What the folder holds stays: whoever fills the site finds out what of it is sound.

    Raises
    ------
    FileExistsError
        The folder holds something else, another site, or this one in a later generation.
    OSError
    """
    found = held(folder)
    if found is None or found.site_id != identity.site_id or found.generation >= identity.generation:
        create(folder, identity)
    else:
        _write_identity(folder, identity)


def _write_identity(folder: Path, identity: SiteIdentity) -> None:
    (folder / INCOMING).mkdir(exist_ok=True)
    beside = folder / INCOMING / IDENTITY_FILE
    with beside.open("wb") as out:
        out.write(identity_content(identity))
        out.flush()
        os.fsync(out.fileno())
    beside.replace(folder / IDENTITY_FILE)
    for changed in (folder, folder.parent):
        handle = os.open(changed, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class Root:
    """A handle of a site's folder. It is closed when the last operation that uses it lets go of it.

    Raises
    ------
    SiteUnavailable
        The folder is not there, or is not the expected site's.
    """

    def __init__(self, folder: Path, expected: SiteIdentity) -> None:
        self._folder = folder
        self._expected = expected
        try:
            self.fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise self._unavailable(f"{folder}: {error.strerror}") from error
        weakref.finalize(self, os.close, self.fd)
        status = os.fstat(self.fd)
        self._inode = (status.st_dev, status.st_ino)
        self.check_identity()
        self.incoming = self._open_incoming()
        weakref.finalize(self, os.close, self.incoming)
        self._writer = secrets.token_hex(8)
        """Tells the files of this handle in `_incoming` from those of others, in whatever process."""
        self._numbers = count()
        self._durable_folders: OrderedDict[str, None] = OrderedDict()

    def check(self) -> None:
        """Check that the path still leads to this folder.

        Raises
        ------
        SiteUnavailable
        """
        try:
            status = self._folder.stat()
        except OSError as error:
            raise self._unavailable(f"{self._folder}: {error.strerror}") from error
        if (status.st_dev, status.st_ino) != self._inode:
            raise self._unavailable(f"{self._folder} is another folder than it was")

    def check_identity(self) -> None:
        """Read the identity file, and check that it says what is expected.

        Raises
        ------
        SiteUnavailable
        """
        try:
            fd = os.open(IDENTITY_FILE, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.fd)
            try:
                found = read_identity(os.read(fd, 4096))
            finally:
                os.close(fd)
        except OSError as error:
            raise self._unavailable(f"{self._folder / IDENTITY_FILE}: {error.strerror}") from error
        if (wrong := what_is_wrong(found, self._expected)) is not None:
            raise self._unavailable(f"{self._folder / IDENTITY_FILE} {wrong}")

    def _open_incoming(self) -> int:
        try:
            with suppress(FileExistsError):
                os.mkdir(INCOMING, dir_fd=self.fd)
            return os.open(INCOMING, _DIRECTORY, dir_fd=self.fd)
        except OSError as error:
            raise self._unavailable(f"{self._folder / INCOMING}: {error.strerror}") from error

    def _unavailable(self, reason: str) -> SiteUnavailable:
        return SiteUnavailable(self._expected.name, reason)

    def open_folder(self, path: str) -> int:
        """Return a handle of a folder below, which is made when it is not there.

        Every folder on the way is durable in the one above it when `sync_above` has returned.
        """
        self._make_folder(path)
        return os.open(path or ".", _DIRECTORY, dir_fd=self.fd)

    def _make_folder(self, path: str) -> None:
        if not path:
            return
        try:
            os.mkdir(path, dir_fd=self.fd)
        except FileExistsError:
            return
        except FileNotFoundError:
            self._make_folder(path.rpartition("/")[0])
            self._make_folder(path)
        self._durable_folders.pop(path, None)

    def sync_above(self, path: str) -> None:
        """Make the entry of a folder durable, and those of the folders above it.

        Another writer may have made any of them a moment ago without having synced it yet, so each counts as
        durable only once this process has synced the folder above it.
        """
        while path and path not in self._durable_folders:
            above = path.rpartition("/")[0]
            handle = os.open(above or ".", _DIRECTORY, dir_fd=self.fd)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
            self._durable_folders[path] = None
            path = above
        while len(self._durable_folders) > _KNOWN_FOLDERS:
            with suppress(KeyError):  # another thread was quicker
                self._durable_folders.popitem(last=False)

    def new_file(self) -> DirectFile:
        """Make a file in `_incoming`, for an object.

        Raises
        ------
        SiteUnavailable
        """
        return self._new(lambda name: DirectFile(name, self.incoming))

    def new_small_file(self) -> tuple[str, int]:
        """Make a file in `_incoming`, and return its name and a handle to write to.

        Raises
        ------
        SiteUnavailable
        """
        return self._new(lambda name: (name, os.open(name, _CREATE, 0o666, dir_fd=self.incoming)))

    def _new(self, make: Callable[[str], T]) -> T:
        try:
            return make(f"{self._writer}-{next(self._numbers)}")
        except OSError as error:
            raise self._unavailable(f"{self._folder / INCOMING}: {error.strerror}") from error

    def discard(self, *names: str) -> None:
        """Remove files from `_incoming`, those that are still there."""
        for name in names:
            with suppress(OSError):  # what cannot be removed is swept when it is old
                os.unlink(name, dir_fd=self.incoming)

    def free_bytes(self) -> int:
        """Return how much the file system has left for processes without privileges.

        Raises
        ------
        OSError
        """
        status = os.fstatvfs(self.fd)
        return status.f_bavail * status.f_frsize

    def sweep(self, older_than: float) -> int:
        """Remove from `_incoming` what was last written to before a POSIX time; return how many."""
        swept = 0
        with os.scandir(self.incoming) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode) and status.st_mtime < older_than:
                        os.unlink(entry.name, dir_fd=self.incoming)
                        swept += 1
        if swept:
            log.info("site.swept", site=self._expected.name, files=swept)
        return swept
