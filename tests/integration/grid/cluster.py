"""Three sites and a grid over them: they can be made to fail, and looked into behind the grid's back."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from cluster.nouns import Debt, Fact, FactKind, Instance, Membership, Provenance, SiteIdentity
from cluster.settings import Deletion, Upkeep, Writing
from storage_node.catalogue.feed import Change
from storage_node.catalogue.matching import Query
from storage_node.catalogue.memory import MemoryCatalogue
from storage_node.catalogue.protocol import (
    Catalogue,
    CatalogueUnavailable,
    Counts,
    Entry,
    Match,
    Met,
    Row,
    StudySummary,
)
from storage_node.catalogue.sqlite.catalogue import SqliteCatalogue
from storage_node.grid.arrival import Arrival
from storage_node.grid.grid import Grid
from storage_node.grid.sites import GridSite
from storage_node.site.failing import Call, FailingObjects, Fault, Script, well
from storage_node.site.file_system import FileSystemObjects
from storage_node.site.memory import MemoryObjects
from storage_node.site.protocol import SiteUnavailable
from storage_node.upkeep.repair import Repair, Report

T = TypeVar("T")

NAMES = ("a", "b", "c")
HEADER = b""
_OF_MEMORY = {
    "straggler_grace_s": 5.0,
    "site_timeout_s": 5.0,
    "probe_timeout_s": 1.0,
    "hedge_after_s": 0.5,
}
_OF_FILES = dict.fromkeys(_OF_MEMORY, 60.0)
"""Time limits, where a test says nothing else."""
PROVENANCE = Provenance(datetime(2026, 3, 1, 12, tzinfo=UTC), "CT1", "ATRIA", "10.0.0.1:4242")


def arrival(number: int = 1, *, sop: str | None = None) -> Arrival:
    return Arrival(
        instance=Instance("1.2", "1.2.3", sop or f"1.2.3.{number}"),
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        data_set_offset_bytes=0,
        provenance=PROVENANCE,
        header=HEADER,
    )


class FailingCatalogue:
    """Another catalogue, with the faults that a script says; it shares the faults' machinery with objects."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._faults = FailingObjects(MemoryObjects(catalogue.name, SiteIdentity(catalogue.name, "", 1)))

    @property
    def name(self) -> str:
        return self._catalogue.name

    @property
    def script(self) -> Script:
        return self._faults.script

    @script.setter
    def script(self, script: Script) -> None:
        self._faults.script = script

    @property
    def calls(self) -> Sequence[Call]:
        return self._faults.calls

    @property
    def hanging(self) -> asyncio.Event:
        return self._faults.hanging

    def release(self) -> None:
        self._faults.release()

    async def _within(self, method: str, work: Callable[[], Awaitable[T]]) -> T:
        try:
            return await self._faults.within(method, "", work)
        except SiteUnavailable as error:
            raise CatalogueUnavailable(self.name, error.reason) from error

    async def add(self, row: Row, debts: Sequence[Debt] = (), *, verified_at: datetime) -> Met:
        return await self._within("add", lambda: self._catalogue.add(row, debts, verified_at=verified_at))

    async def decide(self, fact: Fact, debts: Sequence[Debt] = ()) -> None:
        await self._within("decide", lambda: self._catalogue.decide(fact, debts))

    async def owe(self, debts: Sequence[Debt]) -> None:
        await self._within("owe", lambda: self._catalogue.owe(debts))

    async def settle(self, site: str, held: Row) -> None:
        await self._within("settle", lambda: self._catalogue.settle(site, held))

    async def forgive(self, debt: Debt) -> None:
        await self._within("forgive", lambda: self._catalogue.forgive(debt))

    async def debts(self, limit: int, *, site: str | None = None) -> Sequence[Debt]:
        return await self._within("debts", lambda: self._catalogue.debts(limit, site=site))

    async def rows_of(self, instance: Instance) -> Sequence[Row]:
        return await self._within("rows_of", lambda: self._catalogue.rows_of(instance))

    async def facts_of(self, instance: Instance) -> Sequence[Fact]:
        return await self._within("facts_of", lambda: self._catalogue.facts_of(instance))

    async def verified(self, copies: Sequence[tuple[Instance, str]], at: datetime) -> None:
        await self._within("verified", lambda: self._catalogue.verified(copies, at))

    async def least_verified(self, before: datetime, limit: int) -> Sequence[Entry]:
        return await self._within("least_verified", lambda: self._catalogue.least_verified(before, limit))

    def find(
        self, query: Query, limit: int, *, looked: Callable[[], None] | None = None
    ) -> AsyncGenerator[Match]:
        return self._catalogue.find(query, limit, looked=looked)

    async def walk(self, study_instance_uid: str | None = None) -> AsyncGenerator[Entry]:
        await self._within("walk", _nothing)
        async for entry in self._catalogue.walk(study_instance_uid):
            yield entry

    async def studies(self) -> AsyncGenerator[StudySummary]:
        await self._within("studies", _nothing)
        async for summary in self._catalogue.studies():
            yield summary

    async def facts_in(self, study_instance_uid: str) -> Sequence[Fact]:
        return await self._within("facts_in", lambda: self._catalogue.facts_in(study_instance_uid))

    async def changes(self, after: str | None, limit: int) -> Sequence[Change]:
        return await self._within("changes", lambda: self._catalogue.changes(after, limit))

    async def ruled(self, kind: FactKind, *, after: str = "") -> AsyncGenerator[Fact]:
        await self._within("ruled", _nothing)
        async for fact in self._catalogue.ruled(kind, after=after):
            yield fact

    async def counts(self) -> Counts:
        return await self._within("counts", self._catalogue.counts)

    async def identity(self) -> SiteIdentity:
        return await self._within("identity", self._catalogue.identity)

    async def close(self) -> None:
        await self._catalogue.close()


