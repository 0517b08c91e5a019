"""What is seen of the front door from outside: who is called, who answers for the address, what is sent."""

from __future__ import annotations

import asyncio
import contextlib
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from chaos.hosts.address_watch import AddressWatch, Tenure, both_held_s, tenures
from chaos.hosts.cluster import NotReady
from chaos.hosts.prober import Probed, Prober
from chaos.hosts.sender import Sent, send_throughout

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from chaos.hosts.cluster import Running

GRACE_S: Final = 5.0
"""How much longer than asked for an association may take: what hangs is given up then."""

_STEADY: Final = 20
"""So many probes must have succeeded before anything happens."""
_SILENCE_S: Final = 0.25
"""Who has not said for so long that the address is his holds it no more."""
_SENDERS: Final = 3


@dataclass(frozen=True, slots=True)
class Observed:
    """What callers and watchers have seen so far; all of it when the watching is over."""

    began_s: float
    """On the loop's clock, as all moments are."""
    prober: Prober
    watch: AddressWatch

    @property
    def probed(self) -> Probed:
        """What came of new associations."""
        return self.prober.probed

    @property
    def longest_gap_s(self) -> float:
        """The longest time without an association that succeeded."""
        return self.probed.longest_gap_s(self.began_s)

    @property
    def tenures(self) -> list[Tenure]:
        """Who held the service address, from when to when."""
        return tenures(self.watch.seen, silence_s=_SILENCE_S)

    @property
    def both_held_s(self) -> float:
        """For how long two held the address; less than 0: there was as much between them."""
        return both_held_s(self.tenures)

    async def until_success(self, cluster: Running, since_s: float, timeout_s: float) -> None:
        """Wait until an association has succeeded that began after a moment.

        Raises
        ------
        NotReady
        """

        async def succeeded() -> bool:
            return self.probed.until_success_s(since_s) is not None

        await cluster.until(succeeded, "a new association", timeout_s)


@dataclass(frozen=True, slots=True)
class Loaded(Observed):
    """The same, while associations send throughout."""

    sent: list[Sent] = field(default_factory=list)
    """What came of them, when it is over; of those that hung, nothing."""


@asynccontextmanager
async def observed(cluster: Running, *, timeout_s: float = 1.0) -> AsyncIterator[Observed]:
    """Call the service, and ask who holds its address, for as long as the context lasts.

    Parameters
    ----------
    cluster : Running
    timeout_s : float
        How long a new association may take, with a C-ECHO.
    """
    prober = Prober(cluster.service, timeout_s=timeout_s, note=cluster.journal.of("client"))
    watch = cluster.watch()
    async with _running(cluster.client.run(prober.run())), _running(watch.run()):
        yield Observed(time.monotonic(), prober, watch)


@asynccontextmanager
async def under_load(cluster: Running, sending_s: float, *, timeout_s: float = 1.0) -> AsyncIterator[Loaded]:
    """Observe while associations send throughout, from when all goes well to their end.

    Parameters
    ----------
    cluster : Running
    sending_s : float
        How long they send.
    timeout_s : float
        How long a new association may take, with a C-ECHO.

    Raises
    ------
    NotReady
        It did not go well before anything happened.
    """
    await _expect_store(cluster)
    async with observed(cluster, timeout_s=timeout_s) as seen:
        sending = [asyncio.create_task(_send(cluster, sending_s)) for _ in range(_SENDERS)]
        try:
            loaded = Loaded(seen.began_s, seen.prober, seen.watch)
            await cluster.until(lambda: _is_steady(seen), "probes that succeed")
            yield loaded
            loaded.sent.extend(one for one in await asyncio.gather(*sending) if one is not None)
        finally:
            for task in sending:
                task.cancel()
            await asyncio.gather(*sending, return_exceptions=True)


async def _is_steady(seen: Observed) -> bool:
    return sum(one.fault is None for one in seen.probed.attempts) >= _STEADY


async def _expect_store(cluster: Running) -> None:
    """Store one instance: what is slow the first time is not slow later."""
    sent = await cluster.client.run(send_throughout(cluster.service, 0.0))
    if sent.fault is not None:
        raise NotReady(f"a store, before anything had happened: {sent.fault}")


async def _send(cluster: Running, seconds: float) -> Sent | None:
    """Send throughout; None when the association hangs, as one may whose other end is without power."""
    try:
        async with asyncio.timeout(seconds + GRACE_S):
            return await cluster.client.run(send_throughout(cluster.service, seconds))
    except TimeoutError:
        return None


@asynccontextmanager
async def _running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Have something done for as long as the context lasts."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
