"""Lets callers in, or tells them why not, and finds each a worker: at once, or after a short wait."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from random import Random

import structlog
from prometheus_client import Counter, Gauge

from balancer.admission import Refusal, refusal_of
from balancer.associate_rq import RejectReason
from balancer.caller import Caller
from balancer.ceilings import Ceilings
from balancer.departure import watched
from balancer.queue import Queue, QueueFull
from balancer.routing import route_of
from balancer.search import Search
from balancer.worker import Worker
from balancer.workers import Workers
from cluster.coordination.registry import Member
from cluster.settings import Limits
from cluster.settings.live import LiveSettings

log = structlog.get_logger()

REFUSED = Counter(
    "atria_balancer_refused_associations_total",
    "Associations that were rejected by the balancer, by the setting that says so",
    ["setting"],
)
WAITING = Gauge("atria_balancer_waiting_associations", "Associations that wait for a worker now")


class NoWorker(Exception):
    """No worker takes the association, and it has waited as long as it may. The message says why."""


class CallerLeft(Exception):
    """The caller has left while it waited."""


class Inquiry:
    """One association's search for a worker, and its place among those that wait."""

    def __init__(self, search: Search) -> None:
        self.search = search
        self.place: int | None = None
        self.waits_until = 0.0

    @property
    def asked(self) -> list[str]:
        """Names of those that have refused it."""
        return sorted(worker.name for worker in self.search.refused)


class Reception:
    """What the associations of one balancer share.

    Parameters
    ----------
    live : LiveSettings
    name : str
        Of this balancer.
    affordable : callable
        How many associations file descriptors allow here.
    """

    def __init__(self, live: LiveSettings, name: str, affordable: Callable[[], int]) -> None:
        self._live = live
        self._affordable = affordable
        self._loop = asyncio.get_running_loop()
        self._ceilings = Ceilings(name)
        self.workers = Workers(name, self._loop.time, Random())  # noqa: S311  nothing is kept secret by it
        self._queue: Queue[Worker] = Queue(
            lambda: self._live.now.limits.queued_associations, self.workers.have_room
        )
        self.workers.on_opening = self._queue.wake

    @property
    def guests(self) -> int:
        """How many were let in, and are still here."""
        return self._ceilings.here

    def heed(self, members: Iterable[Member]) -> None:
        """Take in who is there, and what they report."""
        members = list(members)
        self._ceilings.heed(members)
        self.workers.update(members)

    def refusal(self, caller: Caller) -> Refusal | None:
        """Return why a caller may not come in, or None."""
        refusal = refusal_of(caller, self._live.now, self._ceilings)
        if refusal is None and self._ceilings.here >= (allowed := self._affordable()):
            refusal = Refusal(
                RejectReason.LOCAL_LIMIT_EXCEEDED,
                "RLIMIT_NOFILE",
                f"{allowed} associations here, the limit of file descriptors allows no more",
            )
        if refusal is not None:
            REFUSED.labels(refusal.setting).inc()
        return refusal

    @contextmanager
    def guest(self, caller: Caller) -> Iterator[None]:
        """Count a caller for as long as the context lasts."""
        self._ceilings.enter(caller)
        try:
            yield
        finally:
            self._ceilings.leave(caller)

    def inquiry(self, caller: Caller) -> Inquiry:
        """Begin to look for a worker."""
        route = route_of(
            self._live.now.routes,
            called_ae=caller.called_ae,
            calling_ae=caller.calling_ae,
            source=caller.source,
        )
        return Inquiry(Search(route))

    async def find(self, inquiry: Inquiry, client: socket.socket) -> Worker:
        """Return a worker to offer the association to, counted there until `Workers.leave`.

        Those that have not refused it come first, and are offered it at once. When there is none, it waits,
        all in all up to `limits.queue_timeout_s`, until one of all has room or answers again.

        Raises
        ------
        NoWorker
        CallerLeft
        """
        search = inquiry.search
        worker = self._queue.attempt(lambda: self.workers.pick(search))
        return worker if worker is not None else await self._wait(inquiry, client)

    async def _wait(self, inquiry: Inquiry, client: socket.socket) -> Worker:
        limits = self._live.now.limits
        if inquiry.place is None:
            inquiry.place = self._place()
            inquiry.waits_until = self._loop.time() + limits.queue_timeout_s
        elif self._loop.time() >= inquiry.waits_until:
            raise self._waited_in_vain(inquiry, limits)
        has_left = False

        def left() -> None:
            nonlocal has_left
            has_left = True
            scope.reschedule(self._loop.time())

        try:
            async with asyncio.timeout_at(inquiry.waits_until) as scope:
                with WAITING.track_inprogress(), watched(client, left):
                    return await self._queue.wait(
                        inquiry.place,
                        lambda: self.workers.pick(inquiry.search, again=True),
                        lambda worker: self.workers.leave(worker, served=False),
                    )
        except TimeoutError:
            if has_left:
                raise CallerLeft from None
            raise self._waited_in_vain(inquiry, limits) from None

    def _place(self) -> int:
        try:
            return self._queue.place()
        except QueueFull:
            REFUSED.labels("limits.queued_associations").inc()
            raise NoWorker(
                f"none has room, and limits.queued_associations lets no more than {len(self._queue)} wait"
            ) from None

    def _waited_in_vain(self, inquiry: Inquiry, limits: Limits) -> NoWorker:
        if lack := self.workers.lack(inquiry.search.route):
            REFUSED.labels("routes").inc()
            return NoWorker(lack)
        REFUSED.labels("limits.queue_timeout_s").inc()
        return NoWorker(f"none has had room for {limits.queue_timeout_s:g} s")

    def status(self) -> dict[str, object]:
        """Return what the status page says: ceilings, the queue, and the workers."""
        limits = self._live.now.limits
        return {
            "ceilings": self._ceilings.status(limits),
            "queue": {"waiting": len(self._queue), "limit": limits.queued_associations},
            "workers": self.workers.status(),
        }
