"""What all catalogues count."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

COMMITS: Final = Counter("atria_catalogue_commits_total", "Transactions that were committed", ["site"])
FAILURES: Final = Counter("atria_catalogue_failures_total", "Transactions that failed", ["site"])
RETRIES: Final = Counter(
    "atria_catalogue_retries_total", "Transactions that met others, and were begun anew", ["site"]
)
COMMIT_SECONDS: Final = Histogram(
    "atria_catalogue_commit_seconds", "From the lock, or the begin, to the commit", ["site"]
)
CHANGES_LAG_SECONDS: Final = Gauge(
    "atria_changes_lag_seconds",
    "How long changes wait for a transaction to end before they are told",
    ["site"],
)
