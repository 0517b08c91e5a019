from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from cluster.dicom.elements import Element, pack
from cluster.nouns import Level
from deploy.postgresql import PostgresqlServer
from storage_node.catalogue.attributes import KEPT
from storage_node.catalogue.postgresql.catalogue import PostgresqlCatalogue
from storage_node.catalogue.postgresql.database import Location
from tests.bench import filler, population
from tests.bench.catalogue_queries import Filled, queries
from tests.bench.catalogue_servers import IDENTITY, connect, new_catalogue
from tests.bench.explained import explain
from tests.bench.filled_rows import LISTED_INSTANCES, TABLES, row
from tests.postgresql import running_server

_STUDIES, _LISTED = 6, 2
_ITS_OWN = {"id", "representative", "header", "part", "added_in"}


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresqlServer]:
    with running_server() as running:
        yield running


@pytest.fixture(scope="module")
def filled(server: PostgresqlServer) -> Filled:
    location = new_catalogue(server, "filled")
    return Filled(location, _STUDIES, filler.fill(location, _STUDIES, _LISTED))


def _header(study: population.Study, instance: int) -> bytes:
    vrs = {attribute.tag: attribute.vr for attribute in KEPT}
    values = {**study.values, 0x00200013: str(instance + 1)}
    elements = {tag: Element(vrs[tag], value.encode("utf-8")) for tag, value in values.items()}
    return pack({**elements, 0x00080005: Element("CS", b"ISO_IR 192")})


async def _store(location: Location, filled: Filled) -> None:
    catalogue = PostgresqlCatalogue(IDENTITY.name, location, IDENTITY)
    try:
        for study in map(population.study, range(filled.studies)):
            instances = LISTED_INSTANCES if study.study_instance_uid in filled.listed else 1
            new = [row(study, number, _header(study, number)) for number in range(instances)]
            await asyncio.gather(*(catalogue.add(one, verified_at=study.received_at) for one in new))
    finally:
        await catalogue.close()


async def _held(location: Location, table: str) -> list[dict[str, Any]]:
    connection = await connect(location)
    try:
        joined = f"SELECT held.*, stands.digest AS stands FROM {table} AS held"
        joined += " LEFT JOIN versions AS stands ON stands.id = held.representative"
        is_view = table in ("series", "studies")
        found = await connection.fetch(joined if is_view else f"SELECT * FROM {table}")
    finally:
        await connection.close()
    rows = [{name: value for name, value in row.items() if name not in _ITS_OWN} for row in found]
    return sorted(rows, key=repr)


@pytest.mark.parametrize("table", TABLES)
def test_the_filler_makes_what_storing_makes(server: PostgresqlServer, filled: Filled, table: str) -> None:
    stored = new_catalogue(server, f"stored_{table}")
    asyncio.run(_store(stored, filled))
    made = asyncio.run(_held(filled.location, table))
    assert made == asyncio.run(_held(stored, table))
    assert len(made) >= _STUDIES


def test_every_index_is_there_again_and_the_next_row_has_a_number_of_its_own(
    server: PostgresqlServer, filled: Filled
) -> None:
    async def look(location: Location) -> tuple[set[str], int]:
        connection = await connect(location)
        try:
            indexes = await connection.fetch("SELECT indexdef FROM pg_indexes WHERE schemaname = 'atria'")
            last = await connection.fetchval("SELECT max(id) FROM versions") or 0
            number = await connection.fetchval("SELECT nextval(pg_get_serial_sequence('versions', 'id'))")
        finally:
            await connection.close()
        return {row["indexdef"] for row in indexes}, number - last

    indexes, step = asyncio.run(look(filled.location))
    assert indexes == asyncio.run(look(new_catalogue(server, "indexes")))[0]
    assert step == 1


def test_every_kind_of_query_finds_something_and_its_plan_names_what_it_reads(filled: Filled) -> None:
    async def ask() -> None:
        catalogue = PostgresqlCatalogue(IDENTITY.name, filled.location, IDENTITY)
        try:
            for kind, of_kind in (await queries(filled, 3, seed=1)).items():
                for query in of_kind:
                    found = [match async for match in catalogue.find(query, 1000)]
                    assert found, kind
                    assert query.level is Level.STUDY or len(found) == LISTED_INSTANCES
                plans = await explain(filled.location, of_kind[0])
                assert "versions" in str(plans), kind
                assert plans.planning_ms > 0
        finally:
            await catalogue.close()

    asyncio.run(ask())
