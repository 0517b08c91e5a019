"""What several catalogues say of one instance, as one answer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cluster.nouns import Provenance
from storage_node.catalogue.views import currency

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from storage_node.catalogue.protocol import Row


def merge(answers: Iterable[Sequence[Row]]) -> tuple[Row, ...]:
    """Return the union of rows, the current version's first: the highest by (order, received, digest).

    Rows of one version merge to the earlier provenance and the higher order, whatever order they come in.
    """
    merged: dict[str, Row] = {}
    for rows in answers:
        for row in rows:
            known = merged.get(row.version.digest)
            merged[row.version.digest] = row if known is None else _merge(known, row)
    return tuple(sorted(merged.values(), key=currency, reverse=True))


def _merge(one: Row, other: Row) -> Row:
    return replace(
        one,
        provenance=Provenance.merge(one.provenance, other.provenance),
        order=max(one.order, other.order),
    )
