"""One catalogue's part in a find: its answers, read some at a time, and what it knows besides."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from cluster.nouns import Level
from storage_node.catalogue.matching import Query, by_uids
from storage_node.catalogue.protocol import CatalogueUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from cluster.nouns import Fact, Instance
    from storage_node.catalogue.protocol import Catalogue, Entry, Match, Row

_READ_AHEAD: Final = 100


class StreamFailed(Exception):
    """A catalogue failed, or took too long; the message says why."""

    def __init__(self, stream: Stream, reason: str) -> None:
        super().__init__(reason)
        self.stream = stream
        self.reason = reason


class Stream:
    """One catalogue's answers to a query.

    Parameters
    ----------
    catalogue : Catalogue
    query : Query
    after : tuple of str
        What the answers begin behind: their `Match.uid` is greater.
    timeout_s : float
        How long the catalogue may take to its next answer, or to its next page without any.

    Attributes
    ----------
    waiting : deque of Match
        Answers that were read, and not taken.
    at_end : bool
        Whether no more will be read.
    """

    def __init__(self, catalogue: Catalogue, query: Query, after: tuple[str, ...], timeout_s: float) -> None:
        self.catalogue = catalogue
        self.waiting: deque[Match] = deque()
        self.at_end = False
        # What is hidden counts against no limit, and only all catalogues together know what is.
        self._answers = catalogue.find(query, sys.maxsize, looked=self._go_on)
        self._level = query.level
        self._after = after
        self._timeout_s = timeout_s
        self._limit: asyncio.Timeout | None = None
        self._known: tuple[tuple[str, ...], Mapping[tuple[str, ...], Match]] = ((), {})
        self._facts: tuple[str, Sequence[Fact]] = ("", ())

    @property
    def name(self) -> str:
        """Name of the site."""
        return self.catalogue.name

    async def read(self) -> StreamFailed | None:
        """Read some answers, or the end; return why that failed, if it did."""
        try:
            async with self._limited() as self._limit:
                async for match in self._answers:
                    if match.uid <= self._after:
                        self._go_on()
                        continue
                    self.waiting.append(match)
                    if len(self.waiting) == _READ_AHEAD:
                        return None
        except StreamFailed as failure:
            return failure
        self.at_end = True
        return None

    async def known(self, uid: tuple[str, ...]) -> Match | None:
        """Return what the catalogue says of an entity below the patients, though the query does not match it.

        Raises
        ------
        StreamFailed
        """
        place = uid[:2]
        if self._known[0] != place:
            query = by_uids(study=place[:1], series=place[1:], level=self._level)
            async with self._limited():
                found = {match.uid: match async for match in self.catalogue.find(query, sys.maxsize)}
            self._known = place, found
        return self._known[1].get(uid)

    async def facts(self, uid: tuple[str, ...]) -> Sequence[Fact]:
        """Return the facts that the catalogue has about what is in an entity below the patients.

        Raises
        ------
        StreamFailed
        """
        return [fact for fact in await self._facts_in(uid[0]) if _uid(fact)[: len(uid)] == uid]

    async def facts_of(self, subject: Instance) -> Sequence[Fact]:
        """Return the facts that the catalogue has about a subject.

        Raises
        ------
        StreamFailed
        """
        if subject.level is not Level.PATIENT:
            return [
                fact for fact in await self._facts_in(subject.study_instance_uid) if fact.instance == subject
            ]
        async with self._limited():
            return await self.catalogue.facts_of(subject)

    async def entries(self, study: str) -> Sequence[Entry]:
        """Return an entry for every version that the catalogue holds of a study.

        Raises
        ------
        StreamFailed
        """
        async with self._limited():
            return [entry async for entry in self.catalogue.walk(study)]

    async def rows(self, instance: Instance) -> Sequence[Row]:
        """Return the rows that the catalogue holds of an instance.

        Raises
        ------
        StreamFailed
        """
        async with self._limited():
            return await self.catalogue.rows_of(instance)

    async def _facts_in(self, study: str) -> Sequence[Fact]:
        if self._facts[0] != study:
            async with self._limited():
                self._facts = study, await self.catalogue.facts_in(study)
        return self._facts[1]

    async def close(self) -> None:
        """Stop asking."""
        await self._answers.aclose()

    def _go_on(self) -> None:
        """Give the catalogue its time again: it has read a page, though nothing in it may have matched."""
        if self._limit is not None:
            self._limit.reschedule(asyncio.get_running_loop().time() + self._timeout_s)

    @asynccontextmanager
    async def _limited(self) -> AsyncIterator[asyncio.Timeout]:
        try:
            async with asyncio.timeout(self._timeout_s) as limit:
                yield limit
        except CatalogueUnavailable as error:
            raise StreamFailed(self, error.reason) from error
        except TimeoutError as error:
            raise StreamFailed(self, f"no answer within {self._timeout_s:g} s") from error


def _uid(fact: Fact) -> tuple[str, ...]:
    instance = fact.instance
    return instance.study_instance_uid, instance.series_instance_uid, instance.sop_instance_uid
