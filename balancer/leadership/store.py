"""What a key of the cluster's store is now, for as long as the store answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import structlog

from cluster.coordination.protocol import Compacted, Coordination, CoordinationUnavailable, Snapshot

log = structlog.get_logger()


async def follow(
    coordination: Coordination, prefix: str, pause_s: float
) -> AsyncGenerator[Snapshot | None, None]:
    """Yield all keys below a prefix at once and after each change; None each time the store gives no answer.

    It never ends. After each None it tries again once `pause_s` has passed.
    """
    while True:
        try:
            state = await coordination.read(prefix)
            yield state
            async for changes in coordination.watch(prefix, state.revision):
                entries = dict(state.entries)
                for change in changes:
                    if change.entry is None:
                        entries.pop(change.key, None)
                    else:
                        entries[change.key] = change.entry
                state = Snapshot(changes[-1].revision, entries)
                yield state
        except Compacted:
            continue
        except CoordinationUnavailable as error:
            log.debug("leadership.store_away", prefix=prefix, why=str(error))
            yield None
            await asyncio.sleep(pause_s)
