"""One process of a simulated cluster: a grid, with a link to each site. It can crash before any step."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

from cluster.nouns import Membership, SiteIdentity
from storage_node.grid.grid import Grid
from storage_node.grid.sites import GridSite
from tests.simulation.link import Link, LinkedCatalogue, LinkedObjects

if TYPE_CHECKING:
    from cluster.settings import Writing
    from tests.simulation.world import World

T = TypeVar("T")

OWNER: Final[contextvars.ContextVar[Process | None]] = contextvars.ContextVar("owner", default=None)
"""The process that the running task belongs to."""

_TASKS_KEPT: Final = 64
"""Past so many, those that are done are forgotten."""


class Crashed(Exception):
    """The process ended before what it was asked to do was done."""


class Process:
    """A worker, or an upkeep daemon.

    Attributes
    ----------
    steps_left : int or None
        How many steps it takes until it crashes; None when it is not meant to.
    """

    def __init__(self, world: World, name: str, number: int, writing: Writing) -> None:
        self.world = world
        self.name = name
        self.alive = True
        self.steps_left: int | None = None
        self.links = {
            site.name: Link(self, site, world.random_for(f"{site.name} {name} {number}"))
            for site in world.sites
        }
        self._tasks: list[asyncio.Task[Any]] = []
        self._context = contextvars.copy_context()
        self._context.run(OWNER.set, self)
        self.roster = _Roster(self)
        sites = [self.roster.open(membership) for membership in world.memberships.values()]
        world.random_for(f"place {number}").shuffle(sites)  # each process has another site near
        self.grid = Grid(sites, writing, roster=self.roster, now=world.loop.now, new_name=world.new_name)

    async def start(self) -> None:
        """Find out which sites are up."""
        await self.run(self.grid.start)

    async def close(self) -> None:
        """Let what it began end, as a process does that is told to."""
        if self.alive:
            await self.run(self.grid.close)
            self.alive = False
        await self._await_end()

    async def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do something in this process.

        Raises
        ------
        Crashed
            The process ended first.
        """

        async def working() -> T:
            return await work()

        task = asyncio.get_running_loop().create_task(working(), context=self._context.copy())
        try:
            return await task
        except asyncio.CancelledError:
            if not self.alive and task.cancelled():
                raise Crashed(self.name) from None
            raise

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """Take note of a task that began in this process."""
        if len(self._tasks) > _TASKS_KEPT:
            self._tasks = [running for running in self._tasks if not running.done()]
        self._tasks.append(task)

    def step(self, what: str) -> None:
        """Take note of a step, and crash in its place when it is time for that.

        Raises
        ------
        CancelledError
            The process is no more: nothing goes out of it.
        """
        if self.alive and self.steps_left is not None:
            self.steps_left -= 1
            if self.steps_left < 0:
                self.world.note(self.name, f"crashes instead of {what}")
                self.crash()
        if not self.alive:
            raise asyncio.CancelledError
        self.world.note(self.name, what)

    def crash(self) -> None:
        """End at once."""
        self.alive = False
        for task in self._tasks:
            task.cancel()

    async def _await_end(self) -> None:
        while running := [task for task in self._tasks if not task.done()]:
            for task in running:
                task.cancel()
            await asyncio.wait(running)


class _Roster:
    """The cluster's record, as one process reads it."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def memberships(self) -> Mapping[str, Membership]:
        return dict(self._process.world.memberships)

    def open(self, membership: Membership) -> GridSite:
        identity = membership.identity
        link = self._process.links[identity.name]
        return GridSite(
            identity.name, LinkedObjects(link, identity), LinkedCatalogue(link, identity), membership
        )

    async def filled(self, identity: SiteIdentity) -> None:
        self._process.step(f"{identity.name}.filled")
        self._process.world.filled(identity)
        self._process.step(f"{identity.name}.filled done")
