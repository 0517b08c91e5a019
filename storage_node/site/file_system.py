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
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeVar

from storage_node.site import file_read, file_write
from storage_node.site import root as site_root
from storage_node.site.protocol import ListedObject, ObjectFault, SiteFull, SiteUnavailable, StoredObject
from storage_node.site.root import ABANDONED_AFTER_S, Root
from storage_node.site.threads import Threads

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from cluster.nouns import Buffer, SiteIdentity
    from storage_node.site.direct_file import DirectFile

T = TypeVar("T")

THREADS: Final = 8
"""Calls that one site's disk works on at once, in one process."""
QUEUE_LIMIT: Final = 256
"""Calls that wait for a thread."""
_LISTED_AT_ONCE: Final = 256

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
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


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

    @staticmethod
    def held(folder: Path) -> SiteIdentity | None:
        """Return whose a folder is: see `storage_node.site.root.held`."""
        return site_root.held(folder)

    @staticmethod
    def renew(folder: Path, identity: SiteIdentity) -> None:
        """Give a site another generation: see `storage_node.site.root.renew`."""
        site_root.renew(folder, identity)

    @property
    def name(self) -> str:
        """Name of the site."""
        return self._name

    async def put(
        self, key: str, parts: Sequence[Buffer], *, digest: str, metadata: Mapping[str, str]
    ) -> None:
        """Write an object (see `Objects.put`); the digest is not needed, no network is between."""
        del digest
        await self._within(lambda root: file_write.put(root, key, parts, metadata))

    async def upload(self, key: str, *, metadata: Mapping[str, str]) -> FileUpload:
        """Begin to write an object of a size that is not known yet (see `Objects.upload`)."""
        return await self._within(lambda root: FileUpload(self, root, key, metadata))

    async def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Return bytes of an object (see `Objects.get`)."""
        return await self._within(lambda root: file_read.read(root, key, start, length))

    async def head(self, key: str) -> StoredObject:
        """Describe an object (see `Objects.head`)."""
        return await self._within(lambda root: file_read.describe(root, key))

    async def list(self, prefix: str = "") -> AsyncIterator[ListedObject]:
        """List the objects whose key begins with `prefix` (see `Objects.list`)."""
        root = await self.run(self._open)
        walk = file_read.walk(root, "", prefix)

        def some() -> list[ListedObject]:
            found = list(islice(walk, _LISTED_AT_ONCE))
            root.check()
            return found

        while found := await self.run(some):
            for listed in found:
                yield listed

    async def folders(self) -> AsyncIterator[str]:
        """Return the first part of all keys that have several (see `Objects.folders`)."""
        for folder in await self._within(file_read.folders):
            yield folder

    async def delete(self, key: str, version_id: str) -> None:
        """Remove the very object that `head` described (see `Objects.delete`)."""
        await self._within(lambda root: file_write.delete(root, key, version_id))

    async def sweep(self, older_than: datetime) -> int:
        """Remove files that were begun, and not written to since (see `Objects.sweep`)."""
        return await self._within(lambda root: root.sweep(older_than.timestamp()))

    async def free_bytes(self) -> int | None:
        """Return the room that the file system has left for us (see `Objects.free_bytes`)."""
        return await self._within(Root.free_bytes)

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
                if error.errno in _NO_ROOM:
                    raise SiteFull(self._name, reason) from error
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
        root.sweep(time.time() - ABANDONED_AFTER_S)
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

    async def write(self, parts: Sequence[Buffer], *, digest: str | None = None) -> None:
        """Append the parts (see `Upload.write`)."""
        del digest
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
                file_write.publish(self._root, self._key, self._file, self._metadata)
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
