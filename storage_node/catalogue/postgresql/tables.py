"""What a PostgreSQL catalogue has otherwise than `schema` says, as what reads it sees it."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from storage_node.catalogue import schema

series_seen: Final = sa.Table(
    "series_seen",
    sa.MetaData(),
    *(sa.Column(column.name, column.type, nullable=column.nullable) for column in schema.series.columns),
)
"""A view of `series` with the counts that are kept beside it, in parts, and with the list of its classes."""


def storable(text: str) -> str:
    """Return a text as it is kept: U+FFFD stands for NUL, which PostgreSQL's texts cannot hold."""
    return text.replace("\0", "\ufffd")
