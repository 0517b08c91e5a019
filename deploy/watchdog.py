"""Ends a process that has stopped answering, so that it is started again.

A process that dies is noticed by its parent. One that hangs (stopped, or waiting for ever) is not: it keeps
its port, its lease and the associations that were given to it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Final

import structlog

from cluster.coordination.registry import RegistryUnavailable
from deploy import pages

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cluster.coordination.registry import Member, Registry
    from deploy.child import Child

INTERVAL_S: Final = 2.0
ANSWER_TIMEOUT_S: Final = 5.0
SILENCES: Final = 3
"""How often in a row a process may leave `/healthz` unanswered."""

log = structlog.get_logger()


class Watchdog:
    """Asks each process that announces itself for its `/healthz`.

    Parameters
    ----------
    registry : Registry
    children : mapping of str to Child
        The processes that may be ended, by name.
    """

    def __init__(self, registry: Registry, children: Mapping[str, Child]) -> None:
        self._registry = registry
        self._children = children
        self._silences: Counter[int] = Counter()

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            try:
                members = await self._registry.members()
            except RegistryUnavailable as error:
                log.warning("watchdog.blind", reason=str(error))
                continue
            await self.look_at([member for member in members if member.name in self._children])

    async def look_at(self, members: Sequence[Member]) -> None:
        """Ask all of them once, and end who has been silent too often."""
        answers = await asyncio.gather(*map(_answers, members))
        for member, answered in zip(members, answers, strict=True):
            if answered:
                del self._silences[member.pid]
                continue
            self._silences[member.pid] += 1
            if self._silences[member.pid] >= SILENCES:
                log.error("process.hangs", name=member.name, process_id=member.pid)
                self._children[member.name].end_hung(member.pid)


async def _answers(member: Member) -> bool:
    try:
        await pages.fetch(member.http, "/healthz", timeout_s=ANSWER_TIMEOUT_S)
    except pages.NoPage:
        return False
    return True
