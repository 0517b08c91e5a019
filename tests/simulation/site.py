"""One site of a simulated cluster: the shipped twins in memory, and all that can be done to them.

What is here is what is durable: processes come and go, and reach it through links.
"""

from __future__ import annotations

import asyncio
import enum
from copy import deepcopy
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING

from cluster.nouns import SiteIdentity
from storage_node.catalogue.memory import MemoryCatalogue
from storage_node.grid import keys, manifest
from storage_node.site.memory import MemoryObjects

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from cluster.nouns import Debt, Fact, Instance, Version
    from storage_node.catalogue.protocol import Row
    from tests.simulation.model import Content


class State(enum.Enum):
    """How a site answers."""

    WELL = "answers"
    DOWN = "refuses every call"
    NO_OBJECTS = "refuses every call for its objects"
    NO_CATALOGUE = "refuses every call for its catalogue"
    HUNG = "answers nothing until it is well again"
    FULL = "takes no objects, and answers everything else"


@dataclass(frozen=True, slots=True)
class Backup:
    """A site as it once was."""

    objects: MemoryObjects
    catalogue: MemoryCatalogue
    generation: int


class Site:
    """A site, and what it is made to suffer.

    Attributes
    ----------
    answers : asyncio.Event
        Cleared while the site hangs.
    changed_at : datetime
        When it began to answer as it does.
    incarnation : int
        Counts the times at which it lost what it had: an upload that was begun before is no more.
    wedged : set of str
        Keys at which the site can do nothing.
    """

    def __init__(self, name: str, now: Callable[[], datetime]) -> None:
        self.name = name
        self._now = now
        self.answers = asyncio.Event()
        self.state = State.WELL
        self.incarnation = 0
        self.wedged: set[str] = set()
        self._open(SiteIdentity(name, f"id-{name}-1", 1))

    @property
    def state(self) -> State:
        """How it answers."""
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        self._state = state
        self.changed_at = self._now()
        if state is State.HUNG:
            self.answers.clear()
        else:
            self.answers.set()

    def _open(self, identity: SiteIdentity) -> None:
        self.identity = identity
        self.objects = MemoryObjects(self.name, identity, self._now)
        self.catalogue = MemoryCatalogue(self.name, identity)

    def lose_everything(self) -> SiteIdentity:
        """Begin anew with an empty disk, as another generation."""
        generation = self.identity.generation + 1
        self.incarnation += 1
        self.wedged.clear()
        self._open(SiteIdentity(self.name, f"id-{self.name}-{generation}", generation))
        return self.identity

    def back_up(self) -> Backup:
        """Return a copy of all that is durable."""
        objects = replace(self.objects, objects=dict(self.objects.objects), uploads={})
        return Backup(objects, deepcopy(self.catalogue), self.identity.generation)

    def restore(self, backup: Backup) -> None:
        """Become again what was, and know nothing of it."""
        assert backup.generation == self.identity.generation
        self.incarnation += 1
        self.wedged.clear()
        self.objects = backup.objects
        self.catalogue = backup.catalogue

    def leave(self, content: Content) -> None:
        """Put an object of which no row knows, as a write does that is cut off."""
        digest = content.digest
        metadata = content.arrival(self._now(), "CT0").provenance.to_metadata()
        self.objects.keep(keys.object_key(content.instance, digest), content.bytes, metadata)

    def corrupt(self, key: str) -> None:
        """Flip the first byte of an object, where it lies."""
        kept = self.objects.objects[key]
        content = bytes([kept.content[0] ^ 0xFF]) + kept.content[1:]
        self.objects.objects[key] = replace(kept, content=content)

    def remove(self, key: str) -> None:
        """Take an object away, behind the back of all."""
        del self.objects.objects[key]

    def object_keys(self) -> list[str]:
        """Return the keys of versions' bytes, in order."""
        return sorted(
            key
            for key in self.objects.objects
            if key.endswith(".dcm") and not key.startswith(keys.FACTS) and key not in self.wedged
        )

    def content(self, key: str) -> bytes | None:
        """Return what can be read at a key."""
        kept = self.objects.objects.get(key)
        return None if kept is None or key in self.wedged else kept.content

    def _beside(self, folder: str) -> list[bytes]:
        """Return all small objects in a folder that can be read: one may be at another key than its own."""
        return [
            kept.content
            for key, kept in self.objects.objects.items()
            if key.startswith(f"{folder}/") and key.endswith(".json") and key not in self.wedged
        ]

    async def row(self, version: Version) -> Row | None:
        """Return the row of a version."""
        rows = await self.catalogue.rows_of(version.instance)
        return next((row for row in rows if row.version.digest == version.digest), None)

    def holds_bytes(self, held: Version) -> bool:
        """Whether the bytes of a version are where its row says, and all else that makes them a copy."""
        content = self.content(held.key)
        if content is None or sha256(content).hexdigest() != held.digest:
            return False
        if not held.block_digests:
            return True
        return any(_is_manifest(made, held) for made in self._beside(keys.folder(held.instance)))

    async def holds(self, version: Version) -> bool:
        """Whether there is a copy of a version: its row, and its bytes."""
        row = await self.row(version)
        return row is not None and self.holds_bytes(row.version)

    async def holds_fact(self, fact: Fact) -> bool:
        """Whether a fact is here: its row, and its object."""
        known = await self.catalogue.facts_of(fact.instance)
        folder = f"{keys.FACTS}/{keys.folder(fact.instance)}"
        return fact in known and fact.to_json() in self._beside(folder)

    async def debts(self) -> Sequence[Debt]:
        """Return all debts that are noted here."""
        return await self.catalogue.debts(10_000)

    async def facts(self, instance: Instance) -> Sequence[Fact]:
        """Return all facts about an instance, the one that holds first."""
        return await self.catalogue.facts_of(instance)


def _is_manifest(content: bytes, version: Version) -> bool:
    try:
        described, _ = manifest.decode(content)
    except ValueError:
        return False
    return described.digest == version.digest
