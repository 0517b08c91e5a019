"""A find by keys of levels below the one that is asked for (PS3.4 C.4.1.2.2.1, relational queries).

What is below is looked for by all keys, and each entity of the level asked for is told once, when the first
of what is below it was found.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from cluster.nouns import Level
from storage_node.catalogue.corrections import values_of
from storage_node.catalogue.matching import by_uids
from storage_node.catalogue.views import patient_key

if TYPE_CHECKING:
    from storage_node.catalogue.matching import Query
    from storage_node.catalogue.protocol import Match
    from storage_node.grid.find import Finding

_WIDTHS = {Level.PATIENT: 0, Level.STUDY: 1, Level.SERIES: 2}
"""How many UIDs of what is below name an entity; a patient has another key."""


class RelatedFinding:
    """The entities that have something below them which keys of lower levels match: an asynchronous iterator.

    Parameters
    ----------
    find : callable
        Asks the catalogues for a query of one level, with a limit.
    query : Query
        With keys `below`.
    limit : int
    """

    def __init__(self, find: Callable[[Query, int], Finding], query: Query, limit: int) -> None:
        self.complete = True
        """Whether enough catalogues answered all that was asked so far."""
        self._find = find
        self._query = query
        self._limit = limit
        self._answers = self._merge()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Match:
        """Return the next match.

        Raises
        ------
        NoCatalogue
            None answers, or none goes on: what was returned so far may not be all.
        """
        return await anext(self._answers)

    async def aclose(self) -> None:
        """Stop asking."""
        await self._answers.aclose()

    async def _merge(self) -> AsyncGenerator[Match]:
        told: set[tuple[str, ...]] = set()
        left = self._limit
        async with aclosing(self._find(self._query.of_what_is_below(), sys.maxsize)) as parts:
            async for part in parts:
                uid = self._entity(part)
                if uid in told:
                    continue
                told.add(uid)
                async with aclosing(self._find(self._of_entity(uid), sys.maxsize)) as entities:
                    async for match in entities:
                        if match.uid == uid:
                            left -= 1
                            yield match
                    self.complete &= entities.complete
                self.complete &= parts.complete
                if not left:
                    return
            self.complete &= parts.complete

    def _entity(self, part: Match) -> tuple[str, ...]:
        """Return what identifies the entity that something below belongs to."""
        if self._query.level is Level.PATIENT:
            return (patient_key(part.uid[0], values_of(part.header, part.corrected)),)
        return part.uid[: _WIDTHS[self._query.level]]

    def _of_entity(self, uid: tuple[str, ...]) -> Query:
        level = self._query.level
        if level is Level.PATIENT:
            patient_id, _, study = uid[0].partition("\n")
            named = by_uids(patient_id=patient_id) if patient_id else by_uids(study=(study,))
        else:
            named = by_uids(study=uid[:1], series=uid[1:])
        return replace(self._query, keys=(*named.keys, *self._query.keys), below=())
