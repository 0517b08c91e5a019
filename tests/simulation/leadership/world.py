"""Balancers that stand for election: their store, their link and their kernels, all of which can fail."""

from __future__ import annotations

import asyncio
import contextvars
import json
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from random import Random
from typing import Any, Final, TypeVar

from balancer.address.faults import AddressFault
from balancer.leadership.interfaces import PeerUnavailable
from balancer.leadership.leadership import Leadership, Outside
from cluster.coordination.memory import MemoryCoordination
from cluster.coordination.protocol import (
    Change,
    CoordinationUnavailable,
    Lease,
    Revision,
)
from cluster.coordination.registry import Address, Announcement, Kind, Member
from cluster.proxy_protocol import Endpoint, IPAddress
from tests.distant_store import DistantCoordination
from tests.simulation.leadership.loop import LIFE, Life, StoppableLoop

T = TypeVar("T")

LEASE_S: Final = 3.0
STORE_TIMEOUT_S: Final = 1.0
COLD_START_S: Final = 2.0


class World:
    """Everything there is in one history.

    Attributes
    ----------
    violations : list of str
        Moments in which two kernels had the address.
    hiccups : float
        How many of the messages to and from the store take seconds.
    """

    def __init__(self, loop: StoppableLoop, names: Sequence[str], seed: int) -> None:
        self.loop = loop
        self.random = Random(f"{seed} world")
        self.store = MemoryCoordination()
        self.whole_seconds = bool(seed % 2)
        self.violations: list[str] = []
        self.trace: list[str] = []
        self.hiccups = 0.005
        self.announced: dict[str, Member] = {}
        self.appeared = asyncio.Event()
        self.hosts = {name: Host(self, name, seed) for name in names}
        self._neutral = contextvars.copy_context()
        self._neutral.run(LIFE.set, None)
        self._tasks: set[asyncio.Task[Any]] = set()

    def note(self, what: str) -> None:
        self.trace.append(f"{self.loop.time():9.3f} {what}")

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Do something that belongs to no process."""
        task = self.loop.create_task(work, context=self._neutral.copy())
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # nobody may be there any more to hear of it

    def holders(self) -> list[str]:
        return [name for name, host in self.hosts.items() if host.kernel.has_it]

    async def travel(self) -> None:
        """Take the time that a message takes: mostly little."""
        await asyncio.sleep(self.random.choice((0.001, 0.001, 0.002, 0.005, 0.02, 0.2)))

    def announce(self, member: Member) -> None:
        self.announced[member.name] = member
        self.appeared.set()
        self.appeared = asyncio.Event()


class Kernel:
    """A host's kernel: it drops the address by itself, and is there when the process is not.

    Attributes
    ----------
    refuses : set of str
        Requests that it does not carry out, by the name of the method.
    """

    def __init__(self, world: World, host: Host) -> None:
        self._world = world
        self._host = host
        self._ends_at = 0.0
        self.is_parked = False
        self.refuses: set[str] = set()

    @property
    def has_it(self) -> bool:
        return self._world.loop.time() < self._ends_at

    async def hold(self, until: float) -> None:
        self._check("hold")
        await self._host.step()
        left_s = until - self._world.loop.time()
        if self._world.whole_seconds:
            left_s = math.floor(left_s)
        had_it = self.has_it
        self._ends_at = self._world.loop.time() + left_s
        if self.has_it and not had_it:
            self._world.note(f"{self._host.name} TAKES the address")
        if self.has_it and len(holders := self._world.holders()) > 1:
            self._world.violations.append(f"{' and '.join(holders)} hold it at {self._world.loop.time():.3f}")
        await asyncio.sleep(0.0005)

    async def drop(self) -> None:
        await self._host.step()
        self._ends_at = 0.0

    def announce(self) -> None: ...

    async def park(self) -> None:
        await self._host.step()
        self._ends_at = 0.0
        self.is_parked = True
        await asyncio.sleep(0.0005)

    async def unpark(self) -> None:
        self._check("unpark")
        self.is_parked = False

    async def begin(self, towards: IPAddress, own: Collection[Endpoint]) -> None:
        self._check("begin")

    async def end(self) -> None:
        self._check("end")

    def _check(self, what: str) -> None:
        if what in self.refuses:
            raise AddressFault(f"the kernel refuses to {what}")


class Host:
    """A host with one balancer process, or none."""

    def __init__(self, world: World, name: str, seed: int) -> None:
        self.name = name
        self.steps_left: int | None = None
        self.kernel = Kernel(world, self)
        self.disk: str | None = None
        self.reaches_store = True
        self.unheard_by: set[str] = set()
        self.leadership: Leadership | None = None
        self.life: Life | None = None
        self._world = world
        self._random = Random(f"{seed} {name}")
        self._ends: Callable[[], object] | None = None

    async def step(self) -> None:
        """Go on, or be killed in place of it."""
        if self.steps_left is not None:
            self.steps_left -= 1
            if self.steps_left < 0:
                self.steps_left = None
                self.kill()
                await asyncio.get_running_loop().create_future()

    @property
    def is_up(self) -> bool:
        return self.life is not None

    def start(self) -> None:
        """Start the process, on whatever disk there is."""
        self._world.note(f"{self.name} starts")
        self.life = self._world.loop.begin()
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
        """SIGTERM."""
        if self.life is None or self.leadership is None or not self.life.runs:
            return
        self._world.note(f"{self.name} is told to end")
        leadership, life = self.leadership, self.life

        async def retire() -> None:
            await leadership.retire()
            if self.life is life and self._ends is not None:
                self._ends()

        self._world.loop.create_task(retire(), context=life.context.copy())

    def read(self) -> str | None:
        return self.disk

    def write(self, text: str) -> None:
        self.disk = text

    async def _run(self) -> None:
        life = self.life
        await self.kernel.drop()
        self._world.announce(
            Member(
                "balancer",
                self.name,
                Address("h", 1),
                1,
                "0",
                datetime.now(UTC),
                link=Address(f"127.0.0.{self.name[2:]}", 1),
            )
        )
        self.leadership = Leadership(
            self.name,
            Outside(
                _Store(self._world, self),
                _Members(self._world),
                self,
                self.kernel,
                self.kernel,
                _Link(self._world, self),
                tuple,
            ),
            lease_s=LEASE_S,
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


class _Link:
    def __init__(self, world: World, host: Host) -> None:
        self._world = world
        self._host = host

    async def call(
        self, name: str, at: Address, what: str, body: Mapping[str, Any], timeout_s: float
    ) -> Mapping[str, Any]:
        said = json.dumps(body)
        await self._host.step()
        answer = self._world.spawn(self._ask(name, what, said))
        try:
            async with asyncio.timeout(timeout_s):
                found: Mapping[str, Any] = json.loads(await asyncio.shield(answer))
        except TimeoutError:
            raise PeerUnavailable("no answer in time") from None
        await self._host.step()
        return found

    async def _ask(self, name: str, what: str, said: str) -> str:
        target, me = self._world.hosts[name], self._host.name
        await self._world.travel()
        if name in self._host.unheard_by or target.life is None or target.leadership is None:
            await asyncio.get_running_loop().create_future()
        assert target.leadership is not None
        assert target.life is not None
        handler: Any = target.leadership.handlers()[what](me, json.loads(said))
        try:
            answer = await self._world.loop.create_task(handler, context=target.life.context.copy())
        except ValueError as error:
            raise PeerUnavailable(str(error)) from None
        await self._world.travel()
        if me in target.unheard_by:
            await asyncio.get_running_loop().create_future()
        return json.dumps(answer)


class _Store(DistantCoordination):
    """The store as one host reaches it: what is asked may be done although no answer comes."""

    def __init__(self, world: World, host: Host) -> None:
        super().__init__(world.store)
        self._world = world
        self._host = host

    async def call(self, work: Callable[[], Awaitable[T]]) -> T:
        await self._host.step()
        answer = self._world.spawn(self._travel(work))
        try:
            async with asyncio.timeout(STORE_TIMEOUT_S):
                found = await asyncio.shield(answer)
        except TimeoutError:
            raise CoordinationUnavailable("no answer in time") from None
        await self._host.step()
        return found

    async def _travel(self, work: Callable[[], Awaitable[T]]) -> T:
        await self._pass()
        result = await work()
        await self._pass()
        return result

    async def _pass(self) -> None:
        await self._world.travel()
        if self._world.random.random() < self._world.hiccups:
            await asyncio.sleep(self._world.random.uniform(0, 5))
        if not self._host.reaches_store:
            await asyncio.get_running_loop().create_future()

    async def grant(self, ttl_s: float) -> Lease:
        began = self._world.loop.time()
        lease = await super().grant(ttl_s)
        return replace(lease, valid_until=began + ttl_s)

    async def keep_alive(self, lease: Lease) -> Lease:
        began = self._world.loop.time()
        kept = await super().keep_alive(lease)
        return replace(kept, valid_until=began + kept.ttl_s)

    async def watch(self, prefix: str, after: Revision) -> AsyncGenerator[Sequence[Change]]:
        found: asyncio.Queue[Sequence[Change]] = asyncio.Queue()

        async def pump() -> None:
            async for changes in self.store.watch(prefix, after):
                await self._world.travel()
                if self._host.reaches_store:
                    found.put_nowait(changes)
                else:
                    return

        pumping = self._world.spawn(pump())
        try:
            while True:
                try:
                    async with asyncio.timeout(STORE_TIMEOUT_S):
                        changes = await found.get()
                except TimeoutError:
                    if self._host.reaches_store and not pumping.done():
                        continue
                    raise CoordinationUnavailable("no progress") from None
                yield changes
        finally:
            pumping.cancel()
