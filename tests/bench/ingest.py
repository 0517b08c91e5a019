"""Storing through the balancer, beside a bare client that puts the same triples at the same servers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Final

from tests.bench.cluster import Cluster
from tests.bench.figures import Figure, at, interleaved, ratio
from tests.bench.legs import bare, send
from tests.bench.object_servers import ObjectServers
from tests.bench.plan import Bench
from tests.bench.s3_baseline import BareJob
from tests.bench.sender import Job

_ATRIA: Final = "Atria"
_BARE: Final = "bare PUTs"


def compare(
    bench: Bench, part: str, atria: Cluster, servers: ObjectServers, bars: Mapping[int, float]
) -> list[Figure]:
    """Compare them at each number of associations; the bare client has as many triples under way.

    Parameters
    ----------
    bench : Bench
    part : str
        Whose figures they are.
    atria : Cluster
        Its sites are the servers.
    servers : ObjectServers
    bars : mapping of int to float
        What the ratio is to be at least, by the number of associations.

    Raises
    ------
    Broken
        One of them did not work, or what Atria acknowledged is not at all three sites.
    """
    runs = itertools.count(1)
    figures: list[Figure] = []
    for associations in bench.plan.minio_associations:
        rates = _rates(bench, atria, servers, associations, runs)
        suffix = at(associations)
        figures += (Figure(part, name + suffix, "/s", values) for name, values in rates.items())
        figures.append(ratio(part, rates, _ATRIA, _BARE, suffix=suffix, at_least=bars.get(associations)))
    bench.note("is every instance at every site?")
    atria.wait_until_verified()
    return figures


def _rates(
    bench: Bench, atria: Cluster, servers: ObjectServers, associations: int, runs: Iterator[int]
) -> dict[str, tuple[float, ...]]:
    count, seconds = bench.plan.minio_count // associations, bench.plan.minio_seconds

    def sent() -> float:
        return send(Job("127.0.0.1", atria.port, associations, count, seconds), _ATRIA).rate

    def put() -> float:
        return bare(BareJob("put", servers.buckets(), associations, count, seconds, run=next(runs))).rate

    return interleaved({_ATRIA: sent, _BARE: put}, bench.plan.minio_rounds, bench.note)
