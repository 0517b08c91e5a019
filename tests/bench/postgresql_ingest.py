"""Storing at three MinIO servers with a PostgreSQL server each, beside a bare client that does the puts."""

from __future__ import annotations

from typing import Final

from tests.bench import ingest
from tests.bench.catalogue_servers import catalogue_servers
from tests.bench.figures import Figure
from tests.bench.object_servers import NAMES, cluster_and_servers
from tests.bench.plan import Bench

PART: Final = "postgresql-ingest"
_BARS: Final = {1: 0.70, 8: 0.75}
"""By the number of associations."""


def run(bench: Bench) -> list[Figure]:
    """Compare them at each number of associations, the sites' catalogues being in PostgreSQL.

    Raises
    ------
    Broken
        One of them did not work, or what Atria acknowledged is not at all three sites.
    """
    bench.note("starting three PostgreSQL servers")
    with (
        catalogue_servers(bench.folder / "catalogues", *NAMES) as catalogues,
        cluster_and_servers(bench, PART, catalogues=catalogues) as (atria, servers),
    ):
        return ingest.compare(bench, PART, atria, servers, _BARS)
