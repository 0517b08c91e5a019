"""How one host reaches the other balancers, and the store: late, in one direction only, or not at all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from balancer.leadership.interfaces import PeerUnavailable
from cluster.coordination.memory import MemoryCoordination
from cluster.coordination.protocol import Change, CoordinationUnavailable, Lease, LeaseLost, Revision
from cluster.coordination.registry import Address
from tests.distant_store import DistantCoordination

if TYPE_CHECKING:
    from tests.simulation.leadership.host import Host
    from tests.simulation.leadership.world import World

T = TypeVar("T")

STORE_TIMEOUT_S: Final = 1.0


async def never() -> None:
    await asyncio.get_running_loop().create_future()


class Link:
    """The link to the other balancers: `Peers`."""

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
            await never()
        assert target.leadership is not None
        assert target.life is not None
        handler: Any = target.leadership.handlers()[what](me, json.loads(said))
        try:
            answer = await self._world.loop.create_task(handler, context=target.life.context.copy())
        except ValueError as error:
            raise PeerUnavailable(str(error)) from None
        await self._world.travel()
        if me in target.unheard_by:
            await never()
        return json.dumps(answer)


class Store(MemoryCoordination):
    """The store itself. Its leader may be replaced; for a moment nobody is answered then."""

    def __init__(self) -> None:
        super().__init__()
        self.led_from_s = 0.0
        self._granted: list[Lease] = []

    async def grant(self, ttl_s: float) -> Lease:
        lease = await super().grant(ttl_s)
        self._granted.append(lease)
        return lease

    async def lose_leader(self, for_s: float) -> None:
        """Replace it. The next one lets each lease last for its whole length anew, as etcd's does."""
        loop = asyncio.get_running_loop()
        self.led_from_s = loop.time() + for_s
        await asyncio.sleep(for_s)
        for lease in self._granted.copy():
            try:
                await self.keep_alive(lease)
            except LeaseLost:
                self._granted.remove(lease)


class WayToStore(DistantCoordination):
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
        await self._world.travel()
        if not self._host.reaches_store:
            await never()
        await self._wait_for_leader()
        result = await work()
        await self._world.travel()
        if not self._sees_store:
            await never()
        await self._wait_for_leader()
        return result

    async def _wait_for_leader(self) -> None:
        """Without one a request is lost, or waits until there is one."""
        left_s = self._world.store.led_from_s - self._world.now_s
        if left_s > 0:
            if self._world.random.random() < 0.5:
                await never()
            await asyncio.sleep(left_s)

    @property
    def _sees_store(self) -> bool:
        return self._host.reaches_store and self._host.hears_store

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
                if not self._sees_store:
                    return
                found.put_nowait(changes)

        pumping = self._world.spawn(pump())
        try:
            while True:
                try:
                    async with asyncio.timeout(STORE_TIMEOUT_S):
                        changes = await found.get()
                except TimeoutError:
                    if self._sees_store and not pumping.done():
                        continue
                    raise CoordinationUnavailable("no progress") from None
                yield changes
        finally:
            pumping.cancel()
