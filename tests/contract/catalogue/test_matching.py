"""Whatever is asked of whatever is held, every catalogue finds what a plain reading of the standard finds."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.dicom.elements import Element, pack
from cluster.nouns import Level
from storage_node.catalogue.matching import Agreed, BadIdentifier, Model, Query, parse_find
from storage_node.catalogue.memory import MemoryCatalogue
from storage_node.catalogue.protocol import Catalogue, Row
from storage_node.grid.find import Finding
from tests.contract.catalogue.conftest import IDENTITY
from tests.contract.catalogue.data_sets import NAMED, Values, elements, identifiers, stored
from tests.contract.catalogue.rows import add, row
from tests.contract.catalogue.test_order_independence import Copies
from tests.postgresql import Databases
from tests.reference_matching import is_match, is_refused

_AGREEMENTS = ("combined_date_time", "empty_values", "fuzzy_names", "multiple_values")


@dataclass(frozen=True)
class Held:
    """An instance, as a data set and as a row; all of a study, and of a series, agree on its attributes."""

    uid: tuple[str, str, str]
    values: Values
    row: Row

    def entity(self, level: Level) -> tuple[str, ...]:
        """What identifies the entity of a level that it belongs to."""
        match level:
            case Level.PATIENT:
                patient_id, issuer = (self.values.get(n, "") for n in ("PatientID", "IssuerOfPatientID"))
                return (f"{patient_id}\n{issuer}" if patient_id else f"\n{self.uid[0]}",)
            case Level.STUDY:
                return self.uid[:1]
            case Level.SERIES:
                return self.uid[:2]
            case Level.IMAGE:
                return self.uid


@dataclass(frozen=True)
class Asked:
    """A query, as an Identifier and as it was understood."""

    level: Level
    identifier: Values
    agreed: tuple[str, ...]

    @property
    def query(self) -> Query:
        """What catalogues are asked."""
        identifier = elements({"SpecificCharacterSet": "ISO_IR 192", **self.identifier})
        identifier[0x00080052] = Element("CS", self.level.encode())
        agreed = Agreed(lenient_levels=True, **dict.fromkeys(self.agreed, True))
        model = Model.PATIENT if self.level is Level.PATIENT else Model.STUDY
        return parse_find(model, identifier, agreed).query


@st.composite
def _held(draw: st.DrawFn) -> list[Held]:
    held = []
    minutes = itertools.count()
    for study in range(1, draw(st.integers(1, 3)) + 1):
        of_study = draw(stored(Level.PATIENT)) | draw(stored(Level.STUDY)) | draw(NAMED)
        for series in range(1, draw(st.integers(1, 2)) + 1):
            of_series = of_study | draw(stored(Level.SERIES))
            for sop in range(1, draw(st.integers(1, 2)) + 1):
                values = of_series | draw(stored(Level.IMAGE))
                uid = (f"1.{study}", f"1.{study}.{series}", f"1.{study}.{series}.{sop}")
                header = pack(elements(values, explicit=draw(st.booleans())))
                held.append(Held(uid, values, replace(row(*uid, minute=next(minutes)), header=header)))
    return held


_ASKED = st.sampled_from(list(Level)).flatmap(
    lambda level: st.builds(
        Asked,
        st.just(level),
        identifiers(level),
        st.lists(st.sampled_from(_AGREEMENTS), unique=True).map(tuple),
    )
)


def _expected(held: Sequence[Held], asked: Asked) -> list[tuple[str, ...]]:
    """Return the UIDs of the entities that match, by the reference: by what came first of each."""
    found = set()
    first = {one.entity(asked.level): one for one in reversed(held)}
    for entity, one in first.items():
        others = [other.values.get("Modality", "") for other in held if other.uid[0] == one.uid[0]]
        values: dict[str, Any] = {
            **one.values,
            "StudyInstanceUID": one.uid[0],
            "ModalitiesInStudy": "\\".join(filter(None, others)),
        }
        if is_match(asked.identifier, values, asked.agreed):
            found.add(entity)
    return sorted(found)


async def _found(catalogue: Catalogue, query: Query) -> list[tuple[str, ...]]:
    return [match.uid async for match in catalogue.find(query, 100)]


async def _fill(catalogue: Catalogue, held: Sequence[Held]) -> None:
    await asyncio.gather(*(add(catalogue, one.row) for one in held))


def test_the_matcher_that_all_agree_with_finds_what_the_standard_says() -> None:
    @settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
    @given(held=_held(), asked=_ASKED)
    def check(held: list[Held], asked: Asked) -> None:
        async def compare() -> None:
            catalogue = MemoryCatalogue(IDENTITY.name, IDENTITY)
            await _fill(catalogue, held)
            assert await _found(catalogue, asked.query) == _expected(held, asked), asked

        if is_refused(asked.identifier, asked.agreed):
            with pytest.raises(BadIdentifier):
                asked.query  # noqa: B018  # it is parsed here
        else:
            asyncio.run(compare())

    check()


def test_every_catalogue_finds_what_the_standard_says_and_so_do_three_that_share_the_rows(
    databases: Databases, tmp_path: Path
) -> None:
    copies = Copies(tmp_path)

    @settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
    @given(held=_held(), queries=st.lists(_ASKED, min_size=20, max_size=20), data=st.data())
    def check(held: list[Held], queries: list[Asked], data: st.DataObject) -> None:
        places = data.draw(
            st.lists(
                st.lists(st.integers(0, 2), min_size=1, max_size=4), min_size=len(held), max_size=len(held)
            )
        )

        async def compare() -> None:
            async with AsyncExitStack() as stack:
                whole, parts = [
                    [
                        MemoryCatalogue(IDENTITY.name, IDENTITY),
                        await stack.enter_async_context(copies.catalogue()),
                        await stack.enter_async_context(databases.catalogue(IDENTITY)),
                    ]
                    for _ in range(2)
                ]
                for catalogue in whole:
                    await _fill(catalogue, held)
                for at, catalogue in enumerate(parts):
                    spread = [one for one, to in zip(held, places, strict=True) for n in to if n == at]
                    await _fill(catalogue, data.draw(st.permutations(spread)))
                for asked in queries:
                    if is_refused(asked.identifier, asked.agreed):
                        continue
                    expected, query = _expected(held, asked), asked.query
                    for catalogue in whole:
                        assert await _found(catalogue, query) == expected, (asked, query)
                    merged = [match.uid async for match in Finding(parts, query, 100, needed=3)]
                    assert merged == expected, (asked, query)

        asyncio.run(compare())

    check()
