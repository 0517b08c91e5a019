"""Rows of which nothing is known are added by one call, a transaction by itself: one round trip, not four.

The function `add_new` in the database locks, looks, and adds. It says no, and has done nothing, where
anything is known of one of the instances, one of the rows is to stand for its series or study, or the
catalogue is another's. Then `write.make` does it, which can do all; so it does where many rows share a
transaction, as it copies them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from storage_node.catalogue.postgresql import locks
from storage_node.catalogue.postgresql.changes import AddRow, Change
from storage_node.catalogue.postgresql.difference import First, first
from storage_node.catalogue.postgresql.standings import Standings
from storage_node.catalogue.postgresql.write import VERSIONS

if TYPE_CHECKING:
    import asyncpg

    from cluster.nouns import SiteIdentity
    from storage_node.catalogue.protocol import Met

ROWS_LIMIT: Final = 8
"""Rows up to which one call costs the server less than round trips do."""
_ADD: Final = "SELECT add_new($1, $2, $3, $4::text::bigint[], $5::text::bigint[], $6, $7::text::json)"


async def add(
    connection: asyncpg.Connection,
    changes: Sequence[Change],
    *,
    part: int,
    expected: SiteIdentity,
    standings: Standings,
) -> Sequence[Met] | None:
    """Add rows by one call; return what each met, or None if that cannot be, and nothing was done.

    Parameters
    ----------
    connection : asyncpg.Connection
        In no transaction.
    changes : sequence of Change
    part : int
        This process's part of what many add to.
    expected : SiteIdentity
        Whose catalogue it must be: in another's nothing is done.
    standings : Standings
    """
    rows = [change for change in changes if isinstance(change, AddRow) and not change.debts]
    if not len(changes) == len(rows) <= ROWS_LIMIT:
        return None
    new = [first(row.row) for row in rows]
    instances = {one.difference.instance for one in new}
    if len(instances) < len(new) or not all(map(standings.stay, new)):
        return None
    given = json.dumps([_given(one, row.verified_at) for one, row in zip(new, rows, strict=True)])
    if r"\u0000" in given:  # which no text in the database can have: it is to be replaced
        return None
    shared, alone = map(_array, locks.numbers_of(instances))
    identity = (expected.name, expected.site_id, expected.generation)
    is_added = await connection.fetchval(_ADD, *identity, shared, alone, part, given)
    return [one.met for one in new] if is_added else None


def _given(new: First, verified_at: str) -> dict[str, object]:
    """Return a row by the names that the function knows."""
    columns = dict(zip(VERSIONS.columns, (*new.columns, verified_at, False), strict=True))
    return {
        **{name: _text(value) if isinstance(value, bytes) else value for name, value in columns.items()},
        "rank": new.rank,
        "of_view": new.difference.of_view,
        "of_summary": new.difference.of_summary,
    }


def _text(value: bytes) -> str:
    """Return bytes as PostgreSQL reads them from a text."""
    return f"\\x{value.hex()}"


def _array(numbers: Iterable[int]) -> str:
    """Return numbers in the order in which they are to be locked."""
    return f"{{{','.join(map(str, sorted(numbers)))}}}"
