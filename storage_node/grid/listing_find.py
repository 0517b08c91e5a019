"""Which versions a retrieval asks for where no catalogue answers: found out from the sites' objects alone.

The keys say which versions a study has (`keys`), the objects under `_facts/` what is hidden of them. All
sites are asked: with R answers nothing acknowledged is missing. What the objects do not say is the order of
several versions of one instance: the one that was received last is taken for the current one. A fact that is
listed and that no site gives withholds whatever it may be about: nothing that was deleted shows.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Final, TypeVar

import structlog
from prometheus_client import Counter

from storage_node.catalogue.attributes import (
    SERIES_INSTANCE_UID,
    SOP_INSTANCE_UID,
    STUDY_INSTANCE_UID,
    described,
)
from storage_node.catalogue.matching import OneOf, matches
from storage_node.catalogue.views import is_hidden, precedence
from storage_node.grid import copies, keys
from storage_node.grid.copies import Found, Unreadable
from storage_node.grid.paged import asked
from storage_node.grid.sites import SiteFailed

if TYPE_CHECKING:
    from cluster.nouns import Fact, Instance, Version
    from storage_node.catalogue.matching import Query
    from storage_node.catalogue.protocol import Row
    from storage_node.grid.quorum import Quorum
    from storage_node.grid.sites import GridSite, Sites

T = TypeVar("T")

READS_AT_ONCE: Final = 32
_TASKS: Final = 1024
"""Instances or facts that are waited for at once: most of them wait for their turn."""

_LISTED: Final = Counter(
    "atria_listing_finds_total", "Retrievals that were answered from the objects alone, without a catalogue"
)

log = structlog.get_logger()


class NotListed(Exception):
    """The query names no study whose objects could be listed, or no site lists any."""


class TooMany(Exception):
    """There are more instances than the limit."""


@dataclass(frozen=True, slots=True)
class Listed:
    """What the objects say."""

    versions: tuple[Version, ...]
    """The current one of each instance, in the order of the UIDs."""
    complete: bool
    """Whether so many sites answered, and all that they list could be read, that nothing is missing."""


@dataclass(slots=True)
class _Objects:
    """What one site, or all together, list."""

    copies: dict[str, dict[str, list[tuple[GridSite, Found]]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    """Of each instance, by its folder, each version's copies, by its digest."""
    facts: dict[str, list[tuple[GridSite, str]]] = field(default_factory=lambda: defaultdict(list))
    """The keys of each fact, by its digest."""

    def merge(self, other: _Objects) -> None:
        """Add what another site lists."""
        for folder, versions in other.copies.items():
            for digest, places in versions.items():
                self.copies[folder][digest] += places
        for digest, at in other.facts.items():
            self.facts[digest] += at


@dataclass(slots=True)
class _Hidden:
    """What is not to be shown."""

    facts: dict[Instance, list[Fact]] = field(default_factory=lambda: defaultdict(list))
    withheld: set[str] = field(default_factory=set)
    """What the keys begin with of that which is meant by facts that no site gives."""

    def hides(self, instance: Instance) -> bool:
        """Return whether an instance is in no answer."""
        folder = f"{keys.folder(instance)}/"
        withheld = any(folder.startswith(prefix) for prefix in self.withheld)
        return withheld or is_hidden(self.facts.get(instance, ()))


