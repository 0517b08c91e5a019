"""A site whose objects are in memory: the twin that passes the same tests as the others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from storage_node.site.protocol import ObjectMissing, SiteUnavailable, StoredObject

if TYPE_CHECKING:
    from cluster.nouns import Buffer, SiteIdentity


@dataclass(slots=True)
class _Kept:
    content: bytes
    described: StoredObject


@dataclass(slots=True)
class MemoryObjects:
    """The objects of one site in memory."""

    name: str
    expected: SiteIdentity
    objects: dict[str, _Kept] = field(default_factory=dict)
    _puts: int = 0
    _closed: bool = False

    async def put(
        self, key: str, parts: Sequence[Buffer], *, digest: str, metadata: Mapping[str, str]
    ) -> None:
        """Keep an object (see `Objects.put`)."""
        del digest
        self._check()
        self.keep(key, b"".join(parts), metadata)

    def keep(self, key: str, content: bytes, metadata: Mapping[str, str]) -> None:
        """Put content at a key, in place of what stood there."""
        self._puts += 1
        self.objects[key] = _Kept(
            content, StoredObject(key, len(content), dict(metadata), str(self._puts), datetime.now(UTC))
        )

    async def upload(self, key: str, *, metadata: Mapping[str, str]) -> MemoryUpload:
        """Begin to write an object part by part (see `Objects.upload`)."""
        self._check()
        return MemoryUpload(self, key, dict(metadata))

    async def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Return bytes of an object (see `Objects.get`)."""
        content = self._find(key).content
        return content[start:] if length is None else content[start : start + length]

    async def head(self, key: str) -> StoredObject:
        """Describe an object (see `Objects.head`)."""
        return self._find(key).described

    async def list(self, prefix: str = "") -> AsyncIterator[StoredObject]:
        """Describe the objects whose key begins with `prefix` (see `Objects.list`)."""
        self._check()
        for key in sorted(key for key in self.objects if key.startswith(prefix)):
            if (kept := self.objects.get(key)) is not None:
                yield kept.described

    async def delete(self, key: str, version_id: str) -> None:
        """Remove the very object that `head` described (see `Objects.delete`)."""
        self._check()
        kept = self.objects.get(key)
        if kept is not None and kept.described.version_id == version_id:
            del self.objects[key]

    async def identity(self) -> SiteIdentity:
        """Say which site this is (see `Objects.identity`)."""
        self._check()
        return self.expected

    async def close(self) -> None:
        """Take no more calls."""
        self._closed = True

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
    key: str
    metadata: Mapping[str, str]
    _parts: list[bytes] = field(default_factory=list)

    async def write(self, parts: Sequence[Buffer]) -> None:
        """Append the parts (see `Upload.write`)."""
        self._parts.extend(bytes(part) for part in parts)

    async def complete(self) -> None:
        """Make the object visible (see `Upload.complete`)."""
        self.site.keep(self.key, b"".join(self._parts), self.metadata)
        self._parts.clear()

    async def abort(self) -> None:
        """Leave nothing behind (see `Upload.abort`)."""
        self._parts.clear()
