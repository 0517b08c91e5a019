"""The link between one process and one site: here it is decided what becomes of each call.

A call travels there, has its effect, and its answer travels back. On either way it may be slow, lost, or cut
off by the end of the process. What was sent may have its effect long after nobody waits for it any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final, TypeVar

from storage_node.catalogue.protocol import CatalogueUnavailable
from storage_node.site.protocol import ObjectFault, SiteFull, SiteUnavailable
from tests.simulation.site import State

if TYPE_CHECKING:
    from datetime import datetime

    from cluster.nouns import Buffer, Debt, Fact, FactKind, Instance, SiteIdentity
    from storage_node.catalogue.feed import Change
    from storage_node.catalogue.matching import Query
    from storage_node.catalogue.protocol import Counts, Entry, Match, Met, Row, StudySummary
    from storage_node.site.protocol import ListedObject, StoredObject, Upload
    from tests.simulation.process import Process
    from tests.simulation.site import Site

T = TypeVar("T")

LATEST_S: Final = 4.0
"""How long after it was sent a call can still have its effect."""

_AWAY: Final = 0.35
"""Of all ways the part that takes any time: so others come in between."""
_WAYS_S: Final = (0.005, 0.02, 0.02, 0.15)
"""How long one way takes at most, on a near, a usual and a far link."""
_PAGES: Final = 0.3
"""Of all steps from one answer to the next the part that is a call of its own."""


@dataclass(frozen=True, slots=True)
class Weather:
    """How likely what goes wrong on a link is, per call."""

    slow: float = 0.0
    """One way takes up to `slow_s`."""
    slow_s: float = 0.0
    request_lost: float = 0.0
    answer_lost: float = 0.0
    silent: float = 0.5
    """Of what is lost, the part of which the caller is not told: it waits."""


FAIR: Final = Weather()
"""Nothing goes wrong."""


class Link:
    """The way from a process to a site and back."""

    def __init__(self, process: Process, site: Site, random: Random) -> None:
        self.process = process
        self.site = site
        self._random = random
        self.turn(FAIR)
        self._way_s = random.choice(_WAYS_S)

    def turn(self, weather: Weather) -> None:
        """Have other weather from now on."""
        self.weather = weather
        self.changed_at = self.process.world.loop.now()

    async def call(
        self,
        what: str,
        key: str,
        work: Callable[[], Awaitable[T]],
        unavailable: type[SiteUnavailable | CatalogueUnavailable],
    ) -> T:
        """Make a call.

        Parameters
        ----------
        what, key : str
            For the trace.
        work : callable
            Has the effect at the site. It does not wait for anything.
        unavailable : type
            What is raised when the caller is told that it failed.
        """
        self.process.step(f"{self.site.name}.{what} {key}")
        weather, random = self.weather, self._random
        try:
            await self._travel()
            await self._arrive(unavailable)
        except asyncio.CancelledError:
            if random.random() < 0.5:
                self.process.world.later(self.site, random.uniform(0, LATEST_S), work)
            raise
        if random.random() < weather.request_lost:
            await self._lose("the request was lost", unavailable)
        if not self.process.alive:
            raise asyncio.CancelledError
        result = await work()
        self.process.step(f"{self.site.name}.{what} {key} done")
        if random.random() < weather.answer_lost:
            await self._lose("the answer was lost", unavailable)
        await self._travel()
        self._look_whether_down(unavailable)
        return result

    async def go_on(self, what: str, unavailable: type[SiteUnavailable | CatalogueUnavailable]) -> None:
        """Go on to the next of several answers: now and then they come in another page."""
        if self._random.random() < _PAGES:
            await self.call(what, "", _nothing, unavailable)

    async def _travel(self) -> None:
        random = self._random.random()
        if random < self.weather.slow:
            await asyncio.sleep(self._random.uniform(0, self.weather.slow_s))
        elif random < _AWAY:
            await asyncio.sleep(self._way_s * self._random.random())

    async def _arrive(self, unavailable: type[SiteUnavailable | CatalogueUnavailable]) -> None:
        await self.site.answers.wait()
        self._look_whether_down(unavailable)

    def _look_whether_down(self, unavailable: type[SiteUnavailable | CatalogueUnavailable]) -> None:
        down = (State.DOWN, State.NO_OBJECTS if unavailable is SiteUnavailable else State.NO_CATALOGUE)
        if self.site.state in down:
            raise unavailable(self.site.name, "it is down")

    async def _lose(self, reason: str, unavailable: type[SiteUnavailable | CatalogueUnavailable]) -> None:
        if self._random.random() < self.weather.silent:
            await asyncio.get_running_loop().create_future()
        raise unavailable(self.site.name, reason)


class LinkedObjects:
    """A site's objects, at the other end of a link."""

    def __init__(self, link: Link, identity: SiteIdentity) -> None:
        self._link = link
        self._site = link.site
        self._identity = identity

    @property
    def name(self) -> str:
        return self._site.name

    async def _call(
        self, what: str, key: str, work: Callable[[], Awaitable[T]], *, writes: bool = False
    ) -> T:
        async def at_site() -> T:
            if writes and self._site.state is State.FULL:
                raise SiteFull(self.name, "it is full")
            if key in self._site.wedged:
                raise ObjectFault(f"{what} of {key}: the key is wedged")
            return await work()

        return await self._link.call(what, key, at_site, SiteUnavailable)

    async def put(
        self, key: str, parts: Sequence[Buffer], *, digest: str, metadata: Mapping[str, str]
    ) -> None:
        content = [b"".join(parts)]
        await self._call(
            "put",
            key,
            lambda: self._site.objects.put(key, content, digest=digest, metadata=metadata),
            writes=True,
        )

    async def upload(self, key: str, *, metadata: Mapping[str, str]) -> Upload:
        upload = await self._call(
            "upload", key, lambda: self._site.objects.upload(key, metadata=metadata), writes=True
        )
        return LinkedUpload(self._link, key, upload)

    async def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        return await self._call("get", key, lambda: self._site.objects.get(key, start, length))

    async def head(self, key: str) -> StoredObject:
        return await self._call("head", key, lambda: self._site.objects.head(key))

    async def list(self, prefix: str = "") -> AsyncIterator[ListedObject]:
        await self._call("list", prefix, _nothing)
        async for listed in self._site.objects.list(prefix):
            yield listed
            await self._link.go_on("list on", SiteUnavailable)

    async def folders(self) -> AsyncIterator[str]:
        await self._call("folders", "", _nothing)
        async for folder in self._site.objects.folders():
            yield folder
            await self._link.go_on("folders on", SiteUnavailable)

    async def delete(self, key: str, version_id: str) -> None:
        await self._call("delete", key, lambda: self._site.objects.delete(key, version_id))

    async def sweep(self, older_than: datetime) -> int:
        return await self._call("sweep", "", lambda: self._site.objects.sweep(older_than))

    async def free_bytes(self) -> int | None:
        async def room() -> int | None:
            return 0 if self._site.state is State.FULL else None

        return await self._call("free_bytes", "", room)

    async def identity(self) -> SiteIdentity:
        found = await self._call("identity", "", lambda: self._site.objects.identity())
        if found != self._identity:
            raise SiteUnavailable(self.name, f"it is of generation {found.generation} now")
        return found

    async def close(self) -> None:
        """The site does not end with those who used it."""


