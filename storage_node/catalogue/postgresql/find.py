# ruff: noqa: S608  (names of columns are made here; values are bound)
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

from storage_node.catalogue.attributes import ACCESSION_NUMBER, PATIENT_ID, UNIQUE_KEYS
from storage_node.catalogue.find import Answers, Page
from storage_node.catalogue.keys import Empty, Like, OneOf, Within
from storage_node.catalogue.postgresql.tables import series_seen, storable
from storage_node.catalogue.statements import (
    UIDS,
    Asked,
    Kind,
    Narrowing,
    apart,
    narrowed,
    page_of,
    without_values,
)

if TYPE_CHECKING:
    import asyncpg

    from cluster.nouns import Level
    from storage_node.catalogue.attributes import Attribute
    from storage_node.catalogue.matching import Query

_DIALECT: Final = PGDialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]
_TELLING: Final = frozenset((PATIENT_ID, ACCESSION_NUMBER, *UNIQUE_KEYS.values()))
"""Keys that leave so little over, whatever their value, that there is but one good plan."""
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

    def several(self, column: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
        return column.regexp_match(_SEVERAL_VALUES)

    def undecided(self, column: sa.Column[str], asked: Asked) -> sa.ColumnElement[bool]:
        if asked.attribute.vr != "PN":
            return self.several(column)
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
        narrowing = map(_storable, narrowed(query.keys))
        keys = [without_values(at, key, _WORDING) for at, key in enumerate(narrowing)]
        asked = tuple(asked for asked, _ in keys)
        self._sql, self._names, constants = _page_sql(query.level, self._answers.compared, asked)
        self.is_planned_by_value = not any(
            one.kind is Kind.IS and one.attribute.tag in _TELLING for one in asked
        )
        """Whether an index or the order of the answers is followed depends on what its values leave over."""
        self._parameters = {
            **constants,
            **{name: value for _, values in keys for name, value in values.items()},
        }

    async def page(self, connection: asyncpg.Connection, after: tuple[str, ...] | None, size: int) -> Page:
        """Read the matches among the next `size` entities that SQL lets pass.

        Parameters
        ----------
        connection : asyncpg.Connection
        after : tuple of str or None
            What `Page.after` of the page before said; None for the first page.
        size : int

        Raises
        ------
        asyncpg.PostgresError, OSError
        """
        parameters = {**self._parameters, **self._answers.after(after), "size": size}
        found = await connection.fetchrow(self._sql, *(parameters[name] for name in self._names))
        assert found is not None
        return self._answers.page(found["rows"], found["more"], size)


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
    """Return a statement, the names of its parameters in order, and the values of those that are fixed.

    It is one for a page and all that is read of its entities: they are as of the same moment.
    """
    page = page_of(level, compared, keys, _WORDING)
    compiled = page.compile(dialect=_DIALECT)
    columns = [f"c{at}" for at in range(len(page.selected_columns))]
    more = apart(level, _WORDING, sa.literal_column("ARRAY(SELECT DISTINCT c0 FROM page)"))
    sql = (
        f"WITH page ({', '.join(columns)}) AS MATERIALIZED ({compiled})"
        f" SELECT ARRAY(SELECT ROW({', '.join(columns)}) FROM page"
        f" ORDER BY {', '.join(columns[: UIDS[level]])}) AS rows, {_array(more)} AS more"
    )
    return sql, compiled.positiontup or (), compiled.params


def _array(statement: sa.Select[*tuple[Any, ...]] | None) -> str:
    """Return an expression for the rows of a statement."""
    if statement is None:
        return "ARRAY[]::record[]"
    names = ", ".join(f"m{at}" for at in range(len(statement.selected_columns)))
    return f"ARRAY(SELECT ROW({names}) FROM ({statement.compile(dialect=_DIALECT)}) AS more ({names}))"
