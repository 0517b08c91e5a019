# ruff: noqa: S608  (names of tables and columns are constants; values are bound)
"""The change feed of a PostgreSQL catalogue, in which no transaction that ends late is passed over.

A transaction gives its rows their numbers before it ends, so that those of one that ends later may be lower.
The feed therefore goes by transaction, in the order in which these began to change something, and by number
in each; and only as far as all transactions before have ended. One that hangs, also of somebody else who has
a database in this server, holds the feed back: nothing is lost, but nothing is told either.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import structlog

from cluster.nouns import Instance
from storage_node.catalogue.columns import ADDED_COLUMNS, FACT_COLUMNS, added_of, fact_of
from storage_node.catalogue.feed import Change, merged, place_of
from storage_node.catalogue.metrics import CHANGES_LAG_SECONDS

if TYPE_CHECKING:
    import asyncpg

WARN_AFTER_S: Final = 60.0
"""How long a feed is held back before it is said in the log."""

_HORIZON: Final = "pg_snapshot_xmin(pg_current_snapshot())"
_FEED: Final = (
    f"SELECT feed_id, {_HORIZON}::text::bigint,"
    f" EXISTS (SELECT FROM versions WHERE added_in >= {_HORIZON})"
    f" OR EXISTS (SELECT FROM facts WHERE added_in >= {_HORIZON}) FROM site"
)
_AFTER: Final = (
    "WHERE (added_in, {number}) > ($1::text::xid8, $2::bigint)"
    f" AND added_in < {_HORIZON} ORDER BY added_in, {{number}} LIMIT $3"
)
_ADDED: Final = (
    f"SELECT added_in::text::bigint AS transaction, id, {ADDED_COLUMNS} FROM versions"
    f" {_AFTER.format(number='id')}"
)
_DECIDED: Final = (
    "SELECT added_in::text::bigint AS transaction, number, study_instance_uid, series_instance_uid,"
    f" sop_instance_uid, {FACT_COLUMNS} FROM facts {_AFTER.format(number='number')}"
)
_BEGIN: Final = (0, 0)

log = structlog.get_logger()


class Feed:
    """Reads the feed, and knows for how long it has been held back.

    Parameters
    ----------
    site : str
        Name of the site, for metrics and log lines.
    monotonic : callable
        Returns the time in seconds.
    """

    def __init__(self, site: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._site = site
        self._monotonic = monotonic
        self._horizon = 0
        self._held_since_s = 0.0
        self._has_warned = False

    async def read(self, connection: asyncpg.Connection, after: str | None, limit: int) -> Sequence[Change]:
        """Return the versions and facts that came after a cursor, in the order in which they came."""
        # All statements see the same, or a fact could be told before a version that came meanwhile.
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            found = await connection.fetchrow(_FEED)
            assert found is not None
            feed_id, horizon, is_held = found
            transaction, number = place_of(after, feed_id, begin=_BEGIN, end=(horizon, 0))
            place = (str(transaction), number, limit)
            versions = await connection.fetch(_ADDED, *place)
            facts = await connection.fetch(_DECIDED, *place)
        self._note(horizon, is_held=is_held)
        added = ((row[:2], added_of(*row[2:])) for row in versions)
        decided = ((row[:2], fact_of(Instance(*row[2:5]), *row[5:])) for row in facts)
        return merged(feed_id, added, decided, limit)

    def _note(self, horizon: int, *, is_held: bool) -> None:
        """Note whether changes wait for a transaction, and for how long it has been the same one."""
        now_s = self._monotonic()
        if not is_held or horizon != self._horizon:
            self._horizon, self._held_since_s, self._has_warned = horizon, now_s, False
        lag_s = now_s - self._held_since_s
        CHANGES_LAG_SECONDS.labels(self._site).set(lag_s)
        if lag_s > WARN_AFTER_S and not self._has_warned:
            self._has_warned = True
            log.warning(
                "catalogue.changes_held_back", site=self._site, seconds=round(lag_s), transaction=horizon
            )
