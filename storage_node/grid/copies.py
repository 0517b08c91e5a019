"""A site's copies, read from its objects alone: what no catalogue is needed for (design, rule 4).

Of a version that was written whole that is its own object: the key has the digest, the first bytes the
header, the metadata the provenance. Of one that was streamed it is the manifest, and the header of the object
that this names. The bytes are not read to their end: whoever serves them checks them.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import structlog

from cluster.dicom import part10
from cluster.dicom.header import HeaderError
from cluster.nouns import Fact, Provenance
from storage_node.catalogue.protocol import Row
from storage_node.grid import keys, manifest
from storage_node.grid.description import Description
from storage_node.grid.sites import SiteFailed
from storage_node.site.protocol import ObjectFault, ObjectMissing

if TYPE_CHECKING:
    from datetime import datetime

    from cluster.nouns import Version
    from storage_node.grid.arrival import Arrival
    from storage_node.grid.sites import GridSite, Sites
    from storage_node.site.protocol import ListedObject, StoredObject

FIRST_BYTES: Final = 64 * 1024
"""What is read of an object first: few headers are longer."""
_MORE_BYTES: Final = 1024 * 1024

log = structlog.get_logger()


class Unreadable(Exception):
    """A copy that is not what its key says, or cannot be read; the site is well."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a listing shows of a copy: its object, or the manifest if it was streamed."""

    key: str
    size_bytes: int
    modified_at: datetime
    folder: str
    """What the keys of its instance's versions have in common (`keys.folder`)."""
    digest: str

    @classmethod
    def of(cls, listed: ListedObject) -> Found | None:
        """Return what a listed object is of; None if it is none of a version, or not what makes it a copy."""
        named = keys.version_in(listed.key)
        return None if named is None else cls(listed.key, listed.size_bytes, listed.modified_at, *named)

    @property
    def is_streamed(self) -> bool:
        """Whether it is the manifest of a version that was streamed."""
        return self.key.endswith(".json")


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy as its site would have it in its catalogue, but for its order."""

    row: Row
    has_provenance: bool = True
    """Whether it says who sent it; where not, the row has but the time when it was written."""


async def read(
    sites: Sites, site: GridSite, found: Found, *, header_limit_bytes: int, even_down: bool = False
) -> Copy:
    """Read what a catalogue keeps of a copy.

    Parameters
    ----------
    sites : Sites
    site : GridSite
    found : Found
    header_limit_bytes : int
        How much of the header a catalogue keeps.
    even_down : bool
        Whether to ask a site that is down, too: it may be so by its catalogue alone.

    Raises
    ------
    Unreadable
    SiteFailed
    """
    reading = _Reading(sites, site, header_limit_bytes, even_down)
    try:
        copy = await (reading.streamed(found) if found.is_streamed else reading.whole(found))
    except (ObjectMissing, ObjectFault, part10.NotPart10, HeaderError, ValueError) as error:
        raise Unreadable(f"{type(error).__name__}: {error}") from error
    except (SiteFailed, Unreadable):
        raise
    except Exception as error:  # one object that is odd as none was before must not keep the others away
        log.exception("copies.fault", site=site.name, key=found.key)
        raise Unreadable(repr(error)) from error
    if keys.folder(copy.row.version.instance) != found.folder:
        raise Unreadable("it is of another instance than its key says")
    return copy


async def fact(sites: Sites, site: GridSite, key: str, *, even_down: bool = False) -> Fact:
    """Read a fact's object.

    Raises
    ------
    Unreadable
        Also where it is another fact than its key says.
    SiteFailed
    """
    try:
        found = Fact.from_json(await sites.ask(site, site.objects.get(key), even_down=even_down))
    except (ObjectMissing, ObjectFault, ValueError) as error:
        raise Unreadable(f"{type(error).__name__}: {error}") from error
    if found.digest != keys.digest_in(key):
        raise Unreadable("it is another fact than its key says")
    return found


@dataclass(frozen=True, slots=True)
class _Reading:
    sites: Sites
    site: GridSite
    header_limit_bytes: int
    even_down: bool

    async def whole(self, found: Found) -> Copy:
        described = await self.sites.ask(
            self.site, self.site.objects.head(found.key), even_down=self.even_down
        )
        provenance = _provenance(described)
        has_provenance = provenance is not None
        provenance = provenance or Provenance(described.modified_at, "", "", "")
        size_bytes = described.size_bytes
        arrival = await self._arrival(found.key, size_bytes, provenance, digest=found.digest)
        version = arrival.version(digest=found.digest, key=found.key, size_bytes=size_bytes)
        return Copy(Row(version, provenance, arrival.header, arrival.flags), has_provenance)

    async def streamed(self, found: Found) -> Copy:
        content = await self._get(found.key, 0, None)
        version, provenance = manifest.decode(content)
        if version.digest != found.digest:
            raise Unreadable("it is of another version than its key says")
        described = await self.sites.ask(
            self.site, self.site.objects.head(version.key), even_down=self.even_down
        )
        if described.size_bytes != version.size_bytes:
            raise Unreadable(f"its object has {described.size_bytes} of {version.size_bytes} bytes")
        arrival = await self._arrival(version.key, version.size_bytes, provenance)
        _refuse_another(arrival, version)
        return Copy(Row(version, provenance, arrival.header, arrival.flags))

    async def _arrival(
        self, key: str, size_bytes: int, provenance: Provenance, *, digest: str | None = None
    ) -> Arrival:
        """Read an object's header, as it was when it arrived.

        Raises
        ------
        Unreadable, ObjectMissing, ObjectFault, NotPart10, HeaderError, SiteFailed
        """
        first = await self._get(key, 0, FIRST_BYTES)
        if digest is not None and len(first) == size_bytes and sha256(first).hexdigest() != digest:
            raise Unreadable("its bytes are not the version's")
        file = part10.split(first)
        if file.sop_class_uid is None:
            raise Unreadable("its File Meta Information has no SOP Class UID")
        description = Description(
            file.sop_class_uid, file.transfer_syntax_uid, header_limit_bytes=self.header_limit_bytes
        )
        header = description.header
        header.feed(memoryview(first)[file.data_set_offset :])
        at = len(first)
        while not header.complete and (more := await self._get(key, at, _MORE_BYTES)):
            header.feed(more)
            at += len(more)
        if not header.complete or at == size_bytes:
            header.close()
        if description.instance is None:
            raise Unreadable("its data set has no identity")
        ends_bytes = header.pixel_data_end_bytes
        if ends_bytes is not None and file.data_set_offset + ends_bytes > size_bytes:
            raise Unreadable(f"it has {size_bytes} bytes, and its pixel data goes on after them")
        arrival = description.arrival(provenance, data_set_offset_bytes=file.data_set_offset)
        with suppress(HeaderError):  # the rest is not read: it lets go of what it holds
            header.close()
        return arrival

    async def _get(self, key: str, start: int, length: int | None) -> bytes:
        getting = self.site.objects.get(key, start, length)
        return await self.sites.ask(self.site, getting, even_down=self.even_down)


def _provenance(described: StoredObject) -> Provenance | None:
    try:
        provenance = Provenance.from_metadata(dict(described.metadata))
    except (KeyError, ValueError):
        return None
    return provenance if provenance.received_at.tzinfo is not None else None


def _refuse_another(arrival: Arrival, version: Version) -> None:
    told = (arrival.instance, arrival.sop_class_uid, arrival.transfer_syntax_uid)
    if told != (version.instance, version.sop_class_uid, version.transfer_syntax_uid):
        raise Unreadable("its object is of another instance than its manifest says")
