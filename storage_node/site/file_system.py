"""A site whose objects are files.

The file of an object is at its key, below the site's folder; its user metadata is in a file beside it, of the
same name and `.meta`. Both are written in `_incoming`, synced, with the folders on the way, and renamed into
place: first the metadata, then the object, so that whoever sees an object finds its metadata. (An object
whose metadata file is missing or damaged all the same is shown with none: the catalogue's row has the
provenance, too.)

Folders are never removed here: an empty one does no harm, and removing it would race with a writer.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeVar

from storage_node.site import root as site_root
from storage_node.site.protocol import ObjectFault, ObjectMissing, SiteUnavailable, StoredObject
from storage_node.site.root import IDENTITY_FILE, INCOMING, Root
from storage_node.site.threads import Threads

if TYPE_CHECKING:
    from pathlib import Path

    from cluster.nouns import Buffer, SiteIdentity
    from storage_node.site.direct_file import DirectFile

T = TypeVar("T")

METADATA_SUFFIX: Final = ".meta"

THREADS: Final = 8
"""Calls that one site's disk works on at once, in one process."""
QUEUE_LIMIT: Final = 256
"""Calls that wait for a thread."""
_LISTED_AT_ONCE: Final = 256

_NO_OBJECTS: Final = frozenset({IDENTITY_FILE, f"{INCOMING}/"})
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OF_ONE_OBJECT: Final = frozenset(
    {
        errno.EACCES,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENOTDIR,
        errno.ENOTEMPTY,
        errno.EPERM,
        errno.ENXIO,
    }
)
"""Errors that say something of one path, not of the disk that it is on."""


class FileSystemObjects:
    """The objects of one site in a folder of a local file system.

    Nothing is touched before the first call, and a folder that is missing, or is not the expected site's,
    makes each call raise `SiteUnavailable` until the right one is there: a site comes back by itself.

    Parameters
    ----------
    name : str
        Name of the site.
    folder : Path
        Made by `create`.
    expected : SiteIdentity
        What its identity file must say.
    """

    def __init__(self, name: str, folder: Path, expected: SiteIdentity) -> None:
        self._name = name
        self._folder = folder
        self._expected = expected
        self._root: Root | None = None
        self._threads = Threads(name, threads=THREADS, queue_limit=QUEUE_LIMIT)

    @staticmethod
    def create(folder: Path, identity: SiteIdentity) -> None:
        """Make an empty site, durably: see `storage_node.site.root.create`."""
        site_root.create(folder, identity)

    @property
    def name(self) -> str:
        """Name of the site."""
        return self._name

    async def put(
        self, key: str, parts: Sequence[Buffer], *, digest: str, metadata: Mapping[str, str]
    ) -> None:
        """Write an object (see `Objects.put`); the digest is not needed, no network is between."""
        del digest
        await self._within(lambda root: _put(root, key, parts, metadata))

    async def upload(self, key: str, *, metadata: Mapping[str, str]) -> FileUpload:
        """Begin to write an object of a size that is not known yet (see `Objects.upload`)."""
        return await self._within(lambda root: FileUpload(self, root, key, metadata))

    async def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Return bytes of an object (see `Objects.get`)."""
        return await self._within(lambda root: _read(root, key, start, length))

    async def head(self, key: str) -> StoredObject:
        """Describe an object (see `Objects.head`)."""
        return await self._within(lambda root: _describe(root, key))

    async def list(self, prefix: str = "") -> AsyncIterator[StoredObject]:
        """Describe the objects whose key begins with `prefix` (see `Objects.list`)."""
        root = await self.run(self._open)
        walk = _walk(root, "", prefix)

        def some() -> list[StoredObject]:
            found = list(islice(walk, _LISTED_AT_ONCE))
            root.check()
            return found

        while found := await self.run(some):
            for described in found:
                yield described

    async def delete(self, key: str, version_id: str) -> None:
        """Remove the very object that `head` described (see `Objects.delete`)."""
        await self._within(lambda root: _delete(root, key, version_id))

    async def identity(self) -> SiteIdentity:
        """Read which site this is (see `Objects.identity`)."""
        await self._within(Root.check_identity)
        return self._expected

    async def close(self) -> None:
        """Let go of the folder and the threads; work that was begun is waited for, within limits."""
        await self._threads.close()
        self._root = None

    async def run(self, work: Callable[[], T]) -> T:
        """Run blocking work in the site's threads; the system's errors are told as the site's."""

        def told() -> T:
            try:
                return work()
            except OSError as error:
                reason = f"{error.strerror} ({errno.errorcode.get(error.errno or 0, error.errno)})"
                if error.errno in _OF_ONE_OBJECT:
                    raise ObjectFault(f"site {self._name}: {reason}") from error
                raise SiteUnavailable(self._name, reason) from error

        return await self._threads.run(told)

    async def _within(self, work: Callable[[Root], T]) -> T:
        """Do work in the site's folder: nothing counts that was done in a folder that is there no more."""

        def checked() -> T:
            root = self._open()
            try:
                return work(root)
            finally:
                root.check()

        return await self.run(checked)

    def _open(self) -> Root:
        root = self._root
        if root is not None:
            try:
                root.check()
            except SiteUnavailable:
                self._root = None
            else:
                return root
        root = Root(self._folder, self._expected)
        root.sweep()
        self._root = root
        return root


