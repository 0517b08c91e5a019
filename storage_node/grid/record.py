"""What is written by a plan, a version or a fact, and how each of its steps is done at one site.

All that a plan asks for may be done twice, and may have been done though it failed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

import structlog

from cluster.nouns import Debt
from storage_node.grid import keys
from storage_node.grid.sites import SiteFailed
from storage_node.site.protocol import ObjectFault, ObjectMissing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from cluster.nouns import Buffer, Fact
    from storage_node.catalogue.protocol import Row
    from storage_node.grid.sites import GridSite, Sites

log = structlog.get_logger()

Put: TypeAlias = Callable[["GridSite"], Awaitable[str]]
"""Makes a version's object durable at one site and returns its key; raises `SiteFailed` or `ObjectFault`."""

FRESH_S: Final = 1800.0
"""How long ago an object may have been put when its row is confirmed. One without a row is collected at an
age of `Upkeep.orphan_grace_h`, an hour at least: a process that stood still for so long may have lost it.

So long may a decision take, too: what was purged is not removed before (`storage_node.upkeep.collection`)."""


class Record(Protocol):
    """Something of which there is an object, and then a row, at each site."""

    @property
    def digest(self) -> str:
        """What names it in keys, debts and log lines."""

    def debt(self, site: str) -> Debt:
        """Return the note that a site is owed it."""

    async def put(self, site: GridSite) -> None:
        """Make its object durable at a site.

        Raises
        ------
        SiteFailed, ObjectFault
        """

    async def add(self, site: GridSite, order: int, debts: Sequence[Debt]) -> int:
        """Make its row durable at a site, and debts with it; return the order that the row has there.

        Raises
        ------
        SiteFailed
        """

    async def settle(self, debtor: str, at: GridSite, order: int) -> None:
        """Have a site forget that another, the debtor, is owed it.

        Raises
        ------
        SiteFailed
        """


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """A version: its object goes to a site as `put_object` has it, its row to the catalogue."""

    sites: Sites
    row: Row
    put_object: Put
    now: Callable[[], datetime]
    met: dict[str, Sequence[Fact]] = field(default_factory=dict)
    """The facts that the row met, at each site that has confirmed it; or that one said which was asked."""
    again_at: datetime | None = None
    """When the row is added once more, of which there was one whose copy had gone; None if it is not."""
    _put: dict[str, tuple[str, datetime]] = field(default_factory=dict)
    """Where the object is, and when it was put there, at each site that has it."""

    @property
    def digest(self) -> str:
        """The version's."""
        return self.row.version.digest

    def debt(self, site: str) -> Debt:
        """Return the note that a site is owed the version."""
        return Debt(site, self.row.version.instance, self.row.version.digest)

    @property
    def put_since(self) -> datetime:
        """When the first of the objects was put."""
        return min(put_at for _, put_at in self._put.values())

    def above(self, order: int) -> VersionRecord:
        """Return the same, whose objects are put already, and whose row is to have this order at least."""
        return replace(self, row=replace(self.row, order=order))

    def again(self, order: int) -> VersionRecord:
        """Return the same, whose row names the copy that was put now, whatever copy it had named."""
        return replace(self.above(order), again_at=self.now())

    def has_put(self, site: GridSite) -> bool:
        """Return whether the object is at a site."""
        return site.name in self._put

    async def put(self, site: GridSite) -> None:
        """Put the object, if it is not there (see `Record.put`)."""
        if not self.has_put(site):
            self._put[site.name] = await self.put_object(site), self.now()

    async def add(self, site: GridSite, order: int, debts: Sequence[Debt]) -> int:
        """Add the row; it names the copy that was put just now, or one verified since (see `Record.add`).

        Where there had been none, none was verified: it was only looked for. The row must name ours then.
        """
        key, put_at = self._put[site.name]
        check_fresh(site, put_at, self.now())
        version = replace(self.row.version, key=key)
        row = replace(self.row, version=version, order=max(order, self.row.order))
        verified_at = self.again_at or put_at
        met = await self.sites.ask(site, site.catalogue.add(row, debts, verified_at=verified_at))
        check_fresh(site, put_at, self.now())
        if self.again_at is not None and met.key != key:
            raise SiteFailed(site.name, f"its row names {met.key}, looked for later than we put ours")
        self.met[site.name] = met.facts
        return met.order

    async def settle(self, debtor: str, at: GridSite, order: int) -> None:
        """Remove the debt, unless the row there says more than the one that the debtor has."""
        await self.sites.ask(at, at.catalogue.settle(debtor, replace(self.row, order=order)))


