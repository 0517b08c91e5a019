"""A catalogue in an SQLite file: one thread writes, others read, several processes share it."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias, TypeVar, cast

from cluster.nouns import Debt, Fact, FactKind, Instance, SiteIdentity
from storage_node.catalogue import metrics, pages
from storage_node.catalogue.columns import matched_in_instance
from storage_node.catalogue.feed import Change
from storage_node.catalogue.find import Page
from storage_node.catalogue.matching import Query
from storage_node.catalogue.protocol import (
    CatalogueUnavailable,
    Counts,
    Entry,
    Match,
    Met,
    Row,
    StudySummary,
)
from storage_node.catalogue.sqlite import database, read, write
from storage_node.catalogue.sqlite.database import DatabaseFile
from storage_node.catalogue.sqlite.find import Find
from storage_node.catalogue.sqlite.threads import Outcome, WorkThread

T = TypeVar("T")

_Work: TypeAlias = Callable[[sqlite3.Connection], object]

_CHANGES_AT_ONCE: Final = 256
_LOOKUPS_AT_ONCE: Final = 32
_QUEUE_LIMIT: Final = 4096


class SqliteCatalogue:
    """One site's index in one file.

    Nothing fails before something is asked; then everything raises `CatalogueUnavailable` until the file is
    there with the expected identity. Changes that come while a transaction is committed share the next one.

    Parameters
    ----------
    name : str
        Name of the site.
    file : Path
        Made by `create`.
    expected : SiteIdentity
        What the file must say that it is.
    """

    def __init__(self, name: str, file: Path, expected: SiteIdentity) -> None:
        self._name = name
        self._written = DatabaseFile(name, file, expected)
        self._writer: WorkThread[_Work] = WorkThread(
            f"catalogue-{name}-writer",
            self._commit,
            at_once=_CHANGES_AT_ONCE,
            queue_limit=_QUEUE_LIMIT,
            at_end=self._written.close,
        )
        # A find may take long: what is looked up by its key has a thread of its own.
        self._lookups = self._reader("lookups", DatabaseFile(name, file, expected), at_once=_LOOKUPS_AT_ONCE)
        self._finds = self._reader("finds", DatabaseFile(name, file, expected), at_once=1)

    @classmethod
    def create(cls, file: Path, identity: SiteIdentity) -> None:
        """Make an empty catalogue, durably. Harmless when it was made already.

        Raises
        ------
        FileExistsError
            The file holds something else, or another site's catalogue.
        OSError
        """
        database.create(file, identity)

    @property
    def name(self) -> str:
        """Name of the site."""
        return self._name

    async def add(self, row: Row, debts: Sequence[Debt] = (), *, verified_at: datetime) -> Met:
        """Add a row, and debts with it, in one durable transaction (shared with concurrent calls)."""
        matched_in_instance(row.header)  # here, once: the threads of all sites find it in the cache

        def work(connection: sqlite3.Connection) -> Met:
            met = write.add(connection, row, verified_at)
            write.owe(connection, debts)
            return met

        return await self._do(self._writer, work)

    async def decide(self, fact: Fact, debts: Sequence[Debt] = ()) -> None:
        """Add a fact, and debts with it, in one durable transaction (shared with concurrent calls)."""

        def work(connection: sqlite3.Connection) -> None:
            write.decide(connection, fact)
            write.owe(connection, debts)

        await self._do(self._writer, work)

    async def owe(self, debts: Sequence[Debt]) -> None:
        """Add debts, durably."""
        await self._do(self._writer, partial(write.owe, debts=debts))

    async def settle(self, site: str, held: Row) -> None:
        """Remove the debt of a site that holds a version by now, unless the row here is newer."""
        await self._do(self._writer, partial(write.settle, site=site, held=held))

    async def forgive(self, debt: Debt) -> None:
        """Remove a debt of a fact."""
        await self._do(self._writer, partial(write.forgive, debt=debt))

    async def debts(self, limit: int, *, site: str | None = None) -> Sequence[Debt]:
        """Return the debts noted here, the oldest first: those that `site` is owed, or all."""
        return await self._do(self._lookups, partial(read.debts, site=site, limit=limit))

    async def rows_of(self, instance: Instance) -> Sequence[Row]:
        """Return the rows of all versions of an instance, the current one first."""
        return await self._do(self._lookups, partial(read.rows_of, instance=instance))

    async def facts_of(self, instance: Instance) -> Sequence[Fact]:
        """Return all facts about an instance, the one that holds first."""
        return await self._do(self._lookups, partial(read.facts_of, instance=instance))

    async def facts_in(self, study_instance_uid: str) -> Sequence[Fact]:
        """Return all facts about a study's instances, by instance, the one that holds first."""
        return await self._do(self._lookups, partial(read.facts_in, study=study_instance_uid))

    async def verified(self, copies: Sequence[tuple[Instance, str]], at: datetime) -> None:
        """Note that the copies of these versions here were read and found right."""
        await self._do(self._writer, partial(write.verified, copies=copies, at=at))

    async def least_verified(self, before: datetime, limit: int) -> Sequence[Entry]:
        """Return the entries whose copies were last verified before then, the longest ago first."""
        return await self._do(self._lookups, partial(read.least_verified, before=before, limit=limit))

    def find(
        self, query: Query, limit: int, *, looked: Callable[[], None] | None = None
    ) -> AsyncGenerator[Match]:
        """Return what matches, ordered by `Match.uid`, at most `limit`; read in pages."""
        find = Find(query)

        def page(after: tuple[str, ...] | None, size: int) -> Awaitable[Page]:
            return self._do(self._finds, partial(find.page, after=after, size=size))

        return pages.matches(page, limit, looked)

    def walk(self, study_instance_uid: str | None = None) -> AsyncGenerator[Entry]:
        """Return an entry for every version held, or for those of a study, by instance, then digest."""

        def page(after: Entry | None, size: int) -> Awaitable[Sequence[Entry]]:
            return self._do(self._finds, partial(read.walk, study=study_instance_uid, after=after, size=size))

        return pages.entries(page)

    def studies(self) -> AsyncGenerator[StudySummary]:
        """Return a summary of every study of which there is a row or a fact, ordered by UID."""

        def page(after: str, size: int) -> Awaitable[Sequence[StudySummary]]:
            return self._do(self._finds, partial(read.studies, after=after, size=size))

        return pages.summaries(page)

    async def changes(self, after: str | None, limit: int) -> Sequence[Change]:
        """Return the versions and facts that came after a cursor, in the order in which they came."""
        return await self._do(self._finds, partial(read.changes, after=after, limit=limit))

    def ruled(self, kind: FactKind, *, after: str = "") -> AsyncGenerator[Fact]:
        """Return the facts of a kind that hold, by subject; of studies whose UID is after `after`."""

        def page(place: tuple[str, str, str], size: int) -> Awaitable[Sequence[Fact]]:
            return self._do(self._finds, partial(read.ruled, kind=kind, after=place, size=size))

        return pages.facts(page, after)

    async def counts(self) -> Counts:
        """Return how much is held."""
        return await self._do(self._finds, read.counts)

    async def identity(self) -> SiteIdentity:
        """Read which site this is: a light probe, too."""
        identity = await self._do(self._lookups, database.read_identity)
        if identity is None:
            raise CatalogueUnavailable(self._name, "it has lost its identity")
        return identity

    async def close(self) -> None:
        """Let go of handles and threads, after what was asked is done."""
        for thread in (self._writer, self._lookups, self._finds):
            await thread.close()

    async def _do(self, thread: WorkThread[_Work], work: Callable[[sqlite3.Connection], T]) -> T:
        if thread.is_full:
            raise CatalogueUnavailable(self._name, f"{_QUEUE_LIMIT} calls are waiting for it")
        return cast("T", await thread.do(work))

    def _reader(self, name: str, file: DatabaseFile, *, at_once: int) -> WorkThread[_Work]:
        return WorkThread(
            f"catalogue-{self._name}-{name}",
            partial(_read, file),
            at_once=at_once,
            queue_limit=_QUEUE_LIMIT,
            at_end=file.close,
        )

    def _commit(self, works: Sequence[_Work]) -> Sequence[Outcome]:
        """Make changes in one transaction; confirmed only if the file still is where it should be."""
        try:
            with (
                self._written.opened() as connection,
                self._written.locked(),
                metrics.COMMIT_SECONDS.labels(self._name).time(),
            ):
                outcomes = _transaction(connection, works, self._written.check)
        except Exception as error:  # handed to who asked: the thread must outlive it
            metrics.FAILURES.labels(self._name).inc()
            if isinstance(error, CatalogueUnavailable) or len(works) == 1:
                return [error] * len(works)
            # One of the changes is at fault: the others are not to suffer for it.
            return [outcome for work in works for outcome in self._commit([work])]
        metrics.COMMITS.labels(self._name).inc()
        return outcomes


def _read(file: DatabaseFile, works: Sequence[_Work]) -> Sequence[Outcome]:
    try:
        with file.opened() as connection:
            return [work(connection) for work in works]
    except Exception as error:  # handed to who asked: the thread must outlive it
        if len(works) == 1:
            return [error]
        # One of them is at fault: the others are not to suffer for it.
        return [outcome for work in works for outcome in _read(file, [work])]


def _transaction(
    connection: sqlite3.Connection, works: Sequence[_Work], check: Callable[[], None]
) -> Sequence[Outcome]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        outcomes = [work(connection) for work in works]
        check()
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    return outcomes
