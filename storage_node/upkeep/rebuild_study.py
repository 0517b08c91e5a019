"""One study of a site whose catalogue is made anew: its objects, and what catalogues know of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import structlog

from cluster.nouns import Provenance
from storage_node.grid import copies, keys
from storage_node.grid.copies import Copy, Found, Unreadable
from storage_node.grid.paged import asked
from storage_node.grid.sites import SiteFailed

if TYPE_CHECKING:
    from datetime import datetime

    from cluster.nouns import Instance
    from storage_node.catalogue.protocol import Entry
    from storage_node.grid.sites import GridSite, Sites

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Known:
    """What other catalogues know of a version."""

    instance: Instance
    order: int
    """The highest that a site with a vote has; 0 where none has it."""
    size_bytes: int
    provenance: Provenance
    """The earliest."""
    flags: tuple[str, ...]
    """What was odd about it, behind its header, too."""


class Study:
    """One folder of a site's objects.

    Parameters
    ----------
    sites : Sites
    site : GridSite
    folder : str
        As `Objects.folders` has it.
    header_limit_bytes : int
        How much of a header a catalogue keeps.
    """

    def __init__(self, sites: Sites, site: GridSite, folder: str, header_limit_bytes: int) -> None:
        self.site = site
        self.instances: Sequence[Sequence[Found]] = ()
        """The copies of each instance."""
        self._sites = sites
        self._folder = folder
        self._header_limit_bytes = header_limit_bytes
        self._rows: frozenset[str] = frozenset()
        self._known: Mapping[tuple[str, str], Known] = {}

    async def look(self, not_read: set[str]) -> None:
        """List the objects, and ask all catalogues what they know of the study.

        Parameters
        ----------
        not_read : set of str
            Is told of other sites whose catalogue cannot be asked.

        Raises
        ------
        SiteFailed
            The site itself does not go on.
        """
        by_instance: dict[str, list[Found]] = defaultdict(list)
        async for listed in asked(self._sites, self.site, self.site.objects.list(f"{self._folder}/")):
            if (found := Found.of(listed)) is not None:
                by_instance[found.folder].append(found)
        self.instances = list(by_instance.values())
        uid = keys.study_of(self._folder) or await self._read_uid()
        if uid is None:
            return
        walk = asked(self._sites, self.site, self.site.catalogue.walk(uid))
        self._rows = frozenset([_place(entry) async for entry in walk])
        self._known = await self._ask_others(uid, not_read)

    def has_row(self, found: Found) -> bool:
        """Return whether the site's catalogue names the copy already."""
        return _stem(found) in self._rows

    def elsewhere(self, found: Found) -> Known | None:
        """Return what other catalogues know of a copy's version."""
        return self._known.get((found.folder, found.digest))

    async def read(self, found: Found) -> Copy:
        """Read a copy, and add what others know of it; its order is 0 where none does.

        Raises
        ------
        Unreadable, SiteFailed
        """
        copy = await copies.read(self._sites, self.site, found, header_limit_bytes=self._header_limit_bytes)
        known = self.elsewhere(found)
        if known is None:
            return copy
        if copy.row.version.size_bytes != known.size_bytes:
            raise Unreadable(f"it has {copy.row.version.size_bytes} of {known.size_bytes} bytes")
        own = copy.row
        flags = (*known.flags, *(flag for flag in own.flags if flag not in known.flags))
        provenance = own.provenance if copy.has_provenance else known.provenance
        return replace(copy, row=replace(own, order=known.order, flags=flags, provenance=provenance))

    async def _read_uid(self) -> str | None:
        """Return the study that a folder of a cut name is of, by the first of its copies that can be read."""
        for found in (one for instance in self.instances for one in instance):
            try:
                copy = await copies.read(
                    self._sites, self.site, found, header_limit_bytes=self._header_limit_bytes
                )
            except Unreadable:
                continue
            return copy.row.version.instance.study_instance_uid
        return None

    async def _ask_others(self, uid: str, not_read: set[str]) -> dict[tuple[str, str], Known]:
        known: dict[tuple[str, str], Known] = {}
        for other in self._sites.up():
            if other.name == self.site.name:
                continue
            try:
                entries = [entry async for entry in asked(self._sites, other, other.catalogue.walk(uid))]
            except SiteFailed as error:
                log.warning("rebuild.not_asked", site=other.name, reason=error.reason)
                not_read.add(other.name)
                continue
            for entry in entries:
                place = keys.folder(entry.instance), entry.digest
                known[place] = _merged(known.get(place), entry, votes=not other.membership.filling)
        return known


def _merged(known: Known | None, entry: Entry, *, votes: bool) -> Known:
    """Return what is known with what another catalogue says.

    One that lost its state, too, may have decided the order anew, without versions that its site lacks.
    """
    order, provenance = entry.order if votes else 0, entry.provenance
    if known is not None:
        order, provenance = max(order, known.order), Provenance.merge(provenance, known.provenance)
    return Known(entry.instance, order, entry.size_bytes, provenance, entry.flags)


def ordered(read: Iterable[tuple[Found, Copy]]) -> list[tuple[Found, Copy]]:
    """Return copies in the order in which their rows are to be added.

    Those whose order is known come first, so that the others come after them; these by when they were
    received, and then by digest.
    """

    def place(one: tuple[Found, Copy]) -> tuple[bool, int, datetime, str]:
        row = one[1].row
        return not row.order, row.order, row.provenance.received_at, row.version.digest

    return sorted(read, key=place)


def _place(entry: Entry) -> str:
    """Return what the site's copy is known by: its key, or the beginning of its manifests' keys."""
    return f"{keys.folder(entry.instance)}/{entry.digest}" if entry.is_streamed else entry.key


def _stem(found: Found) -> str:
    return f"{found.folder}/{found.digest}" if found.is_streamed else found.key
