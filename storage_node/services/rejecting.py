"""What a rejection note says is decided before its sender is told of success (IHE RAD-66).

A note may come before what it rejects: facts need no row. Each note decides once about an instance. When it
is sent again, what was decided since stays, as when a person has accepted the instance.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

import structlog
from prometheus_client import Counter

from cluster.dicom import uids
from cluster.nouns import FactKind
from storage_node.catalogue.matching import by_uids
from storage_node.catalogue.views import ruling
from storage_node.grid.find import NoCatalogue
from storage_node.grid.read import NoCopy
from storage_node.grid.write import NotEnoughSites
from storage_node.services.parsed import NotReadable, parse
from storage_node.services.rejection_note import BadNote, RejectionNote, Title, TooManyInstances, read
from storage_node.services.status import Refusal, Status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cluster.nouns import Fact, Instance, Version
    from cluster.settings.live import LiveSettings
    from storage_node.grid.grid import Grid
    from storage_node.services.budget import Budget

_REJECTED = Counter("atria_rejected_instances_total", "Instances that rejection notes rejected", ["code"])

_AT_ONCE: Final = 32
"""Instances that are decided about at the same time."""
_HELD: Final = 4
"""How many times its size a note may need in memory, and inflate to."""
_SHOWN_TO_SOME: Final = Title.QUALITY
"""What was rejected so may be shown to who looks for it; a note of another title holds over it."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Rejecting:
    """Applies rejection notes."""

    grid: Grid
    live: LiveSettings
    budget: Budget

    async def apply(self, version: Version, *, by: str) -> None:
        """Decide what a version that was stored says, if it is a rejection note.

        Parameters
        ----------
        version : Version
        by : str
            AE title of the sender.

        Raises
        ------
        Refusal
            It cannot be read, names too many instances, or not all of them could be decided about: what was
            decided stays, and the sender has to repeat it.
        """
        if version.sop_class_uid != uids.KEY_OBJECT_SELECTION:
            return
        try:
            note = await self._read(version)
            if note is not None:
                await self._reject(note, version.instance, by)
        except (BadNote, NotReadable) as error:
            raise Refusal(Status.CANNOT_UNDERSTAND, str(error)) from error
        except (TooManyInstances, NoCopy, NoCatalogue) as error:
            raise Refusal(Status.OUT_OF_RESOURCES, str(error)) from error
        except NotEnoughSites as error:
            raise Refusal(Status.OUT_OF_RESOURCES, f"not rejected: {error}") from error

    async def _read(self, version: Version) -> RejectionNote | None:
        limits = self.live.now.limits
        limit_bytes = limits.rejection_note_limit_bytes
        if version.size_bytes > limit_bytes:
            raise TooManyInstances(f"the Key Object Selection Document has more than {limit_bytes} bytes")
        async with self.budget.hold(_HELD * version.size_bytes):
            file = b"".join([block async for block in self.grid.read(version)])
            document = await asyncio.to_thread(parse, file, version, _HELD * limit_bytes)
            return await asyncio.to_thread(read, document, limits.rejected_instances)

    async def _reject(self, note: RejectionNote, itself: Instance, by: str) -> None:
        """Decide about what a note names, and then about the note, which is shown with what may be shown."""
        named = dict.fromkeys((*note.instances, *await self._placed(note.unplaced)))
        named.pop(itself, None)
        kind = FactKind.DELETED if note.title is Title.RETENTION_EXPIRED else FactKind.REJECTED
        decision = _Decision(self.grid, note.title, itself.sop_instance_uid, by)
        await decision.about(named, kind)
        if note.title is not _SHOWN_TO_SOME:
            await decision.about([itself], FactKind.REJECTED)
        _REJECTED.labels(code=note.title).inc(len(named))
        log.info("rejection.decided", code=note.title, instances=len(named))

    async def _placed(self, sop_uids: Iterable[str]) -> list[Instance]:
        """Return the instances that are known of those of which study and series were not said."""
        wanted = tuple(sop_uids)
        if not wanted:
            return []
        finding = self.grid.find(by_uids(sop=wanted), self.live.now.limits.find_matches, hidden=True)
        found = [match.version.instance async for match in finding]
        if missing := len(wanted) - len({instance.sop_instance_uid for instance in found}):
            log.warning("rejection.unplaced", instances=missing)
        return found


@dataclass(frozen=True, slots=True)
class _Decision:
    """What one note decides about each of some instances."""

    grid: Grid
    title: Title
    note: str
    by: str

    async def about(self, instances: Iterable[Instance], kind: FactKind) -> None:
        """Decide about all of them, so many at a time.

        Raises
        ------
        NotEnoughSites
        """
        waiting = iter(instances)
        while batch := tuple(islice(waiting, _AT_ONCE)):
            for outcome in await asyncio.gather(
                *(self._one(instance, kind) for instance in batch), return_exceptions=True
            ):
                if outcome is not None:
                    raise outcome

    async def _one(self, instance: Instance, kind: FactKind) -> None:
        known = await self.grid.facts_at_sites(instance)
        facts = [fact for of_site in known.values() for fact in of_site]
        held = ruling(facts, kind.topic)
        if held is not None and self._stays(held, facts, kind):
            # Perhaps it never got to W sites, and success says that it did.
            await self.grid.decide(
                instance, held.kind, by=held.decided_by, reason=held.reason, details=held.details
            )
            return
        await self.grid.decide(instance, kind, by=self.by, reason=self.title.meaning, details=self._details())

    def _stays(self, held: Fact, facts: Iterable[Fact], kind: FactKind) -> bool:
        """Return whether what holds is what this note came to, or as strict as it is."""
        if any(fact.detail("note") == self.note and fact.kind is kind for fact in facts):
            return True
        return held.kind is kind and (held.detail("code") != _SHOWN_TO_SOME or self.title is _SHOWN_TO_SOME)

    def _details(self) -> tuple[tuple[str, str], ...]:
        return ("code", self.title), ("note", self.note)
