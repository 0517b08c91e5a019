# ruff: noqa: S608  (names of tables and columns are constants; values are bound)
"""Many rows for a table in one statement: each column is one parameter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from storage_node.catalogue.postgresql.tables import storable

if TYPE_CHECKING:
    import asyncpg


_MANY: Final = 16
"""Rows from which on COPY takes less time, its round trip included, than arrays of their columns."""

_NUMBERS: Final = frozenset(("smallint", "integer", "bigint"))
"""Types of which an array is given as a text: the driver would ask of each element whether it is an array."""


@dataclass(frozen=True, slots=True)
class Insert:
    """Rows for a table, which none of the others that are sent with them looks into."""

    rows: Rows
    table: str
    more: str
    """What follows, ON CONFLICT as a rule."""
    given: Sequence[Sequence[Any]]


async def insert_all(connection: asyncpg.Connection, inserts: Iterable[Insert]) -> None:
    """Insert into several tables in one round trip; many rows have another, and cost less each."""
    statements: list[str] = []
    parameters: list[Any] = []
    for insert in inserts:
        if not insert.more and len(insert.given) >= _MANY:
            await insert.rows.copy(connection, insert.table, insert.given)
        elif insert.given:
            statement = insert.rows.insert(insert.table, insert.more, first=len(parameters) + 1)
            statements.append(f"of_{len(statements)} AS ({statement})")
            parameters += insert.rows.parameters(insert.given)
    if statements:
        await connection.execute(f"WITH {', '.join(statements)} SELECT 1", *parameters)


class Rows:
    """The parameters of a statement that takes many rows.

    Parameters
    ----------
    columns : mapping of str to str
        The type of each column, by its name.
    """

    def __init__(self, columns: Mapping[str, str]) -> None:
        self.columns = tuple(columns)
        """Their names."""
        self.names = ", ".join(columns)
        """The columns, as a list in SQL."""
        self._types = tuple(columns.values())

    def source(self, first: int = 1) -> str:
        """Return the rows as a function in FROM; its parameters are numbered from `first`."""
        arrays = (
            f"${number}::text::{kind}[]" if kind in _NUMBERS else f"${number}::{kind}[]"
            for number, kind in enumerate(self._types, first)
        )
        return f"unnest({', '.join(arrays)}) AS given ({self.names})"

    def insert(self, table: str, more: str = "", *, first: int = 1) -> str:
        """Return the statement that inserts the rows into a table."""
        return f"INSERT INTO {table} ({self.names}) SELECT {self.names} FROM {self.source(first)} {more}"

    async def copy(self, connection: asyncpg.Connection, table: str, rows: Sequence[Sequence[Any]]) -> None:
        """Copy rows into a table, where none of them conflicts with another."""
        records = zip(*self._columns_of(rows), strict=True)
        await connection.copy_records_to_table(table, records=records, columns=self.columns)

    def parameters(self, rows: Iterable[Sequence[Any]]) -> list[Any]:
        """Return the parameters for some rows."""
        return [
            f"{{{','.join(map(str, column))}}}" if kind in _NUMBERS else column
            for kind, column in zip(self._types, self._columns_of(rows), strict=True)
        ]

    def _columns_of(self, rows: Iterable[Sequence[Any]]) -> list[list[Any]]:
        columns: list[list[Any]] = [list(column) for column in zip(*rows, strict=True)]
        columns = columns or [[] for _ in self._types]
        for kind, column in zip(self._types, columns, strict=True):
            if kind == "text" and "\0" in "".join(filter(None, column)):
                column[:] = [None if value is None else storable(value) for value in column]
        return columns
