"""Who uses the cluster: senders, people who delete and revive, people who look and read."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, TypeVar

from cluster.nouns import FactKind, Level
from storage_node.catalogue.matching import Query
from storage_node.grid.find import NoCatalogue
from storage_node.grid.read import NoCopy
from storage_node.grid.write import NotEnoughSites
from tests.simulation.judge import Violation
from tests.simulation.model import Content, Kind, Operation
from tests.simulation.process import Crashed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cluster.nouns import Instance, Version
    from storage_node.grid.arrival import Stored
    from tests.simulation.judge import Judge
    from tests.simulation.model import Model
    from tests.simulation.process import Process
    from tests.simulation.world import World

T = TypeVar("T")

_PART_BYTES: Final = 50
"""Of a large version so much arrives at a time: less than a block, so that parts are cut."""
_FIND_LIMIT: Final = 1000


class Clients:
    """All that is asked for in a history; each answer is judged when it comes."""

    def __init__(self, world: World, model: Model, judge: Judge) -> None:
        self._world = world
        self._model = model
        self._judge = judge

    async def store(self, process: Process, content: Content, *, gives_up_after_s: float | None) -> None:
        """Send a version; a sender who gives up does not wait for the answer."""
        operation = self._begin(Kind.STORE, content.instance, content)
        arrival = content.arrival(self._world.loop.now(), f"CT{self._world.random.randrange(3)}")

        async def send() -> Stored:
            if not content.is_streamed:
                return await process.grid.store(arrival, [content.bytes])
            known = content.instance if self._world.random.random() < 0.8 else None
            async with await process.grid.stream(known) as stream:
                for start in range(0, len(content.bytes), _PART_BYTES):
                    await stream.write([content.bytes[start : start + _PART_BYTES]])
                return await stream.complete(arrival)

        stored = await self._outcome(operation, process, send, gives_up_after_s)
        if stored is not None:
            self._model.versions[stored.version.digest] = stored.version
            await self._judge.stored(operation, stored)

    async def decide(self, process: Process, kind: Kind, instance: Instance) -> None:
        """Delete an instance, or revive it."""
        operation = self._begin(kind, instance)
        decided = FactKind.DELETED if kind is Kind.DELETE else FactKind.REVIVED
        fact = await self._outcome(
            operation,
            process,
            lambda: process.grid.decide(instance, decided, by="somebody", reason="a test"),
            None,
        )
        if fact is not None:
            self._model.facts[fact.digest] = fact
            await self._judge.decided(operation, fact)

    def _begin(self, kind: Kind, instance: Instance, content: Content | None = None) -> Operation:
        operation = Operation(kind, instance, self._world.loop.time(), content)
        self._model.operations.append(operation)
        return operation

    async def _outcome(
        self,
        operation: Operation,
        process: Process,
        work: Callable[[], Awaitable[T]],
        gives_up_after_s: float | None,
    ) -> T | None:
        """Return what was acknowledged, if anything was."""
        loop = self._world.loop
        name = f"{operation.kind.value} {operation.instance.sop_instance_uid}"
        try:
            async with asyncio.timeout(gives_up_after_s):
                outcome = await process.run(work)
        except TimeoutError:
            self._world.note(process.name, f"{name}: its client gave up")
            return None
        except (NotEnoughSites, Crashed) as error:
            operation.ended = loop.time()
            self._world.note(process.name, f"{name}: {error!r}")
            return None
        operation.acknowledged = operation.ended = loop.time()
        self._world.note(process.name, f"{name}: acknowledged")
        return outcome

    async def find(self, process: Process) -> None:
        """Look for everything."""
        since = self._world.loop.time()

        async def look() -> list[Instance] | None:
            async with aclosing(process.grid.find(Query(Level.IMAGE), _FIND_LIMIT)) as finding:
                found = [match.version.instance async for match in finding]
                return found if finding.complete else None

        try:
            found = await process.run(look)
        except (NoCatalogue, Crashed):
            return
        if found is not None:
            self._judge.found(found, since)

    async def read(self, process: Process, version: Version) -> None:
        """Read a version that was acknowledged."""
        readable = await self._judge.readable(process, version)

        async def fetch() -> list[bytes]:
            async with aclosing(process.grid.read(version)) as pieces:
                return [piece async for piece in pieces]

        try:
            pieces = await process.run(fetch)
        except NoCopy as error:
            if readable & await self._judge.readable(process, version):
                raise Violation(f"what can be read is not: {error}") from error
        except Crashed:
            return
        else:
            self._judge.read(version, pieces)
