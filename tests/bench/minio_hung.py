"""Storing and retrieving while one of three MinIO servers hangs, beside the same with all of them well."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from tests.bench import instances
from tests.bench.cluster import Cluster
from tests.bench.figures import Figure, Leg, at, interleaved, ratio
from tests.bench.legs import get, send
from tests.bench.object_servers import ObjectServers, cluster_and_servers
from tests.bench.plan import Bench
from tests.bench.sender import Job

PART: Final = "minio-hung"
_HUNG_SITE: Final = "a"
"""The first in the settings is the nearest: reads go there as long as it is well."""
_FIRST_SECOND: Final = 1.0
_HUNG, _WELL = "one site hung", "all well"


def run(bench: Bench) -> list[Figure]:
    """Compare both, from a second after the server was stopped; before the next turn all is repaired.

    Raises
    ------
    Broken
        An instance was not stored, or did not come, or was not repaired.
    """
    with cluster_and_servers(bench, PART) as (atria, servers):
        stored = [
            figure
            for number in bench.plan.minio_associations
            for figure in _storing(bench, atria, servers, number)
        ]
        return [*stored, *_retrieving(bench, atria, servers)]


def _storing(bench: Bench, atria: Cluster, servers: ObjectServers, associations: int) -> list[Figure]:
    count, seconds = bench.plan.minio_count // associations, bench.plan.minio_seconds

    def sent() -> float:
        return send(Job("127.0.0.1", atria.port, associations, count, seconds), "Atria").rate

    rates = interleaved(_legs(atria, servers, sent), bench.plan.minio_rounds, bench.note)
    return _figures("storing", rates, at(associations), at_least=1.15)


def _retrieving(bench: Bench, atria: Cluster, servers: ObjectServers) -> list[Figure]:
    job = Job("127.0.0.1", atria.port, associations=1, count=bench.plan.minio_retrieved)
    send(job, "Atria")
    study = instances.uids(job.run, 0, 0).study.decode("ascii")

    def got() -> float:
        return get(atria.port, study, job.count, "Atria").rate

    rates = interleaved(_legs(atria, servers, got), bench.plan.minio_rounds, bench.note)
    return _figures("C-GET of a study", rates, "", at_least=0.9)


def _legs(atria: Cluster, servers: ObjectServers, turn: Leg) -> dict[str, Leg]:
    def with_a_site_hung() -> float:
        with servers.hung(_HUNG_SITE):
            end = time.monotonic() + _FIRST_SECOND
            while time.monotonic() < end:
                turn()
            reached = turn()
        atria.wait_until_verified()
        return reached

    return {_HUNG: with_a_site_hung, _WELL: turn}


def _figures(
    what: str, rates: Mapping[str, tuple[float, ...]], suffix: str, *, at_least: float
) -> list[Figure]:
    named = {f"{what}, {name}": values for name, values in rates.items()}
    return [
        *(Figure(PART, name + suffix, "/s", values) for name, values in named.items()),
        ratio(PART, named, f"{what}, {_HUNG}", f"{what}, {_WELL}", suffix=suffix, at_least=at_least),
    ]
