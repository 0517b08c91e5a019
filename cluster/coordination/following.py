"""What is below a prefix of the store, now and after each change, however often the store is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Final

import structlog

from cluster.coordination.protocol import (
    Change,
    Compacted,
    Coordination,
    CoordinationUnavailable,
    Entry,
    Snapshot,
)

log = structlog.get_logger()

_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 2.0
"""Between two tries while the store is away, where the caller wants no other."""


async def follow(
    coordination: Coordination, prefix: str, *, longest_pause_s: float = _LONGEST_PAUSE_S
) -> AsyncGenerator[Snapshot]:
    """Yield the present state at once, then the state after each change.

    Neither ends nor raises while the store is away: it says so in the log, once for each outage, tries
    again, and goes on with the state that it finds then. So what was yielded last always becomes the truth.

    Parameters
    ----------
    coordination : Coordination
    prefix : str
        What the keys begin with.
    longest_pause_s : float
        How long nobody is asked, at most, while the store is away, in seconds.
    """
    async with aclosing(sightings(coordination, prefix, longest_pause_s=longest_pause_s)) as seen:
        async for snapshot in seen:
            if snapshot is not None:
                yield snapshot


async def sightings(
    coordination: Coordination, prefix: str, *, longest_pause_s: float = _LONGEST_PAUSE_S
) -> AsyncGenerator[Snapshot | None]:
    """Do what `follow` does, and yield None besides when the store goes out of sight."""
    pause_s = _FIRST_PAUSE_S
    away = False
    while True:
        try:
            async with aclosing(_until_it_is_away(coordination, prefix)) as states:
                async for snapshot in states:
                    if away:
                        log.info("coordination.back", prefix=prefix)
                    pause_s, away = _FIRST_PAUSE_S, False
                    yield snapshot
        except CoordinationUnavailable as error:
            if not away:
                log.warning("coordination.away", prefix=prefix, error=str(error))
                away = True
                yield None
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, longest_pause_s)


async def _until_it_is_away(coordination: Coordination, prefix: str) -> AsyncGenerator[Snapshot]:
    """Yield state after state, reading all of it anew where the history that leads on from it is no more."""
    while True:
        snapshot = await coordination.read(prefix)
        yield snapshot
        try:
            async with aclosing(coordination.watch(prefix, snapshot.revision)) as watch:
                async for changes in watch:
                    snapshot = _changed(snapshot, changes)
                    yield snapshot
        except Compacted as error:
            log.info("coordination.read_anew", prefix=prefix, reason=str(error))


def _changed(snapshot: Snapshot, changes: Sequence[Change]) -> Snapshot:
    entries: dict[str, Entry] = dict(snapshot.entries)
    for change in changes:
        if change.entry is None:
            entries.pop(change.key, None)
        else:
            entries[change.key] = change.entry
    ordered: Mapping[str, Entry] = dict(sorted(entries.items()))
    return Snapshot(changes[-1].revision, ordered)
