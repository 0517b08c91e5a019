"""A host's kernel: it drops the address by itself, and is there when the process is not."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from balancer.address.faults import AddressFault
from cluster.proxy_protocol import Endpoint, IPAddress

if TYPE_CHECKING:
    from tests.simulation.leadership.host import Host
    from tests.simulation.leadership.world import World

REQUEST_S: Final = 0.0005


class Kernel:
    """What one host has of the address: a `ServiceAddress` and a `Detour`.

    Attributes
    ----------
    detour_to : Host or None
        Who is sent the packets of flows that are not this host's.
    is_parked : bool
        Whether flows are served here although another has the address.
    refuses : set of str
        Requests that it does not carry out, or says so, by the name of the method.
    """

    def __init__(self, world: World, host: Host) -> None:
        self.detour_to: Host | None = None
        self.is_parked = False
        self.refuses: set[str] = set()
        self._world = world
        self._host = host
        self._ends_at = 0.0

    @property
    def has_it(self) -> bool:
        return self._world.now_s < self._ends_at

    async def hold(self, until: float) -> None:
        if self._world.random.random() < 0.5:
            self._check("hold")
        await self._host.step()
        left_s = until - self._world.loop.time() - self._world.early_s
        if self._world.whole_seconds:
            left_s = math.floor(left_s)
        had_it = self.has_it
        self._ends_at = self._world.now_s + left_s / self._host.clock.rate
        if self.has_it:
            self._world.saw_held(self._host, taken=not had_it)
        self._check("hold")
        await asyncio.sleep(REQUEST_S)

    async def drop(self) -> None:
        self._check("drop")
        await self._host.step()
        self._ends_at = 0.0

    def announce(self) -> None: ...

    async def park(self) -> None:
        self._check("park")
        await self._host.step()
        self._ends_at = 0.0
        self.is_parked = True
        await asyncio.sleep(REQUEST_S)

    async def unpark(self) -> None:
        self._check("unpark")
        self.is_parked = False

    async def begin(self, towards: IPAddress, own: Collection[Endpoint]) -> None:
        self._check("begin")
        self.detour_to = self._world.at(str(towards))

    async def end(self) -> None:
        self._check("end")
        self.detour_to = None

    def clear(self) -> None:
        """Remove what a process that was killed left behind."""
        self._ends_at, self.is_parked, self.detour_to = 0.0, False, None

    def _check(self, what: str) -> None:
        if what in self.refuses:
            raise AddressFault(f"the kernel refuses to {what}")
