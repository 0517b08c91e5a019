"""What a process knows of which versions stand for series and studies, from when it last read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from storage_node.catalogue.postgresql.difference import First

_LIMIT: Final = 4096
"""Series and studies, from which on all is forgotten: those that get rows are read again."""


class Standings:
    """By what versions stood for series and studies when that was last read: whether a call is worth trying.

    It may be out of date: the function in the database looks again.
    """

    def __init__(self) -> None:
        self._ranks: dict[tuple[str, str], str] = {}

    def learn(self, ranks: Mapping[tuple[str, str], str]) -> None:
        """Take note of what was read: by study and series, and by study and nothing."""
        if len(self._ranks) > _LIMIT:
            self._ranks.clear()
        self._ranks.update(ranks)

    def stay(self, new: First) -> bool:
        """Return whether others stand for the series and the study of a row, and go on to."""
        study, series = new.difference.series
        above = (self._ranks.get((study, series)), self._ranks.get((study, "")))
        return all(rank is not None and rank <= new.rank for rank in above)
