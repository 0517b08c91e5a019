"""A site's change feed, followed: every version and fact that comes there, and studies that are complete.

Each is told at least once. Who saves `Told.cursor` when he has dealt with what it came with, and begins anew
from there, is told all that he was not told before, and some of it again.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypeAlias

from cluster.nouns import Level
from storage_node.catalogue.feed import Added, Change
from storage_node.catalogue.matching import by_uids
from storage_node.grid.sites import SiteFailed
from storage_node.upkeep.open_studies import OpenStudies

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence

    from storage_node.catalogue.protocol import Catalogue
    from storage_node.grid.grid import Grid

PAGE: Final = 1000
"""Changes that are read at once, and studies that are said to be complete at once."""

_COUNTED_AT_ONCE: Final = 250


@dataclass(frozen=True, slots=True)
class StudyComplete:
    """No new version of a study came to the site for the set time. If more comes, it is complete again."""

    study_instance_uid: str
    instances: int
    """Number of its SOP instances at the site that are not hidden."""
    last_received_at: datetime
    """When the cluster received the latest of what was read of it."""


Event: TypeAlias = Change | StudyComplete


@dataclass(frozen=True, slots=True)
class Told:
    """One event, and from where to go on after it."""

    what: Event
    cursor: str | None
    """To be saved once this was dealt with. Of the studies that are not complete yet, none is lost; so it may
    lie before the change itself, by what came in the set time at most. None is the beginning."""


def _now() -> datetime:
    return datetime.now(UTC)


class Following:
    """Reads a feed page by page, and tells which studies are complete.

    A study is complete when all that came was read, and nothing of it had come for the set time. That time
    runs from when its last version was read; but from when it was received, for those that were there when
    the reading began: who is often begun anew is not to wait anew for each.

    Parameters
    ----------
    after : str or None
        Where to begin: a cursor that was saved; None for the beginning.
    complete_after_s : float or None
        The set time. None if nobody asks for studies: `Told.cursor` is the change's own then.
    now : callable
        Returns the time, aware.
    monotonic : callable
        Returns the time in seconds, which nobody sets.
    """

    def __init__(
        self,
        after: str | None = None,
        *,
        complete_after_s: float | None = None,
        now: Callable[[], datetime] = _now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._after = after
        self._open = None if complete_after_s is None else OpenStudies(complete_after_s)
        self._now = now
        self._monotonic = monotonic
        self._is_past = True
        self.at_end = False
        """Whether there was no more to tell, the last time."""

    async def poll(self, catalogue: Catalogue) -> Sequence[Told]:
        """Read what comes next, a page at most. What fails is done again the next time: nothing is lost.

        Raises
        ------
        CatalogueUnavailable
        """
        asked_s = self._monotonic()
        changes = await catalogue.changes(self._after, PAGE)
        is_end = len(changes) < PAGE
        told = list(self._told(changes))
        after = changes[-1].cursor if changes else self._after
        completed = await self._completed(catalogue, after, asked_s, is_end=is_end)
        self._after = after
        self._is_past = self._is_past and not is_end
        self.at_end = is_end and len(completed) < PAGE
        return [*told, *completed]

    def _told(self, changes: Sequence[Change]) -> Iterator[Told]:
        read_s, read_at = self._monotonic(), self._now()
        before = self._after
        for change in changes:
            if self._open is not None and isinstance(change.what, Added):
                received_at = change.what.provenance.received_at
                # A clock that is ahead of ours must not let a study wait for longer than the set time.
                age_s = max(0.0, (read_at - received_at).total_seconds()) if self._is_past else 0.0
                self._open.came(
                    change.instance.study_instance_uid,
                    before=before,
                    received_at=received_at,
                    quiet_since_s=read_s - age_s,
                )
            before = change.cursor
            yield Told(change, before if self._open is None else self._open.resume(before))

    async def _completed(
        self, catalogue: Catalogue, after: str | None, asked_s: float, *, is_end: bool
    ) -> Sequence[Told]:
        """Close the studies of which nothing had come for long enough when the page was asked for."""
        if self._open is None:
            return []
        quiet = self._open.quiet(asked_s, limit=PAGE, is_end=is_end)
        instances = await _instances(catalogue, quiet)
        told = []
        for study in quiet:
            complete = StudyComplete(study, instances.get(study, 0), self._open.close(study))
            told.append(Told(complete, self._open.resume(after)))
        return told


async def _instances(catalogue: Catalogue, studies: Sequence[str]) -> Mapping[str, int]:
    """Count the instances of studies that are not hidden."""
    counted: dict[str, int] = {}
    for begin in range(0, len(studies), _COUNTED_AT_ONCE):
        some = studies[begin : begin + _COUNTED_AT_ONCE]
        async with aclosing(catalogue.find(by_uids(study=some, level=Level.STUDY), len(some))) as found:
            counted |= {match.uid[0]: match.instances async for match in found}
    return counted


async def read(grid: Grid, name: str, following: Following) -> Sequence[Told]:
    """Read the next page of a site's feed. Its catalogue is asked also while its objects are away.

    Raises
    ------
    SiteFailed
        Nothing is lost: it can be read again.
    """
    site = grid.sites[name]
    return await grid.sites.ask(site, following.poll(site.catalogue), even_down=True)


async def follow(
    grid: Grid,
    name: str,
    following: Following,
    *,
    poll_interval_s: float,
    noted: Callable[[SiteFailed | None], None],
) -> AsyncGenerator[Told]:
    """Yield what comes to a site, for ever. While it is away nothing comes, and no study is complete.

    Parameters
    ----------
    grid : Grid
    name : str
        Of the site.
    following : Following
    poll_interval_s : float
        How long to wait when there was no more.
    noted : callable
        Told after each reading why it failed; None if it did not.
    """
    while True:
        try:
            told = await read(grid, name, following)
        except SiteFailed as failed:
            noted(failed)
        else:
            noted(None)
            for one in told:
                yield one
            if not following.at_end:
                continue
        await asyncio.sleep(poll_interval_s)
