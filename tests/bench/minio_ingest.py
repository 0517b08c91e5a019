"""Storing at three MinIO servers, through the balancer, beside a bare client that puts the same triples."""

from __future__ import annotations

from typing import Final

from tests.bench import ingest
from tests.bench.figures import Figure
from tests.bench.object_servers import cluster_and_servers
from tests.bench.plan import Bench

PART: Final = "minio-ingest"
_BARS: Final = {1: 0.75, 8: 0.85}
"""By the number of associations."""


def run(bench: Bench) -> list[Figure]:
    """Compare them at each number of associations, the sites' catalogues being SQLite files.

    Raises
    ------
    Broken
        One of them did not work, or what Atria acknowledged is not at all three sites.
    """
    with cluster_and_servers(bench, PART) as (atria, servers):
        return ingest.compare(bench, PART, atria, servers, _BARS)
