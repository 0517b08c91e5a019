"""Who is there, on one host: a folder of small files, each locked by the process that it describes.

A lease is a lock (`flock(2)`) that the kernel drops with its process, so nothing has to be renewed, and no
clock decides. A file is written and locked under another name before it takes its place, and a name is
never used twice: nobody sees half a file or a living process's file without its lock, and who sweeps a dead
process's file cannot hit another's. The lock belongs to the open file: a process that forks without exec
leaves it to its child.
"""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import os
import secrets
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Final

import structlog

from cluster.coordination import member_json
from cluster.coordination.registry import Announcement, Kind, Member, RegistryUnavailable
from cluster.coordination.view import same_process, visible

log = structlog.get_logger()

POLL_INTERVAL_S: Final = 0.1
"""How often `watch` looks: a dropped lock raises no event that could be waited for. A look costs 0.1 ms."""
UNFINISHED_KEPT_S: Final = 60.0
"""How long a file that never took its place is left alone: its writer may be about to lock it."""
_SUFFIX: Final = ".json"
_UNFINISHED: Final = ".unfinished"
_SCAN_ATTEMPTS: Final = 100
_LIMIT_BYTES: Final = 1024 * 1024


class FolderRegistry:
    """A `Registry` in a folder of a local file system, made when the first process announces itself.

    Parameters
    ----------
    folder : Path
        Nothing else may be kept in it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[str, Member | None] = {}

    async def announce(self, member: Member) -> FolderAnnouncement:
        """See `Registry.announce`."""
        announcement = FolderAnnouncement(self._folder, member)
        announcement.write(member)
        return announcement

    async def members(self, kind: Kind | None = None) -> list[Member]:
        """See `Registry.members`. A folder that does not exist has no members."""
        try:
            return visible(self._scan(), kind)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise RegistryUnavailable(f"{self._folder}: {error.strerror or error}") from error

    async def watch(self) -> AsyncGenerator[list[Member], None]:
        """See `Registry.watch`."""
        last: list[Member] | None = None
        trouble = ""
        while True:
            try:
                members = visible(self._scan())
                trouble = ""
            except OSError as error:
                members = last or []
                if str(error) != trouble and (last or not isinstance(error, FileNotFoundError)):
                    trouble = str(error)
                    log.warning("registry.unavailable", folder=str(self._folder), error=trouble)
            if members != last:
                last = members
                yield members
            else:
                await asyncio.sleep(POLL_INTERVAL_S)

    def _scan(self) -> list[Member]:
        """Return all announcements whose process lives, and sweep the others.

        An update puts the new file in place before it takes the old one away. A listing that was read in
        between may show the old name alone, so a name that is gone means: list again.
        """
        for _ in range(_SCAN_ATTEMPTS):
            names = os.listdir(self._folder)  # noqa: PTH208  names are compared, not opened, most of the time
            self._read = {name: self._read[name] for name in names if name in self._read}
            try:
                found = [self._look(name) for name in names]
            except FileNotFoundError:
                continue
            return [member for member in found if member is not None]
        raise OSError(f"{self._folder} changed during each of {_SCAN_ATTEMPTS} looks")

    def _look(self, name: str) -> Member | None:
        path = self._folder / name
        if name.endswith(_UNFINISHED) and time.time() - path.stat().st_mtime < UNFINISHED_KEPT_S:
            return None
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if not _is_held(file):
                if os.fstat(file).st_nlink == 0:
                    raise FileNotFoundError(f"{path} was taken away while it was looked at")
                path.unlink(missing_ok=True)
                return None
            if name.endswith(_SUFFIX) and name not in self._read:
                self._read[name] = _parse(path, file)
            return self._read.get(name)
        finally:
            os.close(file)


class FolderAnnouncement(Announcement):
    """An `Announcement` in a folder."""

    def __init__(self, folder: Path, member: Member) -> None:
        self._folder = folder
        self._member = member
        self._stem = f"{member.kind}.{member.name}.{member.pid}-{secrets.token_hex(4)}"
        self._numbers = itertools.count(1)
        self._path: Path | None = None
        self._file = -1

    async def update(self, member: Member) -> None:
        """See `Announcement.update`."""
        same_process(self._member, member)
        self.write(member)

    async def withdraw(self) -> None:
        """See `Announcement.withdraw`."""
        _remove(self._path, self._file)
        self._path, self._file = None, -1

    def write(self, member: Member) -> None:
        """Put a file for `member` in place, then take the former one away.

        Raises
        ------
        RegistryUnavailable
        """
        path = self._folder / f"{self._stem}.{next(self._numbers)}{_SUFFIX}"
        unfinished = path.with_suffix(_UNFINISHED)
        file = -1
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            file = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.write(file, member_json.encode(member))
            unfinished.rename(path)
        except OSError as error:
            _remove(unfinished, file)
            raise RegistryUnavailable(f"{path}: {error.strerror}") from error
        _remove(self._path, self._file)
        self._member, self._path, self._file = member, path, file


def _is_held(file: int) -> bool:
    """Tell whether the announcer lives. A shared lock is tried: two who ask do not mislead each other."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _remove(path: Path | None, file: int) -> None:
    """Take a file out of the folder and let go of its lock, in this order: it is never seen unlocked."""
    if path is not None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("registry.entry_left_behind", file=str(path), error=str(error))
    if file >= 0:
        os.close(file)


def _parse(path: Path, file: int) -> Member | None:
    """Read a file; one that this release cannot read is no member, and said once."""
    try:
        return member_json.decode(os.pread(file, _LIMIT_BYTES, 0))
    except ValueError as error:
        log.warning("registry.entry_unreadable", file=str(path), error=str(error))
        return None
