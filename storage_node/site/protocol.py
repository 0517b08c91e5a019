"""One site's objects: what the grid asks of a file system, of memory, and of one that fails on purpose.

The words are S3's. A key is a relative path of `/`-separated parts that are safe as file names (see
`storage_node.grid.keys`); an implementation need not look at it further.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from cluster.nouns import Buffer, SiteIdentity


class SiteUnavailable(Exception):
    """The site as a whole did not do what was asked: it is gone, full, swapped, or does not answer.

    What was asked may have happened all the same.
    """

    def __init__(self, site: str, reason: str) -> None:
        super().__init__(f"site {site}: {reason}")
        self.site = site
        self.reason = reason


class SiteFull(SiteUnavailable):
    """The site has no room: nothing can be written there, everything can be read."""


class ObjectMissing(Exception):
    """The site answers, and holds no object of that key."""


class ObjectFault(Exception):
    """The site answers, and cannot read or write that one object: a fault of the copy, not of the site."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What a site says of an object without reading it."""

    key: str
    size_bytes: int
    metadata: Mapping[str, str]
    version_id: str
    """Names exactly what was looked at: after another PUT to the key it names nothing (design, rule 7)."""
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class ListedObject:
    """What a listing says of an object: less than `head` does, at a thousandth of the cost."""

    key: str
    size_bytes: int
    modified_at: datetime


class Upload(Protocol):
    """An object that is written part by part, and is not there until it is completed."""

    async def write(self, parts: Sequence[Buffer], *, digest: str | None = None) -> None:
        """Append the parts. One call at a time; the parts are not changed, nor kept after it.

        Parameters
        ----------
        parts : sequence of bytes-like
        digest : str, optional
            SHA-256 of these parts, where the caller has it: a store that wants it need not take it again.

        Raises
        ------
        SiteUnavailable
            `SiteFull` when there is no room for it.
        ObjectFault
            This key cannot be written.
        """

    async def complete(self) -> None:
        """Make the object durable, then visible. When it returns, a power cut takes nothing away.

        Raises
        ------
        SiteUnavailable
            It may be there all the same. `SiteFull` when there is no room for it.
        ObjectFault
            This key cannot be written.
        """

    async def abort(self) -> None:
        """Leave nothing behind. Never raises for a site that is gone; harmless after `complete`."""


class Objects(Protocol):
    """One site's objects."""

    @property
    def name(self) -> str:
        """Name of the site."""

    async def put(
        self, key: str, parts: Sequence[Buffer], *, digest: str, metadata: Mapping[str, str]
    ) -> None:
        """Write an object, unconditionally: what stood at the key is replaced (design, rule 6).

        When it returns, object and metadata are durable and visible; until then neither is visible,
        and what stood there before still is.

        Parameters
        ----------
        key : str
        parts : sequence of bytes-like
            The object's bytes, in order. They are not changed, nor kept after the call.
        digest : str
            SHA-256 of the bytes, for stores that check it on arrival.
        metadata : mapping of str to str
            ASCII user metadata.

        Raises
        ------
        SiteUnavailable
            It may have been written all the same. `SiteFull` when there is no room for it.
        ObjectFault
            This key cannot be written, though the site may be well: another key may do.
        """

    async def upload(self, key: str, *, metadata: Mapping[str, str]) -> Upload:
        """Begin to write an object whose size and digest are not known yet.

        Raises
        ------
        SiteUnavailable
        ObjectFault
            This key cannot be written.
        """

    async def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Return `length` bytes of an object from `start` on, or all there are; fewer at its end.

        The digest is not checked here: who reads for others checks (`storage_node.grid.read`).

        Raises
        ------
        ObjectMissing, ObjectFault, SiteUnavailable
        """

    async def head(self, key: str) -> StoredObject:
        """Describe an object.

        Raises
        ------
        ObjectMissing, ObjectFault, SiteUnavailable
        """

    def list(self, prefix: str = "") -> AsyncIterator[ListedObject]:
        """List all visible objects whose key begins with `prefix`, ordered by key (as UTF-8 bytes).

        What is put or deleted meanwhile may be missed or shown.

        Raises
        ------
        SiteUnavailable
        """

    def folders(self) -> AsyncIterator[str]:
        """Return the first part of all keys that have several, each once, in the order of the keys.

        That is the order of the names with a `/` after them. One that holds nothing any more may be shown.

        Raises
        ------
        SiteUnavailable
        """

    async def delete(self, key: str, version_id: str) -> None:
        """Remove the object that `head` described, and no other: no error if it is there no more.

        What it had replaced does not show again.

        Raises
        ------
        ObjectFault
            It cannot be removed: it is damaged, or the store holds it under a lock.
        SiteUnavailable
        """

    async def sweep(self, older_than: datetime) -> int:
        """Remove uploads that began before and were never finished; return how many.

        One that is still being written may be spared. What a store does not list, it expires by itself.

        Raises
        ------
        SiteUnavailable
        """

    async def free_bytes(self) -> int | None:
        """Return the room that is left, or None where the store does not tell.

        Raises
        ------
        SiteUnavailable
        """

    async def identity(self) -> SiteIdentity:
        """Read which site this is: a light probe, too.

        Raises
        ------
        SiteUnavailable
            Also when the identity is missing or another than it was when the site was opened.
        """

    async def close(self) -> None:
        """Let go of handles and threads."""