async def _nothing() -> None:
    return None


@dataclass
class Site:
    """One site: what the grid is given, and what is behind it."""

    name: str
    objects: FailingObjects
    catalogue: FailingCatalogue
    inner: Catalogue
    folder: Path | None = None

    def script(self, script: Script) -> None:
        self.objects.script = script
        self.catalogue.script = script

    def fail(self, fault: Fault, *methods: str) -> None:
        """Have these calls fail from now on, or all but probes."""
        self.script(lambda call: fault if call.method in methods or not methods else None)

    def heal(self) -> None:
        self.script(well)
        self.objects.release()
        self.catalogue.release()

    def object_digests(self) -> set[str]:
        """Digests of the objects that are there, read behind the grid's back."""
        if self.folder is None:
            memory = self.objects.objects
            assert isinstance(memory, MemoryObjects)
            contents = [kept.content for key, kept in memory.objects.items() if key.endswith(".dcm")]
        else:
            contents = [file.read_bytes() for file in (self.folder / "objects").rglob("*.dcm")]
        return {sha256(content).hexdigest() for content in contents}

    async def rows(self) -> dict[str, int]:
        """Digest and order of each row, read behind the grid's back."""
        if self.folder is not None:
            return dict(self._select("SELECT digest, order_number FROM versions"))
        return {entry.digest: entry.order async for entry in self.inner.walk()}

    async def debts(self) -> set[tuple[str, str]]:
        """Site and digest of each debt that is noted here, read behind the grid's back."""
        if self.folder is not None:
            return {(site, digest) for site, digest in self._select("SELECT site, digest FROM debts")}
        return {(debt.site, debt.digest) for debt in await self.inner.debts(1000)}

    def _select(self, statement: str) -> list[tuple[Any, ...]]:
        assert self.folder is not None
        with closing(sqlite3.connect(f"file:{self.folder}/catalogue.sqlite?mode=ro", uri=True)) as connection:
            return connection.execute(statement).fetchall()


@dataclass
class Roster:
    """The record of a cluster whose sites are in this process: what is replaced is a site of memory."""

    sites: dict[str, Site]
    now: Callable[[], datetime]
    places: dict[str, Membership] = field(default_factory=dict)

    def memberships(self) -> Mapping[str, Membership]:
        return self.places

    def open(self, membership: Membership) -> GridSite:
        identity = membership.identity
        site = self.sites[identity.name] = site_of_memory(identity, self.now)
        return GridSite(identity.name, site.objects, site.catalogue, membership)

    async def filled(self, identity: SiteIdentity) -> None:
        if self.places[identity.name].identity == identity:
            self.places[identity.name] = Membership(identity)


