"""A site that fails on purpose: it stands before another, and does to each call what a script says."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from storage_node.site.protocol import (
    ListedObject,
    ObjectFault,
    Objects,
    SiteFull,
    SiteUnavailable,
    StoredObject,
    Upload,
)

if TYPE_CHECKING:
    from cluster.nouns import Buffer, SiteIdentity

T = TypeVar("T")


class Fault(enum.Enum):
    """What is done to a call."""

    BEFORE = "fails, and does nothing"
    AFTER = "does what was asked, and fails: the answer is lost"
    HANG = "does nothing until `release`, then what was asked"
    OBJECT = "says that this one object is at fault"
    FULL = "says that there is no room, and does nothing"
    CORRUPT = "returns other bytes than are stored"


@dataclass(frozen=True, slots=True)
class Call:
    """One call: the method (`put`, `upload`, `write`, `complete`, `get`, …) and the key, if it has one."""

    method: str
    key: str
    number: int
    """How many calls of this method came before."""


Script = Callable[[Call], Fault | None]


def well(_: Call) -> Fault | None:
    """Let everything through."""
    return None


@dataclass(slots=True)
class FailingObjects:
    """Another site's objects, with faults.

    `script` may be replaced at any time; `hanging` is set once a call hangs, and `release` lets all go on.
    """

    objects: Objects
    script: Script = well
    calls: list[Call] = field(default_factory=list)
    hanging: asyncio.Event = field(default_factory=asyncio.Event)
    _released: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def name(self) -> str:
        """Name of the site."""
        return self.objects.name

    def release(self) -> None:
        """Let the calls that hang go on, and hang no more."""
        self._released.set()

    async def put(
        self, key: str, parts: Sequence[Buffer], *, digest: str, metadata: Mapping[str, str]
    ) -> None:
        """Write an object, or not (see `Objects.put`)."""
        await self.within("put", key, lambda: self.objects.put(key, parts, digest=digest, metadata=metadata))

    async def upload(self, key: str, *, metadata: Mapping[str, str]) -> Upload:
        """Begin to write an object, or not (see `Objects.upload`)."""
        upload = await self.within("upload", key, lambda: self.objects.upload(key, metadata=metadata))
        return FailingUpload(self, key, upload)

    async def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Return bytes of an object, or others (see `Objects.get`)."""
        return await self.within("get", key, lambda: self.objects.get(key, start, length), corrupt=_corrupt)

    async def head(self, key: str) -> StoredObject:
        """Describe an object, or not (see `Objects.head`)."""
        return await self.within("head", key, lambda: self.objects.head(key))

    async def list(self, prefix: str = "") -> AsyncIterator[ListedObject]:
        """List objects, or fail before the first (see `Objects.list`)."""
        await self.within("list", prefix, _nothing)
        async for listed in self.objects.list(prefix):
            yield listed

    async def folders(self) -> AsyncIterator[str]:
        """Return the first parts of keys, or fail before the first (see `Objects.folders`)."""
        await self.within("folders", "", _nothing)
        async for folder in self.objects.folders():
            yield folder

    async def delete(self, key: str, version_id: str) -> None:
        """Remove an object, or not (see `Objects.delete`)."""
        await self.within("delete", key, lambda: self.objects.delete(key, version_id))

    async def sweep(self, older_than: datetime) -> int:
        """Remove uploads that nobody finished, or not (see `Objects.sweep`)."""
        return await self.within("sweep", "", lambda: self.objects.sweep(older_than))

    async def free_bytes(self) -> int | None:
        """Return the room that is left, or fail (see `Objects.free_bytes`)."""
        return await self.within("free_bytes", "", self.objects.free_bytes)

    async def identity(self) -> SiteIdentity:
        """Say which site this is, or not (see `Objects.identity`)."""
        return await self.within("identity", "", self.objects.identity)

    async def close(self) -> None:
        """Close the other."""
        await self.objects.close()

    async def within(
        self,
        method: str,
        key: str,
        work: Callable[[], Awaitable[T]],
        *,
        corrupt: Callable[[T], T] | None = None,
    ) -> T:
        """Do to one call what the script says."""
        call = Call(method, key, sum(before.method == method for before in self.calls))
        self.calls.append(call)
        match self.script(call):
            case Fault.BEFORE:
                raise SiteUnavailable(self.name, f"{method} fails on purpose")
            case Fault.AFTER:
                await work()
                raise SiteUnavailable(self.name, f"the answer to {method} is lost on purpose")
            case Fault.OBJECT:
                raise ObjectFault(f"{method} of {key} fails on purpose")
            case Fault.FULL:
                raise SiteFull(self.name, "it is full on purpose")
            case Fault.HANG:
                self.hanging.set()
                await self._released.wait()
                return await work()
            case Fault.CORRUPT if corrupt is not None:
                return corrupt(await work())
            case _:
                return await work()


@dataclass(slots=True)
class FailingUpload:
    """Another upload, with the faults of its site."""

    site: FailingObjects
    key: str
    upload: Upload

    async def write(self, parts: Sequence[Buffer], *, digest: str | None = None) -> None:
        """Append the parts, or not (see `Upload.write`)."""
        await self.site.within("write", self.key, lambda: self.upload.write(parts, digest=digest))

    async def complete(self) -> None:
        """Make the object visible, or not (see `Upload.complete`)."""
        await self.site.within("complete", self.key, self.upload.complete)

    async def abort(self) -> None:
        """Leave nothing behind (see `Upload.abort`)."""
        await self.upload.abort()


async def _nothing() -> None:
    return None


def _corrupt(content: bytes) -> bytes:
    return bytes([content[0] ^ 0xFF]) + content[1:] if content else b"\0"