class FileUpload:
    """An object that is written part by part in `_incoming`, and renamed into place when it is complete.

    One that nobody completes or aborts, as who asked for it had given up waiting, cleans up after itself.
    """

    def __init__(self, site: FileSystemObjects, root: Root, key: str, metadata: Mapping[str, str]) -> None:
        self._site = site
        self._root = root
        self._key = key
        self._metadata = metadata
        self._lock = threading.Lock()
        """Held by the thread that uses the file: a call may be given up while its thread still writes."""
        self._file = root.new_file()
        self._forget = weakref.finalize(self, _forget, root, self._file)

    async def write(self, parts: Sequence[Buffer]) -> None:
        """Append the parts (see `Upload.write`)."""
        await self._site.run(lambda: self._write(parts))

    def _write(self, parts: Sequence[Buffer]) -> None:
        with self._lock:
            self._check()
            self._file.write(parts)

    async def complete(self) -> None:
        """Make the object durable, then visible (see `Upload.complete`)."""
        await self._site.run(self._complete)

    def _complete(self) -> None:
        with self._lock:
            try:
                self._check()
                _publish(self._root, self._key, self._file, self._metadata)
                self._root.check()
            finally:
                self._forget()

    def _check(self) -> None:
        if not self._forget.alive:
            raise SiteUnavailable(self._site.name, "the upload has ended")
        self._root.check()

    async def abort(self) -> None:
        """Leave nothing behind (see `Upload.abort`)."""
        with suppress(SiteUnavailable):  # then it is left to the finalizer
            await self._site.run(self._abort)

    def _abort(self) -> None:
        with self._lock:
            self._forget()


def _forget(root: Root, file: DirectFile) -> None:
    file.close()
    root.discard(file.name)


def _put(root: Root, key: str, parts: Sequence[Buffer], metadata: Mapping[str, str]) -> None:
    file = root.new_file()
    try:
        file.write(parts)
        _publish(root, key, file, metadata)
    except BaseException:
        root.discard(file.name)
        raise
    finally:
        file.close()


def _publish(root: Root, key: str, file: DirectFile, metadata: Mapping[str, str]) -> None:
    """Make a written file durable, then visible at its key with its metadata, then that durable.

    The folder is locked, against other processes too, while names in it change: so who deletes finds object
    and metadata of one and the same put. Closing it is what unlocks it.
    """
    path, _, name = key.rpartition("/")
    folder = root.open_folder(path)
    try:
        beside = _write_metadata(root, file, metadata)
        try:
            root.sync_above(path)
            fcntl.flock(folder, fcntl.LOCK_EX)
            _rename(root, beside, folder, name + METADATA_SUFFIX)
            _rename(root, file.name, folder, name)
            os.fsync(folder)
        except BaseException:
            root.discard(beside)
            raise
    finally:
        os.close(folder)


def _write_metadata(root: Root, file: DirectFile, metadata: Mapping[str, str]) -> str:
    """Write the file that comes beside an object's, make both durable, and return its name.

    All that is new is written before anything is synced: one commit of the file system's journal is then
    enough for both files and the folder that they will be in.
    """
    beside, handle = root.new_small_file()
    try:
        os.write(handle, json.dumps(dict(metadata)).encode("ascii"))
        file.flush()
        os.fsync(handle)
        file.sync()
    except BaseException:
        root.discard(beside)
        raise
    finally:
        os.close(handle)
    return beside


def _rename(root: Root, temporary: str, folder: int, name: str) -> None:
    os.rename(temporary, name, src_dir_fd=root.incoming, dst_dir_fd=folder)


def _delete(root: Root, key: str, version_id: str) -> None:
    path, _, name = key.rpartition("/")
    try:
        folder = os.open(path or ".", _FOLDER, dir_fd=root.fd)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if _version_id(status) == version_id:
            os.unlink(name, dir_fd=folder)
            with suppress(FileNotFoundError):
                os.unlink(name + METADATA_SUFFIX, dir_fd=folder)
            os.fsync(folder)
    except FileNotFoundError:
        return
    finally:
        os.close(folder)


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


def _read(root: Root, key: str, start: int, length: int | None) -> bytes:
    with _opened(root, key) as (fd, status):
        end = status.st_size if length is None else min(start + length, status.st_size)
        pieces: list[bytes] = []
        while start < end and (piece := os.pread(fd, end - start, start)):
            pieces.append(piece)
            start += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _describe(root: Root, key: str) -> StoredObject:
    with _opened(root, key) as (_, status):
        return StoredObject(
            key=key,
            size_bytes=status.st_size,
            metadata=_metadata(root, key),
            version_id=_version_id(status),
            modified_at=datetime.fromtimestamp(status.st_mtime, UTC),
        )


def _version_id(status: os.stat_result) -> str:
    """Name one file: its inode is another's only after it is gone, and then the time differs."""
    return f"{status.st_ino:x}-{status.st_mtime_ns:x}"


def _metadata(root: Root, key: str) -> dict[str, str]:
    try:
        with _opened(root, key + METADATA_SUFFIX) as (fd, status):
            entries = json.loads(os.read(fd, status.st_size))
        return {str(name): str(value) for name, value in entries.items()}
    except (ObjectMissing, ObjectFault, ValueError, AttributeError):
        return {}


def _walk(root: Root, folder: str, prefix: str) -> Iterator[StoredObject]:
    """Describe the objects below a folder (its path ends in `/`) in the order of their keys."""
    try:
        handle = os.open(folder or ".", _FOLDER, dir_fd=root.fd)
    except FileNotFoundError:
        return
    try:
        with os.scandir(handle) as entries:
            found = [
                f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name for entry in entries
            ]
    finally:
        os.close(handle)
    for name in sorted(found):
        path = folder + name
        if path in _NO_OBJECTS or name.endswith(METADATA_SUFFIX):
            continue
        if name.endswith("/"):
            if path.startswith(prefix) or prefix.startswith(path):
                yield from _walk(root, path, prefix)
        elif path.startswith(prefix):
            with suppress(ObjectMissing, ObjectFault):  # it went away, or is no file: no object
                yield _describe(root, path)
