"""A query as PostgreSQL answers it.

A column that holds several values does not decide, and what is in it must be looked at; that no index is
passed over for it, such rows are in indexes of their own, and names are found by parts of them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql.base import PGDialect

from storage_node.catalogue.find import Answers, Page
from storage_node.catalogue.keys import Empty, Like, OneOf, Within
from storage_node.catalogue.postgresql.tables import series_seen, storable
from storage_node.catalogue.statements import Asked, Kind, Narrowing, apart, narrowed, page_of, without_values

if TYPE_CHECKING:
    import asyncpg

    from cluster.nouns import Level
    from storage_node.catalogue.attributes import Attribute
    from storage_node.catalogue.matching import Query

_DIALECT: Final = PGDialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]
_PLAN_FOR_VALUES: Final = "SET LOCAL plan_cache_mode = force_custom_plan"
"""Whether an index or the order of the answers is followed depends on how many a key's value leaves over."""
_LIKE: Final = {"*": "%", "?": "_", "\\": "\\\\", "%": "\\%", "_": "\\_"}
_SEVERAL_VALUES: Final = sa.literal_column(r"'\\'", sa.Text)
_SEVERAL_NAMES: Final = sa.literal_column(r"'[\\=]'", sa.Text)
"""Regular expressions by which there are partial indexes: as literals, they are known to be the same."""
_ESCAPE: Final = [sa.literal_column(part, sa.Text) for part in (r"'([\\%_])'", r"'\\\1'", "'g'")]
"""What makes a value a pattern: `regexp_replace`'s arguments."""


class _Wording:
    """See `statements.Wording`."""

    series = series_seen

    def listed(self, values: Sequence[str]) -> list[str]:
        return list(values)

    def pattern(self, wild: str) -> str:
        return re.sub(r"[*?\\%_]", lambda found: _LIKE[found[0]], wild)

    def among(self, column: sa.ColumnElement[str], values: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
        return column == sa.any_(sa.type_coerce(values, ARRAY(sa.Text)))

    def like(self, column: sa.ColumnElement[str], pattern: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
        return column.like(pattern)

    def undecided(self, column: sa.Column[str], asked: Asked) -> sa.ColumnElement[bool]:
        if asked.attribute.vr != "PN":
            return column.regexp_match(_SEVERAL_VALUES)
        # In some countries every name has several representations.
        several = column.regexp_match(_SEVERAL_NAMES)
        given = [sa.bindparam(name, type_=sa.Text) for name in asked.parameters if name is not None]
        match asked.kind:
            case Kind.IS:
                return sa.and_(several, _holds(column, sa.func.regexp_replace(given[0], *_ESCAPE)))
            case Kind.LIKE:
                return sa.and_(several, sa.or_(*(_holds(column, pattern) for pattern in given)))
            case _:
                return several


def _holds(column: sa.ColumnElement[str], pattern: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    return column.like("%" + pattern + "%")


_WORDING: Final = _Wording()


class Find:
    """A query, compiled once for all of its pages."""

    def __init__(self, query: Query) -> None:
        self._answers = Answers(query)
        narrowing = [_storable(part) for key in query.keys for part in narrowed(key)]
        keys = [without_values(at, key, _WORDING) for at, key in enumerate(narrowing)]
        self._sql, self._names, constants = _page_sql(
            query.level, self._answers.compared, tuple(asked for asked, _ in keys)
        )
        self._parameters = {
            **constants,
            **{name: value for _, values in keys for name, value in values.items()},
        }
        self._apart = _apart_sql(query.level)

    async def page(self, connection: asyncpg.Connection, after: tuple[str, ...] | None, size: int) -> Page:
        """Read the matches among the next `size` entities that SQL lets pass.

        Parameters
        ----------
        connection : asyncpg.Connection
            In no transaction.
        after : tuple of str or None
            What `Page.after` of the page before said; None for the first page.
        size : int

        Raises
        ------
        asyncpg.PostgresError, OSError
        """
        parameters = {**self._parameters, **self._answers.after(after), "size": size}
        more: Sequence[asyncpg.Record] = ()
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            await connection.execute(_PLAN_FOR_VALUES)
            rows = await connection.fetch(self._sql, *(parameters[name] for name in self._names))
            if self._apart is not None:
                more = await connection.fetch(self._apart, sorted({row[0] for row in rows}))
        return self._answers.page(rows, more, size)


def _storable(key: Narrowing) -> Narrowing:
    match key:
        case OneOf():
            return replace(key, values=tuple(map(storable, key.values)))
        case Like():
            return replace(key, patterns=tuple(map(storable, key.patterns)))
        case Within():
            first, last = (None if end is None else storable(end) for end in (key.first, key.last))
            return replace(key, first=first, last=last)
        case Empty():
            return key


@functools.lru_cache(maxsize=256)
def _page_sql(
    level: Level, compared: tuple[Attribute, ...], keys: tuple[Asked, ...]
) -> tuple[str, Sequence[str], Mapping[str, object]]:
    """Return a statement, the names of its parameters in order, and the values of those that are fixed."""
    compiled = page_of(level, compared, keys, _WORDING).compile(dialect=_DIALECT)
    return str(compiled), compiled.positiontup or (), compiled.params


@functools.cache
def _apart_sql(level: Level) -> str | None:
    statement = apart(level, _WORDING)
    return None if statement is None else str(statement.compile(dialect=_DIALECT))