class ListingFind:
    """Finds the instances of studies in the sites' objects.

    Parameters
    ----------
    sites : Sites
    quorum : Quorum
    header_limit_bytes : int
        How much of a header is looked at for what the query asks besides UIDs.
    """

    def __init__(self, sites: Sites, quorum: Quorum, *, header_limit_bytes: int) -> None:
        self._sites = sites
        self._quorum = quorum
        self._header_limit_bytes = header_limit_bytes
        self._turns = asyncio.Semaphore(READS_AT_ONCE)

    async def find(self, query: Query, limit: int) -> Listed:
        """Return the current version of each instance that a query at IMAGE level matches.

        Raises
        ------
        NotListed
        TooMany
        """
        if not _named(query, STUDY_INSTANCE_UID):
            raise NotListed("the query names no study")
        _LISTED.inc()
        objects = _Objects()
        answers = await asyncio.gather(
            *(self._list(site, query, limit, objects) for site in self._sites.by_health())
        )
        answered = [site for site in answers if site is not None]
        if not answered:
            raise NotListed("no site lists its objects")
        if len(objects.copies) > limit:
            raise TooMany
        hidden = await self._facts(objects)
        versions: list[Version] = []
        unreadable = 0
        for folders in _parts(sorted(objects.copies)):
            for rows in await asyncio.gather(*(self._rows(objects.copies[folder]) for folder in folders)):
                read = [row for row in rows if row is not None]
                unreadable += len(rows) - len(read)
                current = max(read, key=_received, default=None)
                if current is not None and _answers(current, query, hidden):
                    versions.append(current.version)
        versions.sort(key=lambda version: version.instance)
        voters = [site for site in answered if not site.membership.filling]
        log.warning(
            "find.by_listing",
            instances=len(versions),
            unreadable=unreadable,
            sites=[site.name for site in answered],
        )
        return Listed(tuple(versions), complete=not unreadable and len(voters) >= self._quorum.read)

    async def _list(self, site: GridSite, query: Query, limit: int, objects: _Objects) -> GridSite | None:
        """List what a site has of the studies; return the site if it went to the end, or past the limit."""

        async def list_all() -> _Objects:
            listed = _Objects()
            await self._list_copies(site, query, limit, listed)
            for uid in _named(query, STUDY_INSTANCE_UID):
                prefix = f"{keys.FACTS}/{keys.study_folder(uid)}/"
                async for one in asked(self._sites, site, site.objects.list(prefix), even_down=True):
                    listed.facts[keys.digest_in(one.key)].append((site, one.key))
            return listed

        try:
            objects.merge(await self._even_if_cut_off(site, list_all))
        except SiteFailed as error:
            log.warning("find.not_listed", site=site.name, reason=error.reason)
            return None
        return site

    async def _even_if_cut_off(self, site: GridSite, call: Callable[[], Awaitable[T]]) -> T:
        """Call again if the site was found down meanwhile: all calls at it have failed then.

        Its catalogue may be all that is gone. To one that is known to be down, nothing more happens.
        """
        was_up = self._sites.is_up(site)
        try:
            return await call()
        except SiteFailed:
            if not was_up:
                raise
            return await call()

    async def _list_copies(self, site: GridSite, query: Query, limit: int, listed: _Objects) -> None:
        names = {keys.file_name(uid) for uid in _named(query, SOP_INSTANCE_UID)}
        for prefix in _prefixes(query):
            async with aclosing(
                asked(self._sites, site, site.objects.list(prefix), even_down=True)
            ) as objects:
                async for one in objects:
                    found = Found.of(one)
                    if found is None or (names and found.folder.rpartition("/")[2] not in names):
                        continue
                    listed.copies[found.folder][found.digest].append((site, found))
                    if len(listed.copies) > limit:
                        return

    async def _facts(self, objects: _Objects) -> _Hidden:
        """Read the facts."""
        hidden = _Hidden()
        for digests in _parts(list(objects.facts)):
            read = await asyncio.gather(*(self._fact(objects.facts[digest]) for digest in digests))
            for digest, fact in zip(digests, read, strict=True):
                if fact is not None:
                    hidden.facts[fact.instance].append(fact)
                else:
                    hidden.withheld |= {_below_facts(key) for _, key in objects.facts[digest]}
        return hidden

    async def _fact(self, places: Sequence[tuple[GridSite, str]]) -> Fact | None:
        for site, key in places:
            call = partial(copies.fact, self._sites, site, key, even_down=True)
            try:
                async with self._turns:
                    return await self._even_if_cut_off(site, call)
            except (Unreadable, SiteFailed) as error:
                log.warning("find.fact_unreadable", site=site.name, key=key, reason=str(error))
        return None

    async def _rows(self, versions: Mapping[str, Sequence[tuple[GridSite, Found]]]) -> list[Row | None]:
        """Read an instance's versions; None for each that no site gives."""
        return [await self._row(places) for places in versions.values()]

    async def _row(self, places: Sequence[tuple[GridSite, Found]]) -> Row | None:
        """Read a version at the first site that gives it."""
        limit_bytes = self._header_limit_bytes
        for site, found in places:
            call = partial(
                copies.read, self._sites, site, found, header_limit_bytes=limit_bytes, even_down=True
            )
            try:
                async with self._turns:
                    copy = await self._even_if_cut_off(site, call)
            except (Unreadable, SiteFailed) as error:
                log.warning("find.copy_unreadable", site=site.name, key=found.key, reason=str(error))
            else:
                return copy.row
        return None


def _received(row: Row) -> str:
    """Return what is the greatest of the version that was received last."""
    return precedence(row.provenance, row.version.digest)


def _named(query: Query, tag: int) -> tuple[str, ...]:
    """Return the values that a query wants an attribute to have."""
    return tuple(
        value
        for key in query.keys
        if isinstance(key, OneOf) and key.attribute.tag == tag
        for value in key.values
    )


def _prefixes(query: Query) -> list[str]:
    """Return what the keys of the objects begin with that a query can match."""
    studies = map(keys.study_folder, _named(query, STUDY_INSTANCE_UID))
    series = [f"{keys.file_name(uid)}/" for uid in _named(query, SERIES_INSTANCE_UID)] or [""]
    return [f"{study}/{below}" for study, below in product(studies, series)]


def _below_facts(key: str) -> str:
    """Return the part of a fact's key that it has in common with the keys of what it is about."""
    return key.removeprefix(f"{keys.FACTS}/").rpartition("/")[0] + "/"


def _answers(row: Row, query: Query, hidden: _Hidden) -> bool:
    """Return whether a version is to be in the answer."""
    instance = row.version.instance
    if hidden.hides(instance):
        return False
    stored = {
        **described(row.header),
        "study_instance_uid": instance.study_instance_uid,
        "series_instance_uid": instance.series_instance_uid,
        "sop_instance_uid": instance.sop_instance_uid,
        "sop_class_uid": row.version.sop_class_uid,
    }
    return all(matches(key, stored[key.attribute.column]) for key in query.keys)


def _parts(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield items, so many at a time that each may be waited for by a task of its own."""
    for begin in range(0, len(items), _TASKS):
        yield items[begin : begin + _TASKS]