@dataclass
class Cluster:
    grid: Grid
    sites: dict[str, Site]
    roster: Roster

    def __getitem__(self, name: str) -> Site:
        return self.sites[name]

    async def holders(self, digest: str) -> set[str]:
        """Sites that have both the object and the row."""
        return {
            name
            for name, site in self.sites.items()
            if digest in site.object_digests() and digest in await site.rows()
        }

    async def check_acknowledged(self, digest: str) -> None:
        """What must hold whenever success was said (W = 2 of 3), whatever the grid believes."""
        holders = await self.holders(digest)
        assert len(holders) >= 2, holders
        for name in self.sites.keys() - holders:
            noted = {other for other, site in self.sites.items() if (name, digest) in await site.debts()}
            assert len(noted) >= 2, f"{name} is owed a copy, and only {noted} know"

    async def check_everywhere(self, digest: str) -> None:
        """What must hold once repair is done: a copy at each site, of one order, and no debt left."""
        assert await self.holders(digest) == set(self.sites)
        assert len({(await site.rows())[digest] for site in self.sites.values()}) == 1
        for site in self.sites.values():
            assert digest not in {owed for _, owed in await site.debts()}

    async def heal(self) -> None:
        for site in self.sites.values():
            site.heal()
        await self.grid.sites.probe()

    async def replace(self, name: str) -> None:
        """Have an empty site take a site's place, and wait until it can be reached."""
        identity = self.roster.places[name].identity
        identity = replace(identity, generation=identity.generation + 1)
        self.roster.places[name] = Membership(identity, filling=True)
        sites = self.grid.sites
        async with asyncio.timeout(10):
            await sites.wait_until(lambda health: health[name].filling and health[name].up)

    async def debts(self) -> set[tuple[str, str]]:
        """Site and digest of each debt that is noted anywhere."""
        return {debt for site in self.sites.values() for debt in await site.debts()}

    async def voting(self, name: str) -> None:
        """Wait until a site has its vote."""
        async with asyncio.timeout(10):
            await self.grid.sites.wait_until(lambda health: health[name].votes)

    async def repair(self) -> Report:
        """Have all debts paid that can be."""
        return await Repair(self.grid, Upkeep()).run_once()


def writing(**settings: float) -> Writing:
    """Return settings that make tests quick: no more than a byte of room is asked for."""
    quick = {"probe_interval_s": 0.05, "free_space_low_bytes": 1} | settings
    return Writing.model_validate(quick)


def faulty(method: str, fault: Fault) -> Script:
    """Return a script by which one method fails so, at each call."""
    return lambda call: fault if call.method == method else None


def site_of_memory(identity: SiteIdentity, now: Callable[[], datetime]) -> Site:
    objects, inner = MemoryObjects(identity.name, identity, now), MemoryCatalogue(identity.name, identity)
    return Site(identity.name, FailingObjects(objects), FailingCatalogue(inner), inner)


def site_in_folder(folder: Path, identity: SiteIdentity) -> Site:
    FileSystemObjects.create(folder / "objects", identity)
    objects = FileSystemObjects(identity.name, folder / "objects", identity)
    SqliteCatalogue.create(folder / "catalogue.sqlite", identity)
    inner = SqliteCatalogue(identity.name, folder / "catalogue.sqlite", identity)
    return Site(identity.name, FailingObjects(objects), FailingCatalogue(inner), inner, folder)


def utc_now() -> datetime:
    return datetime.now(UTC)


@asynccontextmanager
async def cluster(
    folder: Path | None = None,
    *,
    grace_s: float | None = None,
    timeout_s: float | None = None,
    hedge_after_s: float | None = None,
    deletion: Deletion | None = None,
    now: Callable[[], datetime] = utc_now,
) -> AsyncIterator[Cluster]:
    """Run a grid over three sites: of files and SQLite below a folder, or of memory.

    A disk that all tests share may take seconds over one `fsync`. Where a test says nothing of a time limit,
    none runs out on a disk: a site fails when the test makes it.
    """
    asked = {"straggler_grace_s": grace_s, "site_timeout_s": timeout_s, "hedge_after_s": hedge_after_s}
    limits = _OF_MEMORY if folder is None else _OF_FILES
    limits = limits | {name: limit_s for name, limit_s in asked.items() if limit_s is not None}
    sites: dict[str, Site] = {}
    roster = Roster(sites, now)
    for name in NAMES:
        identity = SiteIdentity(name, f"id-{name}", 1)
        roster.places[name] = Membership(identity)
        sites[name] = (
            site_of_memory(identity, now) if folder is None else site_in_folder(folder / name, identity)
        )
    grid = Grid(
        [GridSite(name, site.objects, site.catalogue, roster.places[name]) for name, site in sites.items()],
        writing(**limits),
        roster=roster,
        deletion=deletion,
        now=now,
    )
    await grid.start()
    await grid.sites.wait_until(lambda health: all(site.up for site in health.values()))
    try:
        yield Cluster(grid, sites, roster)
    finally:
        for site in sites.values():
            site.heal()
        await grid.close()
