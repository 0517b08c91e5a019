"""A query as SQLite answers it."""

from __future__ import annotations

import functools
import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from cluster.nouns import Level
from storage_node.catalogue import schema
from storage_node.catalogue.attributes import Attribute
from storage_node.catalogue.find import Answers, Page
from storage_node.catalogue.matching import Query
from storage_node.catalogue.statements import Asked, Kind, apart, narrowed, page_of, without_values

_DIALECT: Final = sqlite.dialect(paramstyle="named")


class _Wording:
    """See `statements.Wording`."""

    series = schema.series

    def listed(self, values: Sequence[str]) -> str:
        return json.dumps(values)

    def pattern(self, wild: str) -> str:
        return wild.replace("[", "[[]")

    def among(self, column: sa.ColumnElement[str], values: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
        return column.in_(sa.select(sa.func.json_each(values).table_valued("value").c.value))

    def like(self, column: sa.ColumnElement[str], pattern: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
        return column.op("GLOB", is_comparison=True)(pattern)

    def several(self, column: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
        return sa.func.instr(column, "\\") > 0

    def undecided(self, column: sa.Column[str], asked: Asked) -> sa.ColumnElement[bool]:
        several = column.table.c.several == sa.true()
        if asked.attribute.vr != "PN":
            return sa.and_(several, self.several(column))
        # In some countries every name has several representations: the flag says little of them.
        given = [sa.bindparam(name, type_=sa.Text) for name in asked.parameters if name is not None]
        match asked.kind:
            case Kind.IS:
                return sa.and_(several, sa.func.instr(column, given[0]) > 0)
            case Kind.LIKE:
                return sa.and_(several, sa.or_(*(self.like(column, "*" + value + "*") for value in given)))
            case _:
                return several


_WORDING: Final = _Wording()


class Find:
    """A query, compiled once for all of its pages."""

    def __init__(self, query: Query) -> None:
        self._answers = Answers(query)
        keys = [without_values(at, key, _WORDING) for at, key in enumerate(narrowed(query.keys))]
        self._sql, constants = _page_sql(
            query.level, self._answers.compared, tuple(asked for asked, _ in keys)
        )
        self._parameters = {
            **constants,
            **{name: value for _, values in keys for name, value in values.items()},
        }
        self._apart = _apart_sql(query.level)

    def page(self, connection: sqlite3.Connection, after: tuple[str, ...] | None, size: int) -> Page:
        """Read the matches among the next `size` entities that SQL lets pass.

        Parameters
        ----------
        connection : sqlite3.Connection
        after : tuple of str or None
            What `Page.after` of the page before said; None for the first page.
        size : int
        """
        parameters = {**self._parameters, **self._answers.after(after), "size": size}
        more: Sequence[tuple[Any, ...]] = ()
        connection.execute("BEGIN")
        try:
            rows = connection.execute(self._sql, parameters).fetchall()
            if self._apart is not None:
                entities = _WORDING.listed(sorted({row[0] for row in rows}))
                more = connection.execute(self._apart, {"entities": entities}).fetchall()
        finally:
            connection.execute("ROLLBACK")
        return self._answers.page(rows, more, size)


@functools.lru_cache(maxsize=256)
def _page_sql(
    level: Level, compared: tuple[Attribute, ...], keys: tuple[Asked, ...]
) -> tuple[str, Mapping[str, object]]:
    compiled = page_of(level, compared, keys, _WORDING).compile(dialect=_DIALECT)
    return str(compiled), compiled.params


@functools.cache
def _apart_sql(level: Level) -> str | None:
    statement = apart(level, _WORDING, sa.bindparam("entities", type_=sa.Text))
    return None if statement is None else str(statement.compile(dialect=_DIALECT))
