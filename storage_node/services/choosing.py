"""Which version of an instance is current is decided before the sender of another is told of success.

The plain rule is that the newest is. A fact is needed only where that would be wrong: where the pixels of the
newest are others, or fewer, or nobody can tell (`grid.choices`). Once a person has chosen, nothing is decided
by itself any more: what came since is shown among the conflicts.

Where the instance had been deleted, what is sent then is current, whatever was there before or was chosen of
it: that was in no answer any more, and its bytes may be gone.

A version that is stored again decides nothing, but what was decided is written again: perhaps it never got
to W sites.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog
from prometheus_client import Counter

from cluster.nouns import FactKind, Topic
from storage_node.catalogue.views import chosen, currency, ruling
from storage_node.grid.choices import (
    AUTOMATIC,
    UNDECIDED,
    Relation,
    details,
    in_order,
    name,
    relation_of,
    seen,
    severest,
)
from storage_node.grid.read import NoCopy
from storage_node.grid.write import NotEnoughSites
from storage_node.services.contents import Content, LargeContent, content_of, relation
from storage_node.services.parsed import NotReadable, parse
from storage_node.services.status import Refusal, Status

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from cluster.nouns import Fact, Version
    from cluster.settings.live import LiveSettings
    from storage_node.catalogue.protocol import Row
    from storage_node.grid.arrival import Stored
    from storage_node.grid.grid import Grid
    from storage_node.services.budget import Budget

_CONFLICTS = Counter("atria_conflicts_total", "Versions that came in conflict with another", ["relation"])

_COMPARED: Final = 8
"""Versions of one instance that are compared where none was chosen so far: the newest."""
_HELD: Final = 3
"""How many times its size a version may need in memory while it is looked at."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Choosing:
    """Classifies the versions of an instance."""

    grid: Grid
    live: LiveSettings
    budget: Budget

    async def classify(self, stored: Stored) -> None:
        """See to it that the right version is current, now that one was stored.

        Raises
        ------
        Refusal
            It was not decided: too few sites can be asked, or take it.
        """
        if stored.order == 1 and not stored.met_deleted:
            return
        try:
            await self._classify(stored.version, met_deleted=stored.met_deleted)
        except NotEnoughSites as error:
            raise Refusal(Status.OUT_OF_RESOURCES, f"no version chosen: {error}") from error

    async def _classify(self, new: Version, *, met_deleted: bool) -> None:
        instance = new.instance
        rows = in_order(await self.grid.rows_of(instance))
        if len(rows) == 1:
            return
        if met_deleted:
            await self._choose(new, [name(row.version) for row in rows], Relation.AFTER_DELETION)
            return
        known = await self.grid.facts_at_sites(instance)
        held = ruling((fact for facts in known.values() for fact in facts), Topic.CHOICE)
        if held is not None:
            if relation_of(held) is None:
                if name(new) not in seen(held):
                    _tell(UNDECIDED, held)
                return
            if name(new) in seen(held):
                await self.grid.decide(
                    instance, held.kind, by=held.decided_by, reason=held.reason, details=held.details
                )
                return
        current, why = await self._current(rows, new, held)
        if held is None and current is rows[-1]:
            return
        judged = (*seen(held), name(new)) if held is not None else tuple(name(row.version) for row in rows)
        await self._choose(current.version, judged, why)

    async def _choose(self, version: Version, judged: Sequence[str], why: Relation) -> None:
        fact = await self.grid.decide(
            version.instance,
            FactKind.CHOSEN,
            by=AUTOMATIC,
            reason=why.reason,
            details=details(version, judged, why),
        )
        if why.needs_a_person:
            _tell(why, fact)

    async def _current(self, rows: Sequence[Row], new: Version, held: Fact | None) -> tuple[Row, Relation]:
        """Return the version that is to be current, and why it is not simply the newest.

        Where one was chosen, it stays unless the new one replaces it. Else the versions are gone through from
        the first to the last: so two that come at the same time are judged alike by both.
        """
        choice = held and chosen([held])
        standing = next((row for row in rows if row.version.digest == choice), None)
        if held is not None and standing is not None:
            before = relation_of(held) or Relation.ALTERNATE
            added = next((row for row in rows if row.version.digest == new.digest), standing)
            contents = await self._contents((standing, added))
            why = _relation(contents, standing, added)
            if not why.replaces:
                return standing, severest((before, why))
            return max(standing, added, key=currency), before
        rows = rows[-_COMPARED:]
        contents = await self._contents(rows)
        current, found = rows[0], [Relation.ALTERNATE]
        for row in rows[1:]:
            why = _relation(contents, current, row)
            if why.replaces:
                current = row
            else:
                found.append(why)
        return current, severest(found)

    async def _contents(self, rows: Sequence[Row]) -> dict[str, Content | None]:
        """Return what each version holds, by digest; None where that cannot be told."""
        largest, limits = max(row.version.size_bytes for row in rows), self.live.now.limits
        if largest > limits.compared_limit_bytes:
            return dict.fromkeys(row.version.digest for row in rows)
        look = self._held if largest <= limits.decoded_limit_bytes else self._streamed
        return {row.version.digest: await self._content(row.version, look) for row in rows}

    async def _content(
        self, version: Version, look: Callable[[Version], Awaitable[Content]]
    ) -> Content | None:
        try:
            return await look(version)
        except (NoCopy, NotReadable) as error:
            log.warning("choice.not_compared", digest=version.digest, reason=str(error))
            return None

    async def _held(self, version: Version) -> Content:
        limit_bytes = self.live.now.limits.decoded_limit_bytes
        async with self.budget.hold(_HELD * version.size_bytes):
            file = b"".join([block async for block in self.grid.read(version)])
            return await asyncio.to_thread(_look, file, version, limit_bytes)

    async def _streamed(self, version: Version) -> Content:
        limit_bytes = self.live.now.limits.memory_limit_bytes
        large = LargeContent(version, limit_bytes)
        async with self.budget.hold(_HELD * limit_bytes):
            async for block in self.grid.read(version):
                await asyncio.to_thread(large.feed, block)
            return await asyncio.to_thread(large.close)


def _tell(why: str, choice: Fact) -> None:
    _CONFLICTS.labels(relation=why).inc()
    log.warning("conflict.found", relation=why, chosen=choice.detail("digest"), epoch=choice.epoch)


def _look(file: bytes, version: Version, limit_bytes: int) -> Content:
    data_set = parse(file, version, limit_bytes)
    try:
        return content_of(data_set, version.transfer_syntax_uid)
    except Exception as error:  # pydicom raises whatever a malformed element makes it stumble over
        # Its message may quote values.
        raise NotReadable(f"the data set cannot be read: {type(error).__name__}") from error


def _relation(contents: dict[str, Content | None], first: Row, second: Row) -> Relation:
    if first is second:
        return Relation.ALTERNATE
    one, other = contents[first.version.digest], contents[second.version.digest]
    return Relation.UNCOMPARED if one is None or other is None else relation(one, other)
