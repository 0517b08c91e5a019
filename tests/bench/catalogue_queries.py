"""What people ask a catalogue for, of the population's studies: as many answers however many there are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

import asyncpg

from cluster.dicom.elements import SPECIFIC_CHARACTER_SET, Element
from cluster.nouns import Level
from storage_node.catalogue.attributes import (
    MODALITIES_IN_STUDY,
    PATIENT_ID,
    SERIES_INSTANCE_UID,
    STUDY_INSTANCE_UID,
    normal,
)
from storage_node.catalogue.matching import QUERY_RETRIEVE_LEVEL, Model, Query, parse_find
from storage_node.catalogue.postgresql.database import Location
from tests.bench import population
from tests.bench.catalogue_servers import connect

PATIENT_NAME: Final = 0x00100010
STUDY_DATE: Final = 0x00080020
ACCESSION_NUMBER: Final = 0x00080050

_SHORTEST_PREFIX: Final = 3
_ANSWERS_LIMIT: Final = 20
"""Who asks by the beginning of a name goes on typing until there are no more than these."""
_COUNT: Final = (
    "SELECT count(*) FROM (SELECT FROM studies WHERE patient_name >= $1 AND patient_name < $1 || chr(1114111)"
    " LIMIT $2) AS found"
)


@dataclass(frozen=True, slots=True)
class Filled:
    """A filled catalogue."""

    location: Location
    studies: int
    listed: Sequence[str]
    """UIDs of studies with many instances."""


async def queries(filled: Filled, count: int, seed: int) -> dict[str, list[Query]]:
    """Return queries of each kind, by its name, of studies that are chosen by chance."""
    chance = Random(seed)
    made: dict[str, list[Query]] = {name: [] for name in ("Patient ID", "accession number")}
    days = made["a day's studies with a modality"] = []
    for study in _studies(chance, filled, count):
        made["Patient ID"].append(_at_study({PATIENT_ID: study.values[PATIENT_ID]}))
        made["accession number"].append(_at_study({ACCESSION_NUMBER: study.values[ACCESSION_NUMBER]}))
        date = study.values[STUDY_DATE]
        days.append(_at_study({STUDY_DATE: f"{date}-{date}", MODALITIES_IN_STUDY: study.modality}))
    made["beginning of a name"] = await _by_names(chance, filled, count)
    made["instances of a study"] = [_instances_of(chance.choice(filled.listed)) for _ in range(count)]
    return made


def _studies(chance: Random, filled: Filled, count: int) -> Iterator[population.Study]:
    for _ in range(count):
        yield population.study(chance.randrange(filled.studies))


async def _by_names(chance: Random, filled: Filled, count: int) -> list[Query]:
    connection = await connect(filled.location)
    try:
        made: list[Query] = []
        while len(made) < count:
            name = population.study(chance.randrange(filled.studies)).values[PATIENT_NAME]
            prefix = await _shortest_prefix(connection, name.partition("=")[0])
            if prefix is not None:
                made.append(_at_study({PATIENT_NAME: f"{prefix}*"}))
        return made
    finally:
        await connection.close()


async def _shortest_prefix(connection: asyncpg.Connection, name: str) -> str | None:
    """Return a beginning of a name that few studies have; None for one that too many have as a whole."""
    for length in range(_SHORTEST_PREFIX, len(name) + 1):
        found = await connection.fetchval(_COUNT, normal("PN", name[:length]), _ANSWERS_LIMIT + 1)
        if found <= _ANSWERS_LIMIT:
            return name[:length]
    return None


def _at_study(values: dict[int, str]) -> Query:
    return _query(Level.STUDY, values)


def _instances_of(study_instance_uid: str) -> Query:
    series = f"{study_instance_uid}.1"
    return _query(Level.IMAGE, {STUDY_INSTANCE_UID: study_instance_uid, SERIES_INSTANCE_UID: series})


def _query(level: Level, values: dict[int, str]) -> Query:
    identifier = {tag: Element(None, value.encode("utf-8")) for tag, value in values.items()}
    identifier[SPECIFIC_CHARACTER_SET] = Element("CS", b"ISO_IR 192")
    identifier[QUERY_RETRIEVE_LEVEL] = Element("CS", level.encode("ascii"))
    return parse_find(Model.STUDY, identifier).query
