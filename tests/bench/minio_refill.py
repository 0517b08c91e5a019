"""Filling a site that came back empty, beside a bare client that copies as many objects as many at a time."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
from typing import Final

from cluster.settings import Upkeep
from tests.bench import bare_s3, cluster
from tests.bench.bare_s3 import Bucket, Listed
from tests.bench.cluster import Cluster
from tests.bench.figures import Figure, interleaved, ratio
from tests.bench.legs import bare, send
from tests.bench.object_servers import BUCKET, ObjectServers, cluster_and_servers, make_buckets
from tests.bench.plan import Bench
from tests.bench.processes import Broken
from tests.bench.s3_baseline import OBJECT_SUFFIX, BareJob
from tests.bench.sender import Job

PART: Final = "minio-refill"
_SOURCE, _EMPTIED = "a", "c"
_ASSOCIATIONS: Final = 4
_TIMEOUT_S: Final = 300.0
_ATRIA: Final = "a site filled"
_BARE: Final = "bare GETs and PUTs"


def run(bench: Bench) -> list[Figure]:
    """Empty a site and have it replaced, in each round; its rate is read from its bucket.

    Raises
    ------
    Broken
        It was not filled.
    """
    count = bench.plan.minio_refilled // _ASSOCIATIONS
    numbers = itertools.count(1)
    with cluster_and_servers(bench, PART) as (atria, servers):
        bench.note("storing what there will be to copy")
        send(Job("127.0.0.1", atria.port, _ASSOCIATIONS, count), "Atria")
        atria.wait_until_verified()

        def copied() -> float:
            target = servers.bucket(_EMPTIED, f"copied-{next(numbers)}")
            make_buckets([target])
            at_once = Upkeep().repair_at_once
            return bare(BareJob("copy", (servers.bucket(_SOURCE, BUCKET), target), at_once)).rate

        legs = {_ATRIA: lambda: _refill(atria, servers), _BARE: copied}
        rates = interleaved(legs, bench.plan.minio_refills, bench.note, warm_up=False)
    return [
        *(Figure(PART, name, "/s", values) for name, values in rates.items()),
        ratio(PART, rates, _ATRIA, _BARE, at_least=0.7),
    ]


def _refill(atria: Cluster, servers: ObjectServers) -> float:
    """Replace the site, and return the rate of its objects, from when the first was there to the last."""
    servers.empty(_EMPTIED)
    command = [*cluster.atria_command("site replace", atria.folder, atria.config), _EMPTIED, "--yes"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
    if done.returncode != 0:
        raise Broken(f"atria site replace: {done.stdout}{done.stderr}")
    atria.wait_until_verified()
    times = [listed.modified_at for listed in asyncio.run(_list(servers.bucket(_EMPTIED, BUCKET)))]
    return (len(times) - 1) / (max(times) - min(times)).total_seconds()


async def _list(bucket: Bucket) -> list[Listed]:
    async with bare_s3.open_client(connections=1) as client:
        return await client.list(bucket, OBJECT_SUFFIX)