class LinkedUpload:
    """An upload at the other end of a link."""

    def __init__(self, link: Link, key: str, upload: Upload) -> None:
        self._link = link
        self._key = key
        self._upload = upload
        self._incarnation = link.site.incarnation

    async def _call(self, what: str, work: Callable[[], Awaitable[T]]) -> T:
        async def at_site() -> T:
            if self._incarnation != self._link.site.incarnation:
                raise SiteUnavailable(self._link.site.name, "it knows of no such upload")
            if self._link.site.state is State.FULL:
                raise SiteFull(self._link.site.name, "it is full")
            return await work()

        return await self._link.call(what, self._key, at_site, SiteUnavailable)

    async def write(self, parts: Sequence[Buffer], *, digest: str | None = None) -> None:
        content = [b"".join(parts)]
        await self._call("write", lambda: self._upload.write(content, digest=digest))

    async def complete(self) -> None:
        await self._call("complete", self._upload.complete)

    async def abort(self) -> None:
        try:
            await self._link.call("abort", self._key, self._upload.abort, SiteUnavailable)
        except SiteUnavailable:
            return


class LinkedCatalogue:
    """A site's catalogue, at the other end of a link."""

    def __init__(self, link: Link, identity: SiteIdentity) -> None:
        self._link = link
        self._site = link.site
        self._identity = identity

    @property
    def name(self) -> str:
        return self._site.name

    async def _call(self, what: str, of: object, work: Callable[[], Awaitable[T]]) -> T:
        return await self._link.call(what, str(of), work, CatalogueUnavailable)

    async def _each(self, what: str, all_of: Callable[[], AsyncGenerator[T]]) -> AsyncGenerator[T]:
        await self._call(what, "", _nothing)
        async for one in all_of():
            yield one
            await self._link.go_on(f"{what} on", CatalogueUnavailable)

    async def add(self, row: Row, debts: Sequence[Debt] = (), *, verified_at: datetime) -> Met:
        async def at_site() -> Met:
            if await self._site.row(row.version) is None:
                self._link.process.world.row_comes(self._site, row)
            return await self._site.catalogue.add(row, debts, verified_at=verified_at)

        return await self._call("add", row.version.digest, at_site)

    async def decide(self, fact: Fact, debts: Sequence[Debt] = ()) -> None:
        await self._call("decide", fact.digest, lambda: self._site.catalogue.decide(fact, debts))

    async def owe(self, debts: Sequence[Debt]) -> None:
        await self._call("owe", _sites_in(debts), lambda: self._site.catalogue.owe(debts))

    async def settle(self, site: str, held: Row) -> None:
        async def at_site() -> None:
            await self._link.process.world.debt_ends(site, held.version)
            await self._site.catalogue.settle(site, held)

        await self._call("settle", site, at_site)

    async def forgive(self, debt: Debt) -> None:
        async def at_site() -> None:
            await self._link.process.world.debt_of_fact_ends(debt)
            await self._site.catalogue.forgive(debt)

        await self._call("forgive", debt.site, at_site)

    async def debts(self, limit: int, *, site: str | None = None) -> Sequence[Debt]:
        return await self._call("debts", site, lambda: self._site.catalogue.debts(limit, site=site))

    async def rows_of(self, instance: Instance) -> Sequence[Row]:
        return await self._call(
            "rows_of", instance.sop_instance_uid, lambda: self._site.catalogue.rows_of(instance)
        )

    async def facts_of(self, instance: Instance) -> Sequence[Fact]:
        return await self._call(
            "facts_of", instance.sop_instance_uid, lambda: self._site.catalogue.facts_of(instance)
        )

    async def facts_in(self, study_instance_uid: str) -> Sequence[Fact]:
        return await self._call(
            "facts_in", study_instance_uid, lambda: self._site.catalogue.facts_in(study_instance_uid)
        )

    async def verified(self, copies: Sequence[tuple[Instance, str]], at: datetime) -> None:
        await self._call("verified", len(copies), lambda: self._site.catalogue.verified(copies, at))

    async def least_verified(self, before: datetime, limit: int) -> Sequence[Entry]:
        return await self._call(
            "least_verified", limit, lambda: self._site.catalogue.least_verified(before, limit)
        )

    def find(
        self, query: Query, limit: int, *, looked: Callable[[], None] | None = None
    ) -> AsyncGenerator[Match]:
        return self._each("find", lambda: self._site.catalogue.find(query, limit, looked=looked))

    def walk(self, study_instance_uid: str | None = None) -> AsyncGenerator[Entry]:
        return self._each("walk", lambda: self._site.catalogue.walk(study_instance_uid))

    def studies(self) -> AsyncGenerator[StudySummary]:
        return self._each("studies", lambda: self._site.catalogue.studies())

    async def changes(self, after: str | None, limit: int) -> Sequence[Change]:
        return await self._call("changes", limit, lambda: self._site.catalogue.changes(after, limit))

    def ruled(self, kind: FactKind, *, after: str = "") -> AsyncGenerator[Fact]:
        return self._each("ruled", lambda: self._site.catalogue.ruled(kind, after=after))

    async def counts(self) -> Counts:
        return await self._call("counts", "", lambda: self._site.catalogue.counts())

    async def identity(self) -> SiteIdentity:
        found = await self._call("identity of catalogue", "", lambda: self._site.catalogue.identity())
        if found != self._identity:
            raise CatalogueUnavailable(self.name, f"it is of generation {found.generation} now")
        return found

    async def close(self) -> None:
        """The site does not end with those who used it."""


async def _nothing() -> None:
    return None


def _sites_in(debts: Sequence[Debt]) -> str:
    return ",".join(debt.site for debt in debts)
