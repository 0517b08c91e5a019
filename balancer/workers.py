"""The workers that are known, what each has to do, and how each is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import Final

import structlog
from prometheus_client import Counter, Gauge

from balancer.choice import choose
from balancer.routing import is_in_pool
from balancer.search import Refused, Search
from balancer.worker import Worker
from cluster.coordination.registry import Address, Member
from cluster.settings import Route

log = structlog.get_logger()

ASSOCIATIONS = Gauge("atria_balancer_associations", "Associations that are relayed now", ["worker"])
REFUSALS = Counter(
    "atria_balancer_worker_refusals_total", "Associations that a worker did not take", ["worker", "reason"]
)
FAILING = Gauge("atria_balancer_worker_failing", "Whether a worker does not answer its probes", ["worker"])

FAILING_REST_S: Final = 5.0
"""How long a worker that failed an association is taken only if there is no other, unless it answers."""
REFUSED_REST_S: Final = 0.25
"""How long a worker that said no is not asked again."""


class Workers:
    """All workers that the registry knows.

    Parameters
    ----------
    name : str
        Of this balancer.
    now : callable
        A monotonic clock, in seconds.
    random : Random
    """

    def __init__(self, name: str, now: Callable[[], float], random: Random) -> None:
        self.on_opening: Callable[[], None] = lambda: None
        """Called when a worker may have become able to take one more association."""
        self._name = name
        self._now = now
        self._random = random
        self._by_name: dict[str, Worker] = {}
        self._gone: dict[str, Worker] = {}
        """Known no more, with associations that go on. A worker that its registry lost may come back."""
        self._turn = 0.0
        self._associations = 0

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[Worker]:
        return iter(self._by_name.values())

    def __contains__(self, worker: Worker) -> bool:
        return self._by_name.get(worker.name) is worker

    @property
    def associations(self) -> int:
        """How many are relayed or offered now, at all workers, those that are known no more included."""
        return self._associations

    def update(self, members: Iterable[Member]) -> None:
        """Know these, and no others. A process that was started anew begins with nothing to its name."""
        found: dict[str, Worker] = {}
        for member in members:
            if member.kind != "worker" or member.dicom is None:
                continue
            known = self._by_name.get(member.name) or self._gone.get(member.name)
            if known is None or known.member.started_at != member.started_at:
                known = Worker(member, member.dicom, self._turn)
            if known not in self:
                FAILING.labels(member.name).set(known.is_lost)
                log.info("worker.found", worker=member.name, dicom=str(member.dicom))
            self._describe(known, member, member.dicom)
            found[member.name] = known
        for name in self._by_name.keys() - found.keys():
            FAILING.labels(name).set(0)
            log.info("worker.gone", worker=name, associations=self._by_name[name].associations)
        self._gone = {
            name: worker
            for name, worker in (self._gone | self._by_name).items()
            if worker.associations and name not in found
        }
        self._by_name = found
        self.on_opening()

    def pick(self, search: Search, *, again: bool = False) -> Worker | None:
        """Choose a worker for an association, and count it there until `leave` is called.

        Parameters
        ----------
        search : Search
        again : bool
            Whether those are asked, too, that have refused it and may take it now.
        """
        now = self._now()
        chosen = choose(
            [
                worker.candidate(search.route, now)
                for worker in self._by_name.values()
                if search.may_ask(worker, now, again=again)
            ],
            self._random,
        )
        if chosen is None:
            return None
        worker = self._by_name[chosen.name]
        if worker.full_at is not None and worker.load >= worker.full_at:
            worker.full_until = now + REFUSED_REST_S  # one is enough to find out whether it still is
        # Start-time fair queuing: who was away for long has no claim to what it missed.
        self._turn = max(self._turn, worker.turn)
        worker.turn = self._turn + 1 / worker.member.weight
        self._count(worker, 1)
        return worker

    def have_room(self) -> bool:
        """Return whether any could be given an association: one of those that wait for a worker, perhaps."""
        now = self._now()
        return any(worker.candidate(None, now).has_room for worker in self._by_name.values())

    def has_another(self, search: Search, worker: Worker) -> bool:
        """Return whether one that is well could take the association in place of this one."""
        now = self._now()
        return any(
            search.may_ask(other, now, again=False)
            and not other.is_failing(now)
            and other.candidate(search.route, now).has_room
            for other in self._by_name.values()
            if other is not worker
        )

    def lack(self, route: Route | None) -> str | None:
        """Tell why no worker could take an association of a route, had it room; None when one could."""
        if route is None or not (route.only and route.workers):
            return None
        if any(is_in_pool(route, worker.labels) for worker in self._by_name.values()):
            return None
        labels = ", ".join(f"{label}={value}" for label, value in route.workers.items())
        return f"no worker has {labels}, and the route lets no other take it"

    def leave(self, worker: Worker, *, served: bool) -> None:
        """Count an association that is over, or was not taken."""
        self._count(worker, -1)
        if served:
            worker.openings += 1
        self.on_opening()

    def rejected(self, worker: Worker, search: Search) -> None:
        """Note that a worker takes no more for now, so that the next association need not find out again."""
        now = self._now()
        worker.full_at = worker.load - 1
        worker.full_until = now + REFUSED_REST_S
        search.refused[worker] = Refused(worker.openings, worker.full_until)
        REFUSALS.labels(worker.name, "rejected").inc()

    def failed(self, worker: Worker, search: Search, error: OSError) -> None:
        """Note that a worker did not answer. One that let us wait is not waited for twice."""
        now = self._now()
        worker.failing_until = now + FAILING_REST_S
        not_before = math.inf if isinstance(error, TimeoutError) else now + REFUSED_REST_S
        search.refused[worker] = Refused(worker.openings, not_before)
        REFUSALS.labels(worker.name, type(error).__name__).inc()

    def answered(self, worker: Worker) -> None:
        """Note that a worker has taken an association."""
        if worker.full_at is not None or worker.missed_probes or worker.failing_until:
            worker.full_at = None
            self._is_well(worker)

    def probe_answered(self, worker: Worker, begun_at: float) -> None:
        """Note that a worker has answered a probe. What failed after the probe began, still counts."""
        if worker.failing_until > begun_at + FAILING_REST_S:
            return
        if worker.missed_probes or worker.failing_until:
            self._is_well(worker)

    def probe_missed(self, worker: Worker, failures: int, error: str) -> None:
        """Note that a worker has not answered a probe; after so many in a row it is failing."""
        worker.missed_probes += 1
        if worker.missed_probes >= failures and not worker.is_lost:
            worker.is_lost = True
            FAILING.labels(worker.name).set(1)
            log.warning("worker.failing", worker=worker.name, probes=worker.missed_probes, error=error)

    def status(self) -> list[dict[str, object]]:
        """Return what the status page says of each."""
        now = self._now()
        return [
            {
                "name": worker.name,
                "dicom": str(worker.dicom),
                "associations": worker.associations,
                "elsewhere": worker.elsewhere,
                "capacity": worker.member.capacity,
                "weight": worker.member.weight,
                "labels": dict(worker.member.labels),
                "draining": worker.member.draining,
                "full": worker.is_full(now),
                "failing": worker.is_failing(now),
                "last_probe": worker.last_probe,
            }
            for worker in self._by_name.values()
        ]

    def _describe(self, worker: Worker, member: Member, dicom: Address) -> None:
        elsewhere = sum(share.associations for share in member.load.shares if share.balancer != self._name)
        if elsewhere < worker.elsewhere:
            worker.openings += 1
        worker.member, worker.dicom, worker.elsewhere = member, dicom, elsewhere
        worker.labels = dict(member.labels)

    def _is_well(self, worker: Worker) -> None:
        if worker.is_lost:
            worker.is_lost = False
            FAILING.labels(worker.name).set(0)
            log.info("worker.well", worker=worker.name)
        worker.missed_probes = 0
        worker.failing_until = 0.0
        worker.openings += 1
        self.on_opening()

    def _count(self, worker: Worker, step: int) -> None:
        worker.associations += step
        self._associations += step
        ASSOCIATIONS.labels(worker.name).inc(step)
