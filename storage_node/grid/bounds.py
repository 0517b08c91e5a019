"""What one process asks of one site at most: a slow site must not eat the memory of the process."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from prometheus_client import Gauge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_IN_FLIGHT: Final = Gauge(
    "atria_site_requests_in_flight", "Calls that are under way at the site, or wait for their turn", ["site"]
)
_HELD: Final = Gauge("atria_site_held_bytes", "Bytes that are being written to the site", ["site"])


class Bounds:
    """The calls of this process that are under way at one site, each with its time limit.

    Parameters
    ----------
    site : str
        Name of the site.
    requests : int
        Calls at once; the next one waits for its turn.
    held_bytes : int
        Bytes that are being written; past it the site does not keep up.
    """

    def __init__(self, site: str, *, requests: int, held_bytes: int) -> None:
        self.requests = requests
        self._turns = asyncio.Semaphore(requests)
        self._limit_bytes = held_bytes
        self._held_bytes = 0
        self._calls: dict[asyncio.Timeout, bool] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._in_flight_gauge = _IN_FLIGHT.labels(site)
        self._held_gauge = _HELD.labels(site)

    @property
    def keeps_up(self) -> bool:
        """Whether more may be written to the site."""
        return self._held_bytes < self._limit_bytes

    @asynccontextmanager
    async def call(self, limit: asyncio.Timeout, size_bytes: int, *, may_be_cut: bool) -> AsyncIterator[None]:
        """Wait for a turn, and have it until the call has ended.

        What it writes is held until then, also past its time limit: memory is free when nobody uses it.

        Parameters
        ----------
        limit : asyncio.Timeout
            The time limit of the call, which was entered.
        size_bytes : int
            What it writes.
        may_be_cut : bool
            Whether it ends when the site is found to be down.
        """
        self._begin(limit, size_bytes, may_be_cut)
        try:
            async with self._turns:
                yield
        finally:
            self._end(limit, size_bytes)

    def _begin(self, limit: asyncio.Timeout, size_bytes: int, may_be_cut: bool) -> None:
        self._calls[limit] = may_be_cut
        self._idle.clear()
        self._in_flight_gauge.inc()
        if size_bytes:
            self._held_bytes += size_bytes
            self._held_gauge.inc(size_bytes)

    def _end(self, limit: asyncio.Timeout, size_bytes: int) -> None:
        del self._calls[limit]
        if not self._calls:
            self._idle.set()
        self._in_flight_gauge.dec()
        if size_bytes:
            self._held_bytes -= size_bytes
            self._held_gauge.dec(size_bytes)

    def cut(self) -> None:
        """Have the time limits of the calls that are under way, or wait, end now."""
        now_s = asyncio.get_running_loop().time()
        for limit, may_be_cut in self._calls.items():
            if may_be_cut and not limit.expired():
                limit.reschedule(now_s)

    async def ended(self) -> None:
        """Wait until no call is under way."""
        await self._idle.wait()
