"""What several catalogues say of one instance, as one answer."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from cluster.nouns import Provenance
from storage_node.catalogue.views import currency

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from storage_node.catalogue.protocol import Row


def merge(answers: Iterable[Sequence[Row]], choice: str | None = None) -> tuple[Row, ...]:
    """Return the union of rows, the current version's first: the chosen, or the highest by (order, received).

    Rows of one version merge to the earlier provenance and the higher order, whatever order they come in.

    Parameters
    ----------
    answers : iterable of sequence of Row
    choice : str or None
        Digest of the version that was chosen, if one was.
    """
    merged: dict[str, Row] = {}
    for rows in answers:
        for row in rows:
            known = merged.get(row.version.digest)
            merged[row.version.digest] = row if known is None else _merge(known, row)
    return tuple(sorted(merged.values(), key=partial(currency, choice=choice), reverse=True))


def order_among(known: Sequence[Row], digest: str) -> int:
    """Return the order that a version has, or would get, where these rows of its instance are known."""
    return next(
        (row.order for row in known if row.version.digest == digest),
        1 + max((row.order for row in known), default=0),
    )


def _merge(one: Row, other: Row) -> Row:
    return replace(
        one,
        provenance=Provenance.merge(one.provenance, other.provenance),
        order=max(one.order, other.order),
    )
