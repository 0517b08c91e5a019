"""The workers that are known, and what each has to do."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import structlog
from prometheus_client import Counter, Gauge

from balancer.choice import Candidate, choose
from cluster.coordination.registry import Address, Member

log = structlog.get_logger()

ASSOCIATIONS = Gauge("atria_balancer_associations", "Associations that are relayed now", ["worker"])
REFUSALS = Counter(
    "atria_balancer_worker_refusals_total", "Associations that a worker did not take", ["worker", "reason"]
)


class Worker:
    """One worker process. It outlives its place in the registry for as long as associations end at it."""

    def __init__(self, member: Member, dicom: Address) -> None:
        self.member = member
        self.dicom = dicom
        self.associations = 0
        self.picked = 0
        self.failing_until = 0.0

    @property
    def name(self) -> str:
        """Its name in the cluster."""
        return self.member.name


class Workers:
    """All workers that the registry knows.

    Parameters
    ----------
    now : callable
        A monotonic clock, in seconds.
    failing_rest_s : float
        How long a worker that failed is taken only if there is no other.
    """

    def __init__(self, now: Callable[[], float], failing_rest_s: float = 5.0) -> None:
        self._now = now
        self._failing_rest_s = failing_rest_s
        self._by_name: dict[str, Worker] = {}
        self._picks = 0
        self._associations = 0

    def __len__(self) -> int:
        return len(self._by_name)

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
            known = self._by_name.get(member.name)
            if known is None or known.member.started_at != member.started_at:
                known = Worker(member, member.dicom)
                known.picked = self._picks
                log.info("worker.found", worker=member.name, dicom=str(member.dicom))
            known.member, known.dicom = member, member.dicom
            found[member.name] = known
        for name in self._by_name.keys() - found.keys():
            log.info("worker.gone", worker=name, associations=self._by_name[name].associations)
        self._by_name = found

    def pick(self, refused: Collection[str]) -> Worker | None:
        """Choose a worker for an association, and count it there until `leave` is called."""
        now = self._now()
        chosen = choose(
            [
                Candidate(worker.name, worker.associations, worker.picked, worker.failing_until > now)
                for worker in self._by_name.values()
            ],
            refused,
        )
        if chosen is None:
            return None
        worker = self._by_name[chosen.name]
        self._picks += 1
        worker.picked = self._picks
        self._count(worker, 1)
        return worker

    def leave(self, worker: Worker) -> None:
        """Count an association that is over, or was not taken."""
        self._count(worker, -1)

    def failed(self, worker: Worker, reason: str) -> None:
        """Note that a worker did not answer, so that the next association need not find out again."""
        worker.failing_until = self._now() + self._failing_rest_s
        REFUSALS.labels(worker.name, reason).inc()

    def answered(self, worker: Worker) -> None:
        """Note that a worker has answered."""
        worker.failing_until = 0.0

    def status(self) -> list[dict[str, object]]:
        """Return what the status page says of each."""
        now = self._now()
        return [
            {
                "name": worker.name,
                "dicom": str(worker.dicom),
                "associations": worker.associations,
                "failing": worker.failing_until > now,
            }
            for worker in self._by_name.values()
        ]

    def _count(self, worker: Worker, step: int) -> None:
        worker.associations += step
        self._associations += step
        ASSOCIATIONS.labels(worker.name).inc(step)
