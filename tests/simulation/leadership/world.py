"""Balancers that stand for election: their store, link, kernels and clocks, all of which can fail."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine, Sequence
from random import Random
from typing import Any, Final, TypeVar

from balancer.leadership.stance import Role
from cluster.coordination.registry import Member
from tests.simulation.leadership.flows import Flows
from tests.simulation.leadership.host import Host
from tests.simulation.leadership.loop import LIFE, Clock, StoppableLoop
from tests.simulation.leadership.ways import Store

T = TypeVar("T")

LONGEST_LEASE_S: Final = 4.0
EARLY_S: Final = 0.02
"""How much earlier than it must the kernel drops the address, where clocks run at different rates: two of
them differ by less in the longest lease."""


class World:
    """Everything there is in one history.

    Attributes
    ----------
    disturbed_s : float
        When it was disturbed last, or until when it still is.
    hiccups : float
        How many of the messages take seconds.
    violations : list of str
        What must not be, and was seen.
    """

    def __init__(self, loop: StoppableLoop, names: Sequence[str], seed: int) -> None:
        self.loop = loop
        self.random = Random(f"{seed} world")
        self.store = Store()
        self.whole_seconds = bool(seed % 2)
        self.has_drift = bool(seed // 4 % 2)
        self.leases_differ = seed % 16 >= 12
        self.early_s = EARLY_S if self.has_drift else 0.0
        self.violations: list[str] = []
        self.trace: list[str] = []
        self.hiccups = 0.005
        self.disturbed_s = 0.0
        self.announced: dict[str, Member] = {}
        self.appeared = asyncio.Event()
        self.flows = Flows(self)
        self.hosts = {name: Host(self, name, self._clock(), seed) for name in names}
        loop.thread_s = lambda: self.random.choice((0.0, 0.0, 0.001, 0.02, 1.5))
        self._neutral = contextvars.copy_context()
        self._neutral.run(LIFE.set, None)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._highest_token = 0

    @property
    def now_s(self) -> float:
        return self.loop.world_s

    def _clock(self) -> Clock:
        """Return a clock that differs from another by `EARLY_S` in the longest lease, at most."""
        most = EARLY_S / LONGEST_LEASE_S / 2 if self.has_drift else 0.0
        return Clock(self.random.uniform(0, 1e5), 1 + self.random.uniform(-most, most))

    def note(self, what: str) -> None:
        self.trace.append(f"{self.now_s:9.3f} {what}")

    def disturb(self, for_s: float = 0.0) -> None:
        self.disturbed_s = max(self.disturbed_s, self.now_s + for_s)

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

    def at(self, address: str) -> Host:
        return next(host for host in self.hosts.values() if host.link.host == address)

    def saw_held(self, host: Host, *, taken: bool) -> None:
        """See that a kernel has the address, and whether it has it anew."""
        if taken:
            self.note(f"{host.name} TAKES the address")
            self._look_at_token(host)
        if len(holders := self.holders()) > 1:
            self.violations.append(f"{' and '.join(holders)} hold it at {self.now_s:.3f}")

    def _look_at_token(self, host: Host) -> None:
        status = host.leadership.status() if host.leadership is not None else {}
        token = status.get("term")
        if status.get("role") != Role.LEADING.value or not isinstance(token, int):
            return
        if token < self._highest_token:
            self.violations.append(f"{host.name} takes it by a former term at {self.now_s:.3f}")
        self._highest_token = max(token, self._highest_token)

    async def travel(self) -> None:
        """Take the time that a message takes: mostly little."""
        await asyncio.sleep(self.random.choice((0.001, 0.001, 0.002, 0.005, 0.02, 0.2)))
        if self.random.random() < self.hiccups:
            late_s = self.random.uniform(0, 5)
            self.disturb(late_s)
            await asyncio.sleep(late_s)

    def announce(self, member: Member) -> None:
        self.announced[member.name] = member
        self.appeared.set()
        self.appeared = asyncio.Event()
