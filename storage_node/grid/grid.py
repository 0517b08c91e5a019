"""The grid: the thin layer that makes N sites one store.

It writes to W of them before it says so, reads from any, and leaves a debt where a copy is owed. It holds
nothing that its death would lose.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Final, TypeVar

import structlog

from cluster.settings import Deletion
from storage_node.catalogue.protocol import Row
from storage_node.grid import facts, keys, rows
from storage_node.grid.find import Finding
from storage_node.grid.find_related import RelatedFinding
from storage_node.grid.listing_find import ListingFind
from storage_node.grid.quorum import Quorum
from storage_node.grid.read import Reader
from storage_node.grid.record import put_at_either
from storage_node.grid.sites import SiteFailed, Sites
from storage_node.grid.stream import Stream
from storage_node.grid.tasks import Tasks
from storage_node.grid.write import NotEnoughSites, Writer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from cluster.nouns import Buffer, Debt, Fact, FactKind, Instance, Version
    from cluster.settings import Writing
    from storage_node.catalogue.matching import Query
    from storage_node.grid.arrival import Arrival, Stored
    from storage_node.grid.health import SiteHealth
    from storage_node.grid.listing_find import Listed
    from storage_node.grid.sites import GridSite, Roster

T = TypeVar("T")

START_LIMIT_S: Final = 2.0
"""How long the start waits for sites to say that they are there."""

_INLINE_LIMIT_BYTES: Final = 1024 * 1024
"""Up to this size a digest costs the other associations less than the way to a thread and back."""

log = structlog.get_logger()


def _now() -> datetime:
    return datetime.now(UTC)


def _new_name() -> str:
    return uuid.uuid4().hex


class Grid:
    """All sites as one store.

    Parameters
    ----------
    sites : sequence of GridSite
        The nearest first.
    writing : Writing
        W, and the limits of what is asked of a site.
    roster : Roster or None
        The cluster's record of its sites: which was replaced, which is being filled. None if none ever is.
    deletion : Deletion, optional
        What becomes of what is deleted.
    now : callable
        Returns the time, aware.
    new_name : callable
        Returns a name that was never used before: part of the keys of objects whose digest cannot name them.

    Raises
    ------
    ValueError
        W is not more than half of the sites and at most all of them.
    """

    def __init__(
        self,
        sites: Sequence[GridSite],
        writing: Writing,
        *,
        roster: Roster | None = None,
        deletion: Deletion | None = None,
        now: Callable[[], datetime] = _now,
        new_name: Callable[[], str] = _new_name,
    ) -> None:
        self.deletion = deletion or Deletion()
        self.quorum = Quorum(len(sites), writing.copies_before_success)
        self.sites = Sites(sites, writing, roster=roster, now=now)
        self.tasks = Tasks()
        self.writer = Writer(
            self.sites,
            self.quorum,
            self.tasks,
            straggler_grace_s=writing.straggler_grace_s,
            now=now,
            new_name=new_name,
            resend=self.deletion.resend,
        )
        self._reader = Reader(self.sites, hedge_after_s=writing.hedge_after_s, on_bad_copy=self._on_bad_copy)
        self._writing = writing
        self.new_name = new_name
        self.now = now
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Find out which sites are up, and keep watching them; one that hangs is not waited for long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(START_LIMIT_S):
                await self.sites.probe()
        self._watch = asyncio.create_task(self.sites.watch())

    async def close(self) -> None:
        """Let writes and stragglers end, within their time limits, then let go of the sites."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait({self._watch})
        await self.tasks.close(self._writing.site_timeout_s)
        await self.sites.close()

    async def store(self, arrival: Arrival, parts: Sequence[Buffer]) -> Stored:
        """Store an instance that is in memory.

        When the caller is cancelled the write goes on, to its acknowledgement or its refusal.

        Parameters
        ----------
        arrival : Arrival
        parts : sequence of bytes-like
            The whole Part 10 file. They are not changed, and held until the last site has them or gave up.

        Raises
        ------
        NotEnoughSites
            Fewer than W sites could be written to: nothing was acknowledged.
        """
        tried = self.writer.worth_trying()
        size_bytes = sum(memoryview(part).nbytes for part in parts)
        inline = size_bytes <= _INLINE_LIMIT_BYTES
        digest = _digest(parts) if inline else await asyncio.to_thread(_digest, parts)
        key = keys.object_key(arrival.instance, digest)
        version = arrival.version(digest=digest, key=key, size_bytes=size_bytes)
        other = keys.another_key(arrival.instance, digest, self.new_name())
        metadata = arrival.provenance.to_metadata()

        async def put(site: GridSite) -> str:
            return await put_at_either(self.sites, site, key, other, parts, digest=digest, metadata=metadata)

        row = Row(version, arrival.provenance, arrival.header, arrival.flags)
        return await self.writer.write(row, tried, put)

    async def stream(self, instance: Instance | None) -> Stream:
        """Begin to store an instance that is larger than memory.

        Parameters
        ----------
        instance : Instance or None
            None when its identity is not known yet.

        Raises
        ------
        NotEnoughSites
        """
        stream = Stream(self.writer, instance, self.new_name())
        await stream.open()
        return stream

    def read(self, version: Version, *, last: GridSite | None = None) -> AsyncGenerator[bytes]:
        """Read a version's Part 10 file: whole, or block by block if it was streamed; each piece is checked.

        Parameters
        ----------
        version : Version
        last : GridSite, optional
            Site to ask last: that which is to be given a copy, and as a rule has none.

        Raises
        ------
        NoCopy
            No site that can be reached gives a copy with the right digest (also after some blocks).
        """
        return self._reader.read(version, last)

    def read_at(self, site: GridSite, version: Version) -> AsyncGenerator[bytes]:
        """Read one site's own copy of a version, piece by piece, each of them checked.

        Raises
        ------
        BadCopy, ObjectMissing, ObjectFault
            The copy is not there, or not what it should be.
        SiteFailed
            Nothing is known of the copy.
        """
        return self._reader.read_at(site, version)

    async def decide(
        self,
        subject: Instance,
        kind: FactKind,
        *,
        by: str,
        reason: str,
        details: Sequence[tuple[str, str]] = (),
    ) -> Fact:
        """Decide something about an instance, or another subject. It may be decided so already.

        Parameters
        ----------
        subject : Instance
        kind : FactKind
        by : str
            A person's account.
        reason : str
        details : sequence of tuple of str
            What the kind needs to be told (`Fact.details`).

        Raises
        ------
        NotEnoughSites
            Fewer than R sites say what was decided before, or fewer than W took the fact: it is not decided,
            though some sites may know of it.
        Gone
            It is to be revived, and was purged.
        """
        since = self.now()
        voters = {site.name for site in self.sites.voters()}
        known, reasons = await self._ask_each(self.sites.up(), lambda site: site.catalogue.facts_of(subject))
        if len(voters & known.keys()) < self.quorum.read:
            raise NotEnoughSites(len(voters & known.keys()), self.quorum.read, reasons)
        fact = facts.decision(
            subject, known.values(), kind, by=by, at=self.now(), reason=reason, details=details
        )
        await self.writer.decide(fact, since=since)
        log.info("fact.decided", kind=fact.kind, epoch=fact.epoch, digest=fact.digest)
        return fact

    def find(
        self, query: Query, limit: int, *, hidden: bool = False, rejected: bool = False
    ) -> Finding | RelatedFinding:
        """Find what matches at R catalogues, or at as many as can be reached.

        Parameters
        ----------
        query : Query
        limit : int
        hidden, rejected : bool
            Whether what is hidden is found, too: all of it, or what was rejected for quality reasons
            (see `Finding`).
        """
        find = partial(self._find, hidden=hidden, rejected=rejected)
        return RelatedFinding(find, query, limit) if query.below else find(query, limit)

    def _find(self, query: Query, limit: int, *, hidden: bool, rejected: bool) -> Finding:
        voters = self.sites.voters()
        others = [site for site in self.sites.up() or self.sites.by_health() if site not in voters]
        return Finding(
            [site.catalogue for site in (*voters, *others)],
            query,
            limit,
            needed=self.quorum.read,
            voters=[site.name for site in voters],
            answer_timeout_s=self._writing.site_timeout_s,
            patience_s=self._writing.find_patience_s,
            hidden=hidden,
            rejected=rejected,
        )

    async def find_in_objects(self, query: Query, limit: int, *, header_limit_bytes: int) -> Listed:
        """Find the instances of studies where no catalogue answers (see `ListingFind.find`).

        Raises
        ------
        NotListed, TooMany
        """
        finding = ListingFind(self.sites, self.quorum, header_limit_bytes=header_limit_bytes)
        return await finding.find(query, limit)

    async def rows_of(self, instance: Instance) -> tuple[Row, ...]:
        """Return the rows of an instance's versions, the current one first, merged from what can be reached.

        Raises
        ------
        NotEnoughSites
            No catalogue answers.
        """
        return rows.merge((await self.rows_at_sites(instance)).values())

    async def rows_at_sites(self, instance: Instance) -> dict[str, Sequence[Row]]:
        """Return the rows of an instance's versions at each site whose catalogue answers.

        Raises
        ------
        NotEnoughSites
            None answers.
        """
        return await self._answered(lambda site: site.catalogue.rows_of(instance))

    async def facts_at_sites(self, instance: Instance) -> dict[str, Sequence[Fact]]:
        """Return the facts about an instance at each site whose catalogue answers.

        Raises
        ------
        NotEnoughSites
            None answers.
        """
        return await self._answered(lambda site: site.catalogue.facts_of(instance))

    async def _answered(self, call: Callable[[GridSite], Awaitable[T]]) -> dict[str, T]:
        """Ask every site that is up, or all if none is, and return the answers: one at least."""
        up = self.sites.up()
        answered, reasons = await self._ask_each(up or self.sites.by_health(), call, even_down=not up)
        if not answered:
            raise NotEnoughSites(0, 1, reasons)
        return answered

    async def _ask_each(
        self,
        sites: Sequence[GridSite],
        call: Callable[[GridSite], Awaitable[T]],
        *,
        even_down: bool = False,
    ) -> tuple[dict[str, T], dict[str, str]]:
        """Ask sites at once; return their answers, and why others gave none, in the order of the sites."""

        async def ask(site: GridSite) -> T | SiteFailed:
            try:
                return await self.sites.ask(site, call(site), even_down=even_down)
            except SiteFailed as error:
                return error

        answers = dict(
            zip((site.name for site in sites), await asyncio.gather(*map(ask, sites)), strict=True)
        )
        answered = {name: answer for name, answer in answers.items() if not isinstance(answer, SiteFailed)}
        reasons = {name: answer.reason for name, answer in answers.items() if isinstance(answer, SiteFailed)}
        return answered, reasons

    def health(self) -> Mapping[str, SiteHealth]:
        """Return what is known of each site."""
        return self.sites.health()

    def _on_bad_copy(self, debt: Debt) -> None:
        self.tasks.spawn(self._note_bad_copy(debt))

    async def _note_bad_copy(self, debt: Debt) -> None:
        for site in self.sites.up():
            try:
                await self.sites.ask(site, site.catalogue.owe([debt]))
            except SiteFailed as error:
                log.warning("read.debt_not_noted", site=site.name, reason=error.reason)


def _digest(parts: Sequence[Buffer]) -> str:
    digest = sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
