"""What one worker needs in memory: after many instances, and with four very large ones at once."""

from __future__ import annotations

import shutil
from typing import Final

from tests.bench import cluster
from tests.bench.figures import RATIO, Bar, Figure
from tests.bench.instances import FRAME_BYTES
from tests.bench.legs import send
from tests.bench.plan import Bench
from tests.bench.processes import peak_memory_bytes, resident_memory_bytes
from tests.bench.sender import Job

PART: Final = "memory"
_MIB: Final = 1024 * 1024
_ASSOCIATIONS: Final = 4
_SPARE: Final = 1.2


def run(bench: Bench) -> list[Figure]:
    """Send through a cluster with a single worker, so that everything is its to hold.

    Raises
    ------
    Broken
        An instance was not stored.
    """
    plan = bench.plan
    with cluster.atria(bench.folder / "memory", workers=1) as atria:
        (worker,) = atria.worker_pids()
        bench.note(f"{plan.memory_first} instances")
        send(Job("127.0.0.1", atria.port, _ASSOCIATIONS, plan.memory_first // _ASSOCIATIONS), "Atria")
        first = peak_memory_bytes(worker)
        bench.note(f"{plan.memory_more} more instances")
        send(Job("127.0.0.1", atria.port, _ASSOCIATIONS, plan.memory_more // _ASSOCIATIONS), "Atria")
        then = peak_memory_bytes(worker)
        growth = Figure(
            PART,
            f"peak after {plan.memory_first + plan.memory_more} instances ÷ after {plan.memory_first}",
            RATIO,
            (then / first,),
            Bar(1.1, at_least=False),
            f"{first / _MIB:.0f} MiB, then {then / _MIB:.0f} MiB",
        )
        return [growth, _large(bench, atria, worker)]


def _large(bench: Bench, atria: cluster.Cluster, worker: int) -> Figure:
    """Send them, and tell what the worker's peak lies above what was resident just before."""
    mebibytes = bench.plan.frames * FRAME_BYTES // _MIB
    name = f"{_ASSOCIATIONS} multi-frame instances of {mebibytes} MiB at once"
    bar = Bar(300.0, at_least=False)
    needed = _ASSOCIATIONS * mebibytes * _MIB * cluster.SITES * _SPARE
    if shutil.disk_usage(bench.folder).free < needed:
        return Figure(PART, name, "MiB", (), bar, f"needs {needed / _MIB / 1024:.0f} GiB of free disk")
    bench.note(name)
    before = resident_memory_bytes(worker)
    result = send(Job("127.0.0.1", atria.port, _ASSOCIATIONS, 1, frames=bench.plan.frames), "Atria")
    after = peak_memory_bytes(worker)
    rate = result.instances * mebibytes / result.seconds
    note = f"{before / _MIB:.0f} MiB resident, then a peak of {after / _MIB:.0f} MiB; {rate:.0f} MiB/s"
    return Figure(PART, name, "MiB", ((after - before) / _MIB,), bar, note)
