"""Which studies are still coming, as one who reads a change feed can tell. Time is passed in."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

OPEN_LIMIT: Final = 10_000
"""Studies that are kept open while much of the feed is still to be read: past it, the first ones that have
been quiet for long enough are let go of. More of them may come yet, and they are open again."""


@dataclass(frozen=True, slots=True)
class _Open:
    before: str | None
    """Cursor before its last version."""
    quiet_since_s: float
    received_at: datetime


class OpenStudies:
    """Studies of which a version came lately, in the order of the last that came of each.

    Where a reader begins anew before the last version of each of them, he finds all of them again.

    Parameters
    ----------
    complete_after_s : float
        How long nothing must have come of a study.
    """

    def __init__(self, complete_after_s: float) -> None:
        self._complete_after_s = complete_after_s
        self._open: dict[str, _Open] = {}

    def came(
        self, study_instance_uid: str, *, before: str | None, received_at: datetime, quiet_since_s: float
    ) -> None:
        """Note a version of a study, the last one for now.

        Parameters
        ----------
        study_instance_uid : str
        before : str or None
            Cursor before that version; None for the beginning.
        received_at : datetime
        quiet_since_s : float
            Since when nothing else has come of it.
        """
        known = self._open.pop(study_instance_uid, None)
        latest = received_at if known is None else max(received_at, known.received_at)
        self._open[study_instance_uid] = _Open(before, quiet_since_s, latest)

    def quiet(self, at_s: float, *, limit: int, is_end: bool) -> Sequence[str]:
        """Return studies of which nothing had come for long enough at a time, at most `limit`.

        Parameters
        ----------
        at_s : float
        limit : int
        is_end : bool
            Whether all that had come by then was read.
        """
        concerned = len(self._open) if is_end else max(0, len(self._open) - OPEN_LIMIT)
        quiet = (
            study
            for study, last in islice(self._open.items(), concerned)
            if at_s - last.quiet_since_s >= self._complete_after_s
        )
        return list(islice(quiet, limit))

    def close(self, study_instance_uid: str) -> datetime:
        """Let go of a study; return when the last of it that came was received."""
        return self._open.pop(study_instance_uid).received_at

    def resume(self, cursor: str | None) -> str | None:
        """Return the cursor from which all that are open are found again, when all to `cursor` was read."""
        oldest = next(iter(self._open.values()), None)
        return cursor if oldest is None else oldest.before
