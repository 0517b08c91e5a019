"""What is counted of the entities above those that a query finds (PS3.4 C.6.1.1, C.6.2.1).

A study's answer may say how many studies its patient has, and that of an instance how many its series has.
They are looked up when somebody asks for them, once for each.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from cluster.nouns import Level
from storage_node.catalogue.corrections import values_of
from storage_node.catalogue.matching import by_uids
from storage_node.catalogue.views import patient_key
from storage_node.services.answers import COUNTED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from storage_node.catalogue.matching import Query, Request
    from storage_node.catalogue.protocol import Match
    from storage_node.grid.grid import Grid

_LEVELS: Final = tuple(Level)
_REMEMBERED: Final = 1000
"""Entities whose counts are kept while a query is answered."""


class Above:
    """Looks up what is counted above the matches of one query.

    Parameters
    ----------
    grid : Grid
    request : Request
    limit : int
        Patients of one Patient ID that are looked through at most.
    """

    def __init__(self, grid: Grid, request: Request, limit: int) -> None:
        self._grid = grid
        self._limit = limit
        upper = _LEVELS[: _LEVELS.index(request.query.level)]
        self._levels = [level for level in upper if not COUNTED[level].isdisjoint(request.requested)]
        self._found: OrderedDict[tuple[Level, str], Match | None] = OrderedDict()

    async def of(self, match: Match) -> Mapping[Level, Match]:
        """Return the entities above a match of which something that is counted was asked for.

        Raises
        ------
        NoCatalogue
        """
        found = {level: await self._entity(level, match) for level in self._levels}
        return {level: entity for level, entity in found.items() if entity is not None}

    async def _entity(self, level: Level, match: Match) -> Match | None:
        instance = match.version.instance
        study, series = instance.study_instance_uid, instance.series_instance_uid
        match level:
            case Level.PATIENT:
                values = values_of(match.header, match.corrected)
                uid, patient_id = patient_key(study, values), values["patient_id"]
                if patient_id is None:
                    # A patient of its own (`patient_key`).
                    return await self._remembered(level, study, by_uids(study=(study,), level=Level.STUDY))
                return await self._remembered(level, uid, by_uids(patient_id=patient_id, level=level))
            case Level.STUDY:
                return await self._remembered(level, study, by_uids(study=(study,), level=level))
            case _:
                return await self._remembered(
                    level, series, by_uids(study=(study,), series=(series,), level=level)
                )

    async def _remembered(self, level: Level, uid: str, query: Query) -> Match | None:
        """Return the entity of a query whose own UID, the last one, is this; None where there is no such."""
        key = level, uid
        if key not in self._found:
            if len(self._found) == _REMEMBERED:
                self._found.popitem(last=False)
            self._found[key] = await self._find(uid, query)
        return self._found[key]

    async def _find(self, uid: str, query: Query) -> Match | None:
        finding = self._grid.find(query, self._limit)
        try:
            async for match in finding:
                if match.uid[-1] == uid:
                    return match
        finally:
            await finding.aclose()
        return None
