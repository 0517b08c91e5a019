"""Reading the files of objects: one, or all in the order of their keys."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from storage_node.site.identity import IDENTITY_FILE
from storage_node.site.protocol import ListedObject, ObjectFault, ObjectMissing, StoredObject
from storage_node.site.root import INCOMING

if TYPE_CHECKING:
    from storage_node.site.root import Root

METADATA_SUFFIX: Final = ".meta"
"""What the name of the file beside an object's has at its end: no key ends so."""
FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_OBJECTS: Final = frozenset({IDENTITY_FILE, f"{INCOMING}/"})


@contextmanager
def _opened(root: Root, key: str) -> Iterator[tuple[int, os.stat_result]]:
    try:
        fd = os.open(key, _READ, dir_fd=root.fd)
    except FileNotFoundError as error:
        raise ObjectMissing(key) from error
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise ObjectFault(f"{key} is not a file")
        yield fd, status
    except OSError as error:
        if error.errno == errno.EIO:
            raise ObjectFault(f"{key}: {error.strerror}") from error
        raise
    finally:
        os.close(fd)


def read(root: Root, key: str, start: int, length: int | None) -> bytes:
    """Return bytes of an object, fewer at its end.

    Raises
    ------
    ObjectMissing, ObjectFault, OSError
    """
    with _opened(root, key) as (fd, status):
        end = status.st_size if length is None else min(start + length, status.st_size)
        pieces: list[bytes] = []
        while start < end and (piece := os.pread(fd, end - start, start)):
            pieces.append(piece)
            start += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def describe(root: Root, key: str) -> StoredObject:
    """Describe an object.

    Raises
    ------
    ObjectMissing, ObjectFault, OSError
    """
    with _opened(root, key) as (_, status):
        return StoredObject(
            key=key,
            size_bytes=status.st_size,
            metadata=_metadata(root, key),
            version_id=version_id_of(status),
            modified_at=_modified_at(status),
        )


def version_id_of(status: os.stat_result) -> str:
    """Name one file: its inode is another's only after it is gone, and then the time differs."""
    return f"{status.st_ino:x}-{status.st_mtime_ns:x}"


def _metadata(root: Root, key: str) -> dict[str, str]:
    try:
        with _opened(root, key + METADATA_SUFFIX) as (fd, status):
            entries = json.loads(os.read(fd, status.st_size))
        return {str(name): str(value) for name, value in entries.items()}
    except (ObjectMissing, ObjectFault, ValueError, AttributeError):
        return {}


def folders(root: Root) -> list[str]:
    """Return the folders at the top, in the order of the keys below them."""
    return [name[:-1] for name, _ in _entries(root, "") if name.endswith("/")]


def walk(root: Root, folder: str, prefix: str) -> Iterator[ListedObject]:
    """List the objects below a folder (its path ends in `/`) in the order of their keys."""
    for name, status in _entries(root, folder):
        path = folder + name
        if name.endswith("/"):
            if path.startswith(prefix) or prefix.startswith(path):
                yield from walk(root, path, prefix)
        elif path.startswith(prefix) and status is not None and not name.endswith(METADATA_SUFFIX):
            yield ListedObject(path, status.st_size, _modified_at(status))


def _entries(root: Root, folder: str) -> list[tuple[str, os.stat_result | None]]:
    """Return the folders (`name/`) and files in a folder, in the order of the keys they stand for."""
    try:
        handle = os.open(folder or ".", FOLDER, dir_fd=root.fd)
    except FileNotFoundError:
        return []
    found: list[tuple[str, os.stat_result | None]] = []
    try:
        with os.scandir(handle) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    found.append((f"{entry.name}/", None))
                elif entry.is_file(follow_symlinks=False):
                    with suppress(FileNotFoundError):  # it went away
                        found.append((entry.name, entry.stat(follow_symlinks=False)))
    finally:
        os.close(handle)
    return sorted((name, status) for name, status in found if folder + name not in _NO_OBJECTS)


def _modified_at(status: os.stat_result) -> datetime:
    return datetime.fromtimestamp(status.st_mtime, UTC)
