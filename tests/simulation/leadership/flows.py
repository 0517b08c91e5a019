"""Clients' connections to the address: where their packets go, and who serves them to their end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from ipaddress import ip_address
from random import Random
from typing import TYPE_CHECKING, Final

from cluster.proxy_protocol import Endpoint
from tests.simulation.leadership.loop import Life

if TYPE_CHECKING:
    from tests.simulation.leadership.host import Host
    from tests.simulation.leadership.world import World

PACKETS_S: Final = 0.1
BEGINS_S: Final = 0.5
"""How often, on average, one begins while somebody has the address."""
STALLS_S: Final = 5.0
"""How long packets may be lost before a flow is given up."""


@dataclass(slots=True)
class Flow:
    """One connection, and the process that has its other end."""

    client: Endpoint
    server: Host
    life: Life
    ends_at: float
    served_at: float


class Flows:
    """All that run.

    Attributes
    ----------
    broken : list of str
        Flows that were reset, or got no answer for long, although their process lives.
    """

    def __init__(self, world: World) -> None:
        self.broken: list[str] = []
        self.ended = 0
        self._world = world
        self._running: list[Flow] = []
        self._count = 0

    def of(self, host: Host) -> tuple[Endpoint, ...]:
        """Return the clients of those that a host's process serves."""
        return tuple(flow.client for flow in self._running if flow.life is host.life)

    async def run(self, random: Random) -> None:
        """Let flows begin, send and end, until cancelled."""
        while True:
            await asyncio.sleep(PACKETS_S)
            holders = self._world.holders()
            if not holders:
                continue
            holder = self._world.hosts[holders[0]]
            if holder.life is not None and holder.life.runs and random.random() < PACKETS_S / BEGINS_S:
                self._begin(holder, random.choice((1.0, 10.0, 30.0)))
            self._running = [flow for flow in self._running if self._goes_on(flow, holder)]

    def _begin(self, holder: Host, for_s: float) -> None:
        assert holder.life is not None
        self._count += 1
        now_s = self._world.now_s
        client = Endpoint(ip_address("192.0.2.1"), self._count)
        self._running.append(Flow(client, holder, holder.life, now_s + for_s, now_s))

    def _goes_on(self, flow: Flow, holder: Host) -> bool:
        """Send a packet of a flow to who has the address, and tell whether the flow goes on after it."""
        now_s = self._world.now_s
        if flow.ends_at <= now_s or flow.life is not flow.server.life:
            self.ended += 1
            return False
        end = self._end_of_the_way(flow, holder)
        if end is flow.server and (end is holder or end.kernel.is_parked):
            flow.served_at = now_s
        elif end is not flow.server or now_s - flow.served_at >= STALLS_S:
            what = "stalls" if end is flow.server else f"is reset by {end.name}"
            self.broken.append(f"a flow of {flow.server.name} {what} at {now_s:.3f}")
            return False
        return True

    def _end_of_the_way(self, flow: Flow, at: Host) -> Host:
        for _ in self._world.hosts:
            if at is flow.server or at.kernel.detour_to is None:
                return at
            at = at.kernel.detour_to
        return at
