"""Retrieving a study by C-GET from three MinIO servers, beside a bare client that reads as many objects."""

from __future__ import annotations

from typing import Final

from tests.bench import instances
from tests.bench.figures import Figure, interleaved, ratio
from tests.bench.legs import bare, get, send
from tests.bench.object_servers import cluster_and_servers
from tests.bench.plan import Bench
from tests.bench.s3_baseline import BareJob
from tests.bench.sender import Job

PART: Final = "minio-get"
_ATRIA: Final = "C-GET of a study"
_BARE: Final = "bare GETs"


def run(bench: Bench) -> list[Figure]:
    """Compare them, each one instance at a time.

    Raises
    ------
    Broken
        One of them did not work.
    """
    count = bench.plan.minio_retrieved
    with cluster_and_servers(bench, PART) as (atria, servers):
        bench.note("storing a study")
        job = Job("127.0.0.1", atria.port, associations=1, count=count)
        send(job, "Atria")
        bare(BareJob("put", servers.buckets(), count=count))
        atria.wait_until_verified()
        study = instances.uids(job.run, 0, 0).study.decode("ascii")
        rates = interleaved(
            {
                _ATRIA: lambda: get(atria.port, study, count, "Atria").rate,
                _BARE: lambda: bare(BareJob("get", servers.buckets(), count=count)).rate,
            },
            bench.plan.minio_rounds,
            bench.note,
        )
    return [
        *(Figure(PART, name, "/s", values) for name, values in rates.items()),
        ratio(PART, rates, _ATRIA, _BARE, at_least=0.8),
    ]
