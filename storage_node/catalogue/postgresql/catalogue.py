"""A catalogue in a PostgreSQL database: a process's changes share transactions, many processes share it."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar, cast

import asyncpg

from cluster.nouns import Debt, Fact, FactKind, Instance, SiteIdentity, time_text
from storage_node.catalogue import feed, metrics, pages
from storage_node.catalogue.find import Page
from storage_node.catalogue.postgresql import new_rows, read
from storage_node.catalogue.postgresql.changes import AddFact, AddRow, Change, Forgive, Owe, Settle, Verify
from storage_node.catalogue.postgresql.commit import GroupCommit
from storage_node.catalogue.postgresql.database import (
    PLANS_BY_KEY,
    PLANS_BY_VALUE,
    Database,
    Location,
    read_identity,
)
from storage_node.catalogue.postgresql.feed import Feed
from storage_node.catalogue.postgresql.find import Find
from storage_node.catalogue.postgresql.standings import Standings
from storage_node.catalogue.postgresql.write import make
from storage_node.catalogue.protocol import CatalogueUnavailable, Counts, Entry, Match, Met, Row, StudySummary

if TYPE_CHECKING:
    from storage_node.catalogue.matching import Query

T = TypeVar("T")

PARTS: Final = 16
"""Of what many processes add to: few, as all are read; many, so that two seldom have the same one."""

_RETRIES_LIMIT: Final = 10
_MET_ANOTHER: Final = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
_AT_FAULT: Final = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
)
"""Faults of a change itself, which the other changes of its transaction are not to suffer for."""


class PostgresqlCatalogue:
    """A catalogue in the database of a site's own server.

    Parameters
    ----------
    name : str
        Name of the site.
    location : Location
    expected : SiteIdentity
        What the catalogue must say that it is.
    """

    def __init__(self, name: str, location: Location, expected: SiteIdentity) -> None:
        self._name = name
        self._database = Database(name, location, expected)
        self._changing = Database(name, location, expected, plans=PLANS_BY_KEY)
        self._planning = Database(name, location, expected, plans=PLANS_BY_VALUE)
        self._changes: GroupCommit[Change] = GroupCommit(self._commit)
        self._feed = Feed(name)
        self._standings = Standings()
        self._part = secrets.randbelow(PARTS)

    @property
    def name(self) -> str:
        """Name of the site."""
        return self._name

    async def add(self, row: Row, debts: Sequence[Debt] = (), *, verified_at: datetime) -> Met:
        """Add a row, and debts with it, in one durable transaction (see `Catalogue.add`)."""
        return cast("Met", await self._changes.do(AddRow(row, debts, time_text(verified_at))))

    async def decide(self, fact: Fact, debts: Sequence[Debt] = ()) -> None:
        """Add a fact, and debts with it, in one durable transaction (see `Catalogue.decide`)."""
        await self._changes.do(AddFact(fact, debts))

    async def owe(self, debts: Sequence[Debt]) -> None:
        """Add debts, durably."""
        await self._changes.do(Owe(debts))

    async def settle(self, site: str, held: Row) -> None:
        """Remove the debt of a site that holds a version by now, unless the row here is newer."""
        await self._changes.do(Settle(site, held))

    async def forgive(self, debt: Debt) -> None:
        """Remove a debt of a fact."""
        await self._changes.do(Forgive(debt))

    async def verified(self, copies: Sequence[tuple[Instance, str]], at: datetime) -> None:
        """Note that the copies of these versions here were read and found right."""
        await self._changes.do(Verify(copies, time_text(at)))

    async def debts(self, limit: int, *, site: str | None = None) -> Sequence[Debt]:
        """Return the debts noted here, the oldest first: those that `site` is owed, or all."""
        return await self._read(partial(read.debts, site=site, limit=limit))

    async def rows_of(self, instance: Instance) -> Sequence[Row]:
        """Return the rows of all versions of an instance, the current one first."""
        return await self._read(partial(read.rows_of, instance=instance))

    async def facts_of(self, instance: Instance) -> Sequence[Fact]:
        """Return all facts about an instance, the one that holds first."""
        return await self._read(partial(read.facts_of, instance=instance))

    async def facts_in(self, study_instance_uid: str) -> Sequence[Fact]:
        """Return all facts about a study's instances, by instance, the one that holds first."""
        return await self._read(partial(read.facts_in, study=study_instance_uid))

    async def least_verified(self, before: datetime, limit: int) -> Sequence[Entry]:
        """Return the entries whose copies were last verified before then, the longest ago first."""
        return await self._read(partial(read.least_verified, before=before, limit=limit))

    def find(
        self, query: Query, limit: int, *, looked: Callable[[], None] | None = None
    ) -> AsyncGenerator[Match]:
        """Return what matches, ordered by `Match.uid`, at most `limit`; read in pages."""
        find = Find(query)
        database = self._planning if find.is_planned_by_value else self._database

        def page(after: tuple[str, ...] | None, size: int) -> Awaitable[Page]:
            return self._read(partial(find.page, after=after, size=size), database)

        return pages.matches(page, limit, looked)

    def walk(self, study_instance_uid: str | None = None) -> AsyncGenerator[Entry]:
        """Return an entry for every version held, or for those of a study, by instance, then digest."""

        def page(after: Entry | None, size: int) -> Awaitable[Sequence[Entry]]:
            return self._read(partial(read.walk, study=study_instance_uid, after=after, size=size))

        return pages.entries(page)

    def studies(self) -> AsyncGenerator[StudySummary]:
        """Return a summary of every study of which there is a row or a fact, ordered by UID."""

        def page(after: str, size: int) -> Awaitable[Sequence[StudySummary]]:
            return self._read(partial(read.studies, after=after, size=size))

        return pages.summaries(page)

    async def changes(self, after: str | None, limit: int) -> Sequence[feed.Change]:
        """Return the versions and facts that came after a cursor, in the order in which they came."""
        return await self._read(partial(self._feed.read, after=after, limit=limit))

    def ruled(self, kind: FactKind, *, after: str = "") -> AsyncGenerator[Fact]:
        """Return the facts of a kind that hold, by subject; of studies whose UID is after `after`."""

        def page(place: tuple[str, str, str], size: int) -> Awaitable[Sequence[Fact]]:
            return self._read(partial(read.ruled, kind=kind, after=place, size=size))

        return pages.facts(page, after)

    async def counts(self) -> Counts:
        """Return how much is held."""
        return await self._read(read.counts)

    async def identity(self) -> SiteIdentity:
        """Read which site this is: a light probe, too."""
        identity = await self._read(read_identity)
        if identity is None:
            raise CatalogueUnavailable(self._name, "it has lost its identity")
        return identity

    async def close(self) -> None:
        """Let go of all connections, after what was asked is done."""
        await self._changes.close()
        await self._changing.close()
        await self._database.close()
        await self._planning.close()

    async def _read(
        self, call: Callable[[asyncpg.Connection], Awaitable[T]], database: Database | None = None
    ) -> T:
        async with (database or self._database).lent() as connection:
            return await call(connection)

    async def _commit(self, changes: Sequence[Change]) -> Sequence[Met | None]:
        """Make changes in one transaction. One that met another, each waiting for the other, begins anew."""
        attempts = 0
        while True:
            try:
                with metrics.COMMIT_SECONDS.labels(self._name).time():
                    outcomes = await self._transaction(changes)
            except CatalogueUnavailable:
                metrics.FAILURES.labels(self._name).inc()
                raise
            except _MET_ANOTHER as error:
                attempts += 1
                if attempts == _RETRIES_LIMIT:
                    raise CatalogueUnavailable(
                        self._name, f"{attempts} attempts met others: {error}"
                    ) from error
                metrics.RETRIES.labels(self._name).inc()
            else:
                metrics.COMMITS.labels(self._name).inc()
                return outcomes

    async def _transaction(self, changes: Sequence[Change]) -> Sequence[Met | None]:
        lent = self._changing.lent(passing=(*_MET_ANOTHER, *_AT_FAULT))
        async with lent as connection:
            added = await new_rows.add(
                connection,
                changes,
                part=self._part,
                expected=self._changing.expected,
                standings=self._standings,
            )
            if added is not None:
                return added
            return await make(
                connection,
                changes,
                part=self._part,
                check=self._changing.check,
                standings=self._standings,
            )
