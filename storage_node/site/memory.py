"""A site whose objects are in memory: the twin that passes the same tests as the others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from storage_node.site.protocol import ListedObject, ObjectMissing, SiteFull, SiteUnavailable, StoredObject

if TYPE_CHECKING:
    from cluster.nouns import Buffer, SiteIdentity


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class _Kept:
    content: bytes
    described: StoredObject


@dataclass(slots=True)
class MemoryObjects:
    """The objects of one site in memory.

    Parameters
    ----------
    name : str
    expected : SiteIdentity
        What `identity` says.
    now : callable
        Returns the time, aware.
    capacity_bytes : int, optional
        How much it holds, unfinished uploads included; as much as there is when not set.
    """

    name: str
    expected: SiteIdentity
    now: Callable[[], datetime] = _now
    capacity_bytes: int | None = None
    objects: dict[str, _Kept] = field(default_factory=dict)
    uploads: dict[int, MemoryUpload] = field(default_factory=dict)
    """Those that were begun, and neither completed nor aborted."""
    _begun: int = 0
    _puts: int = 0
    _closed: bool = False

    async def put(
        self, key: str, parts: Sequence[Buffer], *, digest: str, metadata: Mapping[str, str]
    ) -> None:
        """Keep an object (see `Objects.put`)."""
        del digest
        self._check()
        content = b"".join(parts)
        self.check_room(len(content))
        self.keep(key, content, metadata)

    def keep(self, key: str, content: bytes, metadata: Mapping[str, str]) -> None:
        """Put content at a key, in place of what stood there."""
        self._puts += 1
        self.objects[key] = _Kept(
            content, StoredObject(key, len(content), dict(metadata), str(self._puts), self.now())
        )

    async def upload(self, key: str, *, metadata: Mapping[str, str]) -> MemoryUpload:
        """Begin to write an object part by part (see `Objects.upload`)."""
        self._check()
        self._begun += 1
        upload = MemoryUpload(self, self._begun, key, dict(metadata), self.now())
        self.uploads[self._begun] = upload
        return upload

    async def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Return bytes of an object (see `Objects.get`)."""
        content = self._find(key).content
        return content[start:] if length is None else content[start : start + length]

    async def head(self, key: str) -> StoredObject:
        """Describe an object (see `Objects.head`)."""
        return self._find(key).described

    async def list(self, prefix: str = "") -> AsyncIterator[ListedObject]:
        """List the objects whose key begins with `prefix` (see `Objects.list`)."""
        self._check()
        for key in sorted(key for key in self.objects if key.startswith(prefix)):
            if (kept := self.objects.get(key)) is not None:
                yield ListedObject(key, kept.described.size_bytes, kept.described.modified_at)

    async def folders(self) -> AsyncIterator[str]:
        """Return the first part of all keys that have several (see `Objects.folders`)."""
        self._check()
        for folder in sorted({key[: key.index("/") + 1] for key in self.objects if "/" in key}):
            yield folder[:-1]

    async def delete(self, key: str, version_id: str) -> None:
        """Remove the very object that `head` described (see `Objects.delete`)."""
        self._check()
        kept = self.objects.get(key)
        if kept is not None and kept.described.version_id == version_id:
            del self.objects[key]

    async def sweep(self, older_than: datetime) -> int:
        """Forget uploads that nobody finished (see `Objects.sweep`)."""
        self._check()
        old = [upload for upload in self.uploads.values() if upload.begun_at < older_than]
        for upload in old:
            await upload.abort()
        return len(old)

    async def free_bytes(self) -> int | None:
        """Return how much more it holds (see `Objects.free_bytes`)."""
        self._check()
        return None if self.capacity_bytes is None else max(0, self.capacity_bytes - self._held_bytes())

    async def identity(self) -> SiteIdentity:
        """Say which site this is (see `Objects.identity`)."""
        self._check()
        return self.expected

    async def close(self) -> None:
        """Take no more calls."""
        self._closed = True

    def check_room(self, more_bytes: int) -> None:
        """Check that so many more bytes are within the capacity.

        Raises
        ------
        SiteFull
        """
        if self.capacity_bytes is not None and self._held_bytes() + more_bytes > self.capacity_bytes:
            raise SiteFull(self.name, f"it holds {self.capacity_bytes} bytes at most")

    def _held_bytes(self) -> int:
        kept = sum(kept.described.size_bytes for kept in self.objects.values())
        return kept + sum(upload.size_bytes for upload in self.uploads.values())

    def _find(self, key: str) -> _Kept:
        self._check()
        try:
            return self.objects[key]
        except KeyError:
            raise ObjectMissing(key) from None

    def _check(self) -> None:
        if self._closed:
            raise SiteUnavailable(self.name, "it was closed")


@dataclass(slots=True)
class MemoryUpload:
    """An object that is collected in memory until it is complete."""

    site: MemoryObjects
    number: int
    key: str
    metadata: Mapping[str, str]
    begun_at: datetime
    size_bytes: int = 0
    _parts: list[bytes] = field(default_factory=list)

    async def write(self, parts: Sequence[Buffer], *, digest: str | None = None) -> None:
        """Append the parts (see `Upload.write`)."""
        del digest
        self._check()
        part = b"".join(parts)
        self.site.check_room(len(part))
        self._parts.append(part)
        self.size_bytes += len(part)

    async def complete(self) -> None:
        """Make the object visible (see `Upload.complete`)."""
        self._check()
        self.site.keep(self.key, b"".join(self._parts), self.metadata)
        await self.abort()

    async def abort(self) -> None:
        """Leave nothing behind (see `Upload.abort`)."""
        self.site.uploads.pop(self.number, None)
        self._parts.clear()
        self.size_bytes = 0

    def _check(self) -> None:
        if self.number not in self.site.uploads:
            raise SiteUnavailable(self.site.name, "the upload has ended")
