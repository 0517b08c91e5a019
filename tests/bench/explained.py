"""How PostgreSQL answers a query: the plans of the statements that a find sends, as it carries them out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from storage_node.catalogue.postgresql.find import Find
from tests.bench.catalogue_servers import connect
from tests.bench.filled_rows import TABLES

if TYPE_CHECKING:
    import asyncpg

    from storage_node.catalogue.matching import Query
    from storage_node.catalogue.postgresql.database import Location

_PAGE: Final = 200
_EXPLAIN: Final = "EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) "


@dataclass(frozen=True, slots=True)
class Plans:
    """What one page of a find takes."""

    steps: tuple[str, ...]
    """Each way of reading that a plan names, once: `studies by studies_by_patient_id`, say."""
    sequential: tuple[str, ...]
    """The filled tables that are read from beginning to end."""
    planning_ms: float
    execution_ms: float

    def __str__(self) -> str:
        took = f"planned in {self.planning_ms:.1f} ms, carried out in {self.execution_ms:.1f} ms"
        return f"{', '.join(self.steps)}; {took}"


async def explain(location: Location, query: Query) -> Plans:
    """Return how the first page of a query is read."""
    connection = await connect(location)
    explaining = _Explaining(connection)
    try:
        await Find(query).page(cast("asyncpg.Connection", explaining), None, _PAGE)
    finally:
        await connection.close()
    nodes = [node for told in explaining.told for node in _nodes(told["Plan"])]
    return Plans(
        steps=tuple(dict.fromkeys(step for node in nodes if (step := _step(node)))),
        sequential=tuple(
            node["Relation Name"]
            for node in nodes
            if node["Node Type"] == "Seq Scan" and node["Relation Name"] in TABLES
        ),
        planning_ms=sum(told["Planning Time"] for told in explaining.told),
        execution_ms=sum(told["Execution Time"] for told in explaining.told),
    )


class _Explaining:
    """A connection that has every statement explained before it is carried out."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self.told: list[dict[str, Any]] = []

    async def fetchrow(self, statement: str, *parameters: object) -> asyncpg.Record | None:
        (told,) = json.loads(await self._connection.fetchval(_EXPLAIN + statement, *parameters))
        self.told.append(told)
        return await self._connection.fetchrow(statement, *parameters)


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for below in node.get("Plans", ()):
        yield from _nodes(below)


def _step(node: dict[str, Any]) -> str | None:
    match node:
        case {"Node Type": "Bitmap Index Scan", "Index Name": index}:
            return f"a bitmap of {index}"
        case {"Relation Name": table, "Index Name": index}:
            return f"{table} by {index}"
        case {"Node Type": "Seq Scan", "Relation Name": table}:
            return f"all of {table}"
        case _:
            return None
