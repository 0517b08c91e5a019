"""What keys of lower levels ask for is found, and what it belongs to is told once."""

from __future__ import annotations

from functools import partial

import pytest

from cluster.dicom.elements import Element
from cluster.nouns import Level, SiteIdentity
from storage_node.catalogue.matching import Agreed, Model, parse_find
from storage_node.catalogue.memory import MemoryCatalogue
from storage_node.grid.find import Finding
from storage_node.grid.find_related import RelatedFinding
from tests.contract.catalogue.data_sets import elements
from tests.contract.catalogue.rows import add, fact, row

RELATIONAL = Agreed(relational_queries=True)


async def _catalogue() -> MemoryCatalogue:
    catalogue = MemoryCatalogue("a", SiteIdentity("a", "a", 1))
    for added in (
        row("1.1", "1.1.1", "1", patient_id="P1", modality="CT", number="1"),
        row("1.1", "1.1.2", "1", patient_id="P1", modality="MR", number="2", minute=1),
        row("1.2", "1.2.1", "1", patient_id="P1", modality="MR", number="1", minute=2),
        row("1.3", "1.3.1", "1", patient_id="P3", modality="CT", number="7", minute=3),
        row("1.4", "1.4.1", "1", patient_id=None, modality="MR", number="7", minute=4),
    ):
        await add(catalogue, added)
    return catalogue


@pytest.mark.parametrize(
    ("level", "keys", "expected"),
    [
        (Level.STUDY, {"Modality": "MR"}, ["1.1", "1.2", "1.4"]),
        (Level.STUDY, {"Modality": "MR", "PatientID": "P1"}, ["1.1", "1.2"]),
        (Level.STUDY, {"Modality": "MR", "ModalitiesInStudy": "CT"}, ["1.1"]),
        (Level.STUDY, {"Modality": "CT", "InstanceNumber": "2"}, []),
        (Level.STUDY, {"InstanceNumber": "1"}, ["1.1", "1.2"]),
        (Level.PATIENT, {"Modality": "MR"}, ["P1\n", "\n1.4"]),
        (Level.PATIENT, {"StudyInstanceUID": "1.3"}, ["P3\n"]),
        (Level.SERIES, {"InstanceNumber": "7", "Modality": "CT"}, ["1.3"]),
    ],
)
async def test_an_entity_has_something_below_it_that_all_keys_match(
    level: Level, keys: dict[str, str], expected: list[str]
) -> None:
    identifier = elements(dict(keys)) | {0x00080052: Element("CS", level.encode())}
    request = parse_find(Model.PATIENT, identifier, RELATIONAL)
    assert request.unmatched == ()
    assert request.query.below
    find = partial(Finding, [await _catalogue()], needed=1)
    finding = RelatedFinding(find, request.query, 10)
    matches = [match async for match in finding]
    assert [match.uid[0] for match in matches] == expected
    assert finding.complete
    assert [match.uid[0] async for match in RelatedFinding(find, request.query, 1)] == expected[:1]


async def test_a_study_is_told_with_all_that_is_below_it() -> None:
    identifier = elements({"Modality": "MR", "PatientID": "P1"}) | {0x00080052: Element("CS", b"STUDY")}
    query = parse_find(Model.STUDY, identifier, RELATIONAL).query
    finding = RelatedFinding(partial(Finding, [await _catalogue()], needed=1), query, 10)
    first = await anext(finding)
    await finding.aclose()
    assert (first.uid, first.series, first.modalities) == (("1.1",), 2, ("CT", "MR"))


async def test_what_is_hidden_belongs_to_nothing() -> None:
    catalogue = await _catalogue()
    await catalogue.decide(fact(row("1.1", "1.1.2", "1")))
    identifier = elements({"Modality": "MR", "PatientID": "P1"}) | {0x00080052: Element("CS", b"STUDY")}
    query = parse_find(Model.STUDY, identifier, RELATIONAL).query
    finding = RelatedFinding(partial(Finding, [catalogue], needed=1), query, 10)
    assert [match.uid async for match in finding] == [("1.2",)]
