"""Storing at three MinIO servers, through the balancer, beside a bare client that puts the same triples."""

from __future__ import annotations

import itertools
from typing import Final

from tests.bench.cluster import Cluster
from tests.bench.figures import Figure, at, interleaved, ratio
from tests.bench.legs import bare, send
from tests.bench.object_servers import ObjectServers, cluster_and_servers
from tests.bench.plan import Bench
from tests.bench.s3_baseline import BareJob
from tests.bench.sender import Job

PART: Final = "minio-ingest"
_ATRIA: Final = "Atria"
_BARE: Final = "bare PUTs"
_BARS: Final = {1: 0.75, 8: 0.85}
"""By the number of associations."""


def run(bench: Bench) -> list[Figure]:
    """Compare them at each number of associations; the bare client has as many triples under way.

    Raises
    ------
    Broken
        One of them did not work, or what Atria acknowledged is not at all three sites.
    """
    runs = itertools.count(1)
    with cluster_and_servers(bench, PART) as (atria, servers):
        figures = [
            figure
            for number in bench.plan.minio_associations
            for figure in _compare(bench, atria, servers, number, runs)
        ]
        bench.note("is every instance at every site?")
        atria.wait_until_verified()
        return figures


def _compare(
    bench: Bench, atria: Cluster, servers: ObjectServers, associations: int, runs: itertools.count[int]
) -> list[Figure]:
    count, seconds = bench.plan.minio_count // associations, bench.plan.minio_seconds

    def sent() -> float:
        return send(Job("127.0.0.1", atria.port, associations, count, seconds), _ATRIA).rate

    def put() -> float:
        return bare(BareJob("put", servers.buckets(), associations, count, seconds, run=next(runs))).rate

    rates = interleaved({_ATRIA: sent, _BARE: put}, bench.plan.minio_rounds, bench.note)
    suffix = at(associations)
    return [
        *(Figure(PART, name + suffix, "/s", values) for name, values in rates.items()),
        ratio(PART, rates, _ATRIA, _BARE, suffix=suffix, at_least=_BARS.get(associations)),
    ]
