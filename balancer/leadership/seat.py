"""What the kernel is told of the address: what the stance says, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog
from prometheus_client import Counter, Gauge

from balancer.address.faults import AddressFault
from balancer.leadership.interfaces import ServiceAddress
from balancer.leadership.stance import Stance

log = structlog.get_logger()

LEADS = Gauge("atria_balancer_leads", "Whether this balancer leads, and holds the service address")
TAKEN = Counter("atria_balancer_address_taken_total", "Times that this balancer took the service address")
FAULTS = Counter("atria_balancer_address_faults_total", "Times that the kernel did not do as it was asked")


class Seat:
    """Holds the address while the stance does, and drops it when that is over.

    Parameters
    ----------
    stance : Stance
    address : ServiceAddress
    now : callable
        The loop's clock, in seconds.

    Attributes
    ----------
    is_parked : bool
        Whether running flows are served to their end without leading.
    fault : str or None
        Why the kernel did not let it hold the address when it was tried last.
    """

    def __init__(self, stance: Stance, address: ServiceAddress, now: Callable[[], float]) -> None:
        self.is_parked = False
        self.fault: str | None = None
        self._stance = stance
        self._address = address
        self._now = now
        self._shown: float | None = None
        self._changed = asyncio.Event()
        self._kernel = asyncio.Lock()

    @property
    def is_held(self) -> bool:
        """Whether the address is here, and its time is not over."""
        return self._shown is not None and self._stance.holds(self._now())

    def changed(self) -> None:
        """Tell that the stance is another."""
        self._changed.set()

    async def run(self) -> None:
        """Follow the stance until cancelled."""
        while True:
            self._changed.clear()
            await self.settle()
            left_s = self._stance.until - self._now() if self._stance.holds(self._now()) else None
            try:
                async with asyncio.timeout(left_s):
                    await self._changed.wait()
            except TimeoutError:
                pass  # the time of holding is over

    async def settle(self) -> None:
        """Have the kernel do what the stance says now."""
        async with self._kernel:
            if self._stance.holds(self._now()):
                await self._hold()
            if not self._stance.holds(self._now()):
                await self._drop()
                self._gone()

    async def park(self) -> bool:
        """Let go of the address, and serve the flows that run to their end. Tell whether it is gone."""
        async with self._kernel:
            try:
                await self._address.park()
            except AddressFault as error:
                FAULTS.inc()
                log.warning("leader.not_parked", why=str(error))
                return await self._let_go()
            self.is_parked = True
            self._stance.let_go()
            self._gone()
            return True

    async def unpark(self) -> None:
        """Serve flows of a former time of leading no more. Where the kernel refuses, it stays parked."""
        async with self._kernel:
            try:
                await self._unpark()
            except AddressFault as error:
                self._failed(error)

    async def close(self) -> bool:
        """Have nothing of the address any more. Tell whether it is gone."""
        async with self._kernel:
            gone = await self._let_go()
        await self.unpark()
        return gone

    async def _hold(self) -> None:
        until = self._stance.until
        if self._shown == until:
            return
        try:
            await self._address.hold(until)
            await self._unpark()
        except AddressFault as error:
            self._failed(error)
            self.fault = str(error)
            self._shown = until  # it may be there all the same
            await self._let_go()
            return
        self.fault = None
        if self._shown is None:
            self._address.announce()
            TAKEN.inc()
            LEADS.set(1)
            log.info("leader.took", role=self._stance.role.value, until_s=round(until - self._now(), 3))
        self._shown = until

    async def _let_go(self) -> bool:
        """Hold the address no more; where it cannot be dropped, no longer than until its time is over."""
        gone = await self._drop()
        if gone:
            self._stance.let_go()
            self._gone()
        else:
            self._stance.give(self._now())
        return gone

    async def _drop(self) -> bool:
        """Tell whether the kernel does not have the address any more. If not, it drops it at its time."""
        if self._shown is None:
            return True
        try:
            await self._address.drop()
        except AddressFault as error:
            self._failed(error)
            return False
        return True

    async def _unpark(self) -> None:
        if self.is_parked:
            await self._address.unpark()
            self.is_parked = False
            log.info("leader.unparked")

    def _failed(self, error: AddressFault) -> None:
        FAULTS.inc()
        log.warning("leader.address_fault", why=str(error))

    def _gone(self) -> None:
        if self._shown is not None:
            log.info("leader.let_go", parked=self.is_parked)
        self._shown = None
        LEADS.set(0)
