"""A host with one balancer process, or none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING, Final

from balancer.leadership.interfaces import Outside
from balancer.leadership.leadership import Leadership
from cluster.coordination.registry import Address, Announcement, Kind, Member
from tests.simulation.leadership.kernel import Kernel
from tests.simulation.leadership.loop import Clock, Life
from tests.simulation.leadership.ways import Link, WayToStore, never

if TYPE_CHECKING:
    from tests.simulation.leadership.world import World

LEASE_S: Final = 3.0
COLD_START_S: Final = 2.0
DRAINING_S: Final = 15.0


class Host:
    """One of the hosts.

    Attributes
    ----------
    disk : str or None
        The notebook; None: lost, or never written.
    lease_s : float
        What the settings of the next process say.
    steps_left : int or None
        After how many steps the process is killed.
    unheard_by : set of str
        Whom its messages do not reach.
    """

    def __init__(self, world: World, name: str, clock: Clock, seed: int) -> None:
        self.name = name
        self.clock = clock
        self.steps_left: int | None = None
        self.kernel = Kernel(world, self)
        self.disk: str | None = None
        self.lease_s = LEASE_S
        self.reaches_store = self.hears_store = True
        self.unheard_by: set[str] = set()
        self.leadership: Leadership | None = None
        self.life: Life | None = None
        self.is_ending = False
        self.began_s = 0.0
        self._world = world
        self._random = Random(f"{seed} {name}")
        self._ends: Callable[[], object] | None = None

    @property
    def link(self) -> Address:
        return Address(f"127.0.0.{self.name[2:]}", 1)

    @property
    def is_up(self) -> bool:
        return self.life is not None

    @property
    def is_well(self) -> bool:
        """Whether nothing hinders it from leading by lease, except what it has promised."""
        runs = self.life is not None and self.life.runs and not self.is_ending
        return runs and self.reaches_store and self.hears_store and not self.kernel.refuses

    async def step(self) -> None:
        """Go on, or be killed in place of it."""
        if self.steps_left is not None:
            self.steps_left -= 1
            if self.steps_left < 0:
                self.steps_left = None
                self.kill()
                await never()

    def start(self) -> None:
        """Start the process, on whatever disk there is."""
        self._world.note(f"{self.name} starts")
        self.began_s, self.is_ending = self._world.now_s, False
        self.life = self._world.loop.begin(self.clock)
        self._world.loop.create_task(self._run(), context=self.life.context.copy())

    def kill(self) -> None:
        self._world.note(f"{self.name} is killed")
        if self.life is not None:
            self.life.runs = False
        self.life = self.leadership = None

    def stop(self) -> None:
        self._world.note(f"{self.name} is stopped")
        if self.life is not None:
            self.life.runs = False

    def go_on(self) -> None:
        if self.life is not None and not self.life.runs:
            self._world.note(f"{self.name} goes on")
            self.life.go_on(self._world.loop)

    def retire(self) -> None:
        """SIGTERM: another is to lead, and what runs goes on to its end."""
        if self.life is None or self.leadership is None or not self.life.runs:
            return
        self._world.note(f"{self.name} is told to end")
        self.is_ending = True
        leadership, life = self.leadership, self.life

        async def retire() -> None:
            await leadership.retire()
            until = self._world.now_s + DRAINING_S
            while self._world.flows.of(self) and self._world.now_s < until:  # noqa: ASYNC110  they tell nobody
                await asyncio.sleep(0.1)
            if self.life is life and self._ends is not None:
                self._ends()

        self._world.loop.create_task(retire(), context=life.context.copy())

    def read(self) -> str | None:
        return self.disk

    def write(self, text: str) -> None:
        self.disk = text

    async def _run(self) -> None:
        life = self.life
        self.kernel.clear()
        self._world.announce(
            Member("balancer", self.name, Address("h", 1), 1, "0", datetime.now(UTC), link=self.link)
        )
        self.leadership = Leadership(
            self.name,
            Outside(
                WayToStore(self._world, self),
                _Members(self._world),
                self,
                self.kernel,
                self.kernel,
                Link(self._world, self),
                lambda: self._world.flows.of(self),
            ),
            lease_s=self.lease_s,
            cold_start_s=COLD_START_S,
            random=self._random,
        )
        running = asyncio.ensure_future(self.leadership.run())
        self._ends = running.cancel
        try:
            await running
        except asyncio.CancelledError:
            self._world.note(f"{self.name} has ended")
            if self.life is life:
                self.life = self.leadership = None


class _Members:
    """Who has announced itself: all that ever began."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def announce(self, member: Member) -> Announcement:
        raise NotImplementedError

    async def members(self, kind: Kind | None = None) -> list[Member]:
        return list(self._world.announced.values())

    async def watch(self) -> AsyncGenerator[list[Member], None]:
        while True:
            appeared = self._world.appeared
            yield list(self._world.announced.values())
            await appeared.wait()
