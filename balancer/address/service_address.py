"""The service address at this host: held while leading, announced, parked while its last flows end."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import structlog
from prometheus_client import Counter

from balancer.address import announcement, netlink, parking
from balancer.address.faults import AddressFault, fault
from cluster.proxy_protocol import IPAddress

log = structlog.get_logger()

ANNOUNCEMENTS = Counter(
    "atria_balancer_announcements_total", "How often the network was told where the address is", ["outcome"]
)

DROPPED_LATE_S: Final = 0.6
"""How much later than `valid_lft` says the kernel may drop an address: it rounds up to a whole second that is
less than a quarter away, and its timers for two seconds and more are 256 ms coarse at 250 Hz."""
REQUEST_S: Final = 0.02
"""How long a request may take; one that took longer is made anew for a shorter time."""
_ANNOUNCED_AFTER_S: Final = (0.0, 0.1, 0.3, 1.0, 3.0)
"""Since the address was taken: each may be lost, and some switches are not ready for the first."""


def valid_lft(left_s: float) -> int:
    """Return for how many whole seconds the kernel may be given an address that must be gone in `left_s`.

    Less than one: not at all.
    """
    return math.floor(left_s - DROPPED_LATE_S - REQUEST_S)


class KernelAddress:
    """The service address, as the kernel has it. All methods raise `AddressFault`.

    Requests to the kernel are made one after another in a thread: it lets them wait while others change the
    host's network. One that was made is carried out, even when nobody waits for it any more.

    Parameters
    ----------
    address : IPv4Address or IPv6Address
        Held as a /32 or /128.
    interface : str
        Where it is held.
    announce_interval_s : float
        How often it is announced while it is held.
    clock : callable
        A monotonic clock in seconds: that of `until`.
    """

    def __init__(
        self,
        address: IPAddress,
        interface: str,
        *,
        announce_interval_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = address
        self._interface = interface
        self._announce_interval_s = announce_interval_s
        self._clock = clock
        self._kernel = ThreadPoolExecutor(1, "service-address")
        self._held_until = -math.inf
        self._gone_by = -math.inf
        self._announcing: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None

    @property
    def is_held(self) -> bool:
        """Whether the interface has the address now, unless somebody else took it away."""
        return self._clock() < self._held_until

    def clear(self) -> None:
        """Remove what a process that was killed left behind. At the start, before anything else."""
        with self._told("could not be removed"):
            netlink.remove_address(self._address, self._interface)
            parking.clear(self._address)

    async def hold(self, until: float) -> None:
        """Take the address, or keep it, for a time that the kernel ends by itself.

        It may be called at any time, also with the same `until`. With less time than the kernel can measure
        the address is dropped, unless it goes in time by itself. One that was parked is so no more.

        Parameters
        ----------
        until : float
            When it has to be gone, by the monotonic clock, whatever becomes of this process.
        """
        await self._do(lambda: self._hold(until))
        if self._keeping is not None and self.is_held:
            await self.unpark()

    async def drop(self) -> None:
        """Let go of the address; what is parked stays so. Without it nothing happens."""
        self._held_until = -math.inf
        announcing, self._announcing = self._announcing, None
        dropping = self._do(self._drop)
        await _ended(announcing)
        await dropping

    def announce(self) -> None:
        """Tell the network that the address is here: now, soon again, and then as long as it is held."""
        self._announcing = asyncio.create_task(self._announce(instead_of=self._announcing))

    async def park(self) -> None:
        """Keep the address for the flows that there are, and answer for it no more: another host will.

        It moves to `lo`, so that no packet finds this host without it. Connections from this very host to the
        address are served here as long.

        Raises
        ------
        AddressFault
            It stays where it was.
        """
        if self._keeping is not None:
            return
        self._keeping = asyncio.create_task(self._keep())
        try:
            await self._do(self._park)
        except AddressFault:
            await self._keep_no_more()
            raise
        announcing, self._announcing = self._announcing, None
        await _ended(announcing)

    async def unpark(self) -> None:
        """Let go of the parked address. Without it nothing happens."""
        await self._keep_no_more()
        await self._do(self._unpark)

    async def _keep_no_more(self) -> None:
        keeping, self._keeping = self._keeping, None
        await _ended(keeping)

    def _do(self, request: Callable[[], None]) -> asyncio.Future[None]:
        return asyncio.get_running_loop().run_in_executor(self._kernel, request)

    def _hold(self, until: float) -> None:
        with self._told("could not be held"):
            while (valid_s := valid_lft(until - (now := self._clock()))) >= 1:
                if now + valid_s <= self._held_until and self._gone_by <= until:
                    return  # what the kernel knows is as good: rounded by less
                netlink.add_address(self._address, self._interface, valid_s)
                now = self._clock()
                self._held_until = now + valid_s
                self._gone_by = now + valid_s + DROPPED_LATE_S
                # This process may have been stopped on the way: the kernel counts from when it was woken.
                if self._gone_by <= until:
                    return
            if self._gone_by > until:
                self._drop()

    def _drop(self) -> None:
        self._held_until = self._gone_by = -math.inf
        with self._told("could not be dropped"):
            netlink.remove_address(self._address, self._interface)

    def _park(self) -> None:
        with self._told("could not be parked"):
            parking.enter(self._address, self._interface)
        self._held_until = self._gone_by = -math.inf

    def _unpark(self) -> None:
        with self._told("could not be unparked"):
            parking.leave(self._address)

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(parking.RENEWED_AFTER_S)
            try:
                await self._do(lambda: parking.renew(self._address))
            except OSError as error:
                log.warning("balancer.parking_failed", error=str(error))

    async def _announce(self, *, instead_of: asyncio.Task[None] | None) -> None:
        await _ended(instead_of)
        began = self._clock()
        for after_s in _ANNOUNCED_AFTER_S:
            await asyncio.sleep(began + after_s - self._clock())
            await self._do(self._announce_once)
        while True:
            await asyncio.sleep(self._announce_interval_s)
            await self._do(self._announce_once)

    def _announce_once(self) -> None:
        if not self.is_held:
            return
        try:
            announcement.announce(self._address, self._interface, lambda: self.is_held)
        except OSError as error:
            ANNOUNCEMENTS.labels("failed").inc()
            log.warning("balancer.announcement_failed", interface=self._interface, error=str(error))
        else:
            ANNOUNCEMENTS.labels("sent").inc()

    @contextlib.contextmanager
    def _told(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise fault(f"the service address {self._address} {what} at {self._interface}", error) from error
        except AddressFault as error:
            raise AddressFault(f"the service address {self._address} {what}: {error}") from error


async def _ended(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.wait([task])