@dataclass(frozen=True, slots=True)
class FactRecord:
    """A fact: an object under `_facts/`, and a row. It has no order: the epoch is its own."""

    sites: Sites
    fact: Fact
    name: str
    """Random, for a key beside its own."""
    since: datetime
    """When what the decision rests on was found out, or began to be."""
    now: Callable[[], datetime]

    @property
    def digest(self) -> str:
        """The fact's."""
        return self.fact.digest

    def debt(self, site: str) -> Debt:
        """Return the note that a site is owed the fact."""
        return Debt(site, self.fact.instance, self.fact.digest)

    async def put(self, site: GridSite) -> None:
        """Put the object (see `Record.put`)."""
        content = self.fact.to_json()
        key = keys.fact_key(self.fact)
        await put_at_either(
            self.sites,
            site,
            key,
            keys.beside(key, self.name),
            [content],
            digest=self.fact.digest,
            metadata={},
        )

    async def add(self, site: GridSite, order: int, debts: Sequence[Debt]) -> int:
        """Add the row; the order is always 0 (see `Record.add`)."""
        check_current(site, self.since, self.now())
        await self.sites.ask(site, site.catalogue.decide(self.fact, debts))
        check_current(site, self.since, self.now())
        return order

    async def settle(self, debtor: str, at: GridSite, order: int) -> None:  # noqa: ARG002  # facts have none
        """Remove the debt: a fact is the same wherever it is."""
        await self.sites.ask(at, at.catalogue.forgive(self.debt(debtor)))


def check_fresh(site: GridSite, put_at: datetime, now: datetime) -> None:
    """Check that an object that was put at a site then, and that no row may name yet, is surely there still.

    Raises
    ------
    SiteFailed
    """
    if (age_s := (now - put_at).total_seconds()) > FRESH_S:
        raise SiteFailed(site.name, f"its object was put {age_s:.0f} s ago, and may have been collected")


def check_current(site: GridSite, since: datetime, now: datetime) -> None:
    """Check that a decision does not rest on what was found out so long ago that bytes may have gone since.

    Raises
    ------
    SiteFailed
    """
    if (age_s := (now - since).total_seconds()) > FRESH_S:
        raise SiteFailed(site.name, f"what was decided rests on what was known {age_s:.0f} s ago")


async def put_at(
    sites: Sites,
    site: GridSite,
    key: str,
    parts: Sequence[Buffer],
    *,
    digest: str,
    metadata: Mapping[str, str],
) -> None:
    """Put an object at a site: its outcome tells of the site, and its bytes count as held meanwhile.

    Raises
    ------
    SiteFailed, ObjectFault
    """
    size_bytes = sum(memoryview(part).nbytes for part in parts)
    put = site.objects.put(key, parts, digest=digest, metadata=metadata)
    await sites.ask(site, put, size_bytes=size_bytes, writes=key)


async def put_at_either(
    sites: Sites,
    site: GridSite,
    key: str,
    other: str,
    parts: Sequence[Buffer],
    *,
    digest: str,
    metadata: Mapping[str, str],
) -> str:
    """Put an object at its key, or at another if what stands there can be neither described nor replaced.

    Returns
    -------
    str
        The key that it got.

    Raises
    ------
    SiteFailed, ObjectFault
    """
    try:
        await put_at(sites, site, key, parts, digest=digest, metadata=metadata)
    except ObjectFault as fault:
        if not await _is_wedged(sites, site, key):
            raise
        log.warning("write.key_given_up", site=site.name, key=key, other=other, reason=str(fault))
        await put_at(sites, site, other, parts, digest=digest, metadata=metadata)
        return other
    return key


async def _is_wedged(sites: Sites, site: GridSite, key: str) -> bool:
    """Return whether an object that cannot be replaced cannot be described either: its key is lost."""
    try:
        await sites.ask(site, site.objects.head(key))
    except ObjectFault:
        return True
    except ObjectMissing:
        return False
    return False
