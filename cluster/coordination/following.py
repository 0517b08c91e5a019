"""The keys below a prefix, as they are now and after each change, through outages of the store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import structlog

from cluster.coordination.protocol import Compacted, Coordination, CoordinationUnavailable, Snapshot

_FIRST_PAUSE_S: Final = 0.1
_LAST_PAUSE_S: Final = 2.0

log = structlog.get_logger()


async def follow(coordination: Coordination, prefix: str) -> AsyncGenerator[Snapshot]:
    """Yield all keys that begin with `prefix`: at once, and after each change."""
    pause_s = _FIRST_PAUSE_S
    said = False
    while True:
        try:
            snapshot = await coordination.read(prefix)
            yield snapshot
            pause_s, said = _FIRST_PAUSE_S, False
            entries = dict(snapshot.entries)
            async with aclosing(coordination.watch(prefix, snapshot.revision)) as watching:
                async for changes in watching:
                    for change in changes:
                        if change.entry is None:
                            entries.pop(change.key, None)
                        else:
                            entries[change.key] = change.entry
                    yield Snapshot(changes[-1].revision, dict(entries))
        except Compacted:
            continue
        except CoordinationUnavailable as error:
            if not said:
                log.warning("coordination.unavailable", prefix=prefix, why=str(error))
                said = True
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LAST_PAUSE_S)
