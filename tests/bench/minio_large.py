"""Instances of 1 GiB, streamed to three MinIO servers, and what memory a worker needs for four at once."""

from __future__ import annotations

import itertools
import shutil
from typing import Final

from tests.bench.cluster import Cluster
from tests.bench.figures import Bar, Figure, interleaved, ratio
from tests.bench.instances import FRAME_BYTES
from tests.bench.legs import bare, send
from tests.bench.object_servers import NAMES, ObjectServers, cluster_and_servers
from tests.bench.plan import Bench
from tests.bench.processes import peak_memory_bytes
from tests.bench.s3_baseline import BareJob
from tests.bench.sender import Job

PART: Final = "minio-large"
_MIB: Final = 1024 * 1024
_AT_ONCE: Final = 4
_SPARE: Final = 1.2
_ATRIA: Final = "Atria"
_BARE: Final = "bare multipart uploads"


def run(bench: Bench) -> list[Figure]:
    """Send through a cluster with a single worker, so that everything is its to hold.

    Raises
    ------
    Broken
        An instance was not stored.
    """
    plan = bench.plan
    size_bytes = plan.frames * FRAME_BYTES
    instances = 2 * plan.minio_large_rounds + _AT_ONCE
    needed = instances * size_bytes * len(NAMES) * _SPARE
    if shutil.disk_usage(bench.folder).free < needed:
        note = f"needs {needed / _MIB / 1024:.0f} GiB of free disk"
        return [Figure(PART, "instances of 1 GiB", "MiB/s", (), None, note)]
    with cluster_and_servers(bench, PART, workers=1) as (atria, servers):
        figures = _one_at_a_time(bench, atria, servers)
        bench.note(f"{_AT_ONCE} at once")
        send(Job("127.0.0.1", atria.port, _AT_ONCE, 1, frames=plan.frames), _ATRIA)
        (worker,) = atria.worker_pids()
        peak = peak_memory_bytes(worker) / _MIB
        name = f"{_AT_ONCE} of {size_bytes // _MIB} MiB at once: the worker's peak"
        return [*figures, Figure(PART, name, "MiB", (peak,), Bar(400.0, at_least=False))]


def _one_at_a_time(bench: Bench, atria: Cluster, servers: ObjectServers) -> list[Figure]:
    mebibytes = bench.plan.frames * FRAME_BYTES / _MIB
    answers: list[float] = []
    runs = itertools.count(1)

    def sent() -> float:
        result = send(Job("127.0.0.1", atria.port, 1, 1, frames=bench.plan.frames), _ATRIA)
        answers.append(result.slowest_answer_s)
        return result.rate * mebibytes

    def uploaded() -> float:
        job = BareJob("upload", servers.buckets(), count=1, frames=bench.plan.frames, run=next(runs))
        return bare(job).rate * mebibytes

    legs = {_ATRIA: sent, _BARE: uploaded}
    rates = interleaved(legs, bench.plan.minio_large_rounds, bench.note, warm_up=False)
    suffix = f", {mebibytes:.0f} MiB"
    last = Bar(2.0, at_least=False)
    return [
        *(Figure(PART, name + suffix, "MiB/s", values) for name, values in rates.items()),
        ratio(PART, rates, _ATRIA, _BARE, suffix=suffix, at_least=0.75),
        Figure(PART, "from the last P-DATA to the answer" + suffix, "s", tuple(answers), last),
    ]
