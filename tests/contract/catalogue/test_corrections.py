"""What every catalogue makes of corrections: of studies, patients and series, whenever they come."""

from __future__ import annotations

from cluster.dicom.elements import Element
from cluster.nouns import Fact, FactKind, Instance, Level
from storage_node.catalogue.matching import Model, Query, by_uids, parse_find
from storage_node.catalogue.protocol import Catalogue, Match
from tests.contract.catalogue.rows import add, fact, row

NAME, ID, ISSUER = "00100010", "00100020", "00100021"
MODALITY, ACCESSION_NUMBER = "00080060", "00080050"


def corrected(subject: Instance, epoch: int = 1, **texts: str) -> Fact:
    details = tuple(sorted((name.removeprefix("x"), text) for name, text in texts.items()))
    return fact(subject, epoch, FactKind.CORRECTED, details=details)


def study(uid: str) -> Instance:
    return Instance(uid, "", "")


async def find(catalogue: Catalogue, query: Query) -> list[Match]:
    return [match async for match in catalogue.find(query, 100)]


async def studies_by(catalogue: Catalogue, tag: int, vr: str, value: str) -> list[str]:
    identifier = {0x00080005: Element("CS", b"ISO_IR 192"), tag: Element(vr, value.encode())}
    query = parse_find(Model.STUDY, {0x00080052: Element("CS", b"STUDY"), **identifier}).query
    return [match.uid[0] for match in await find(catalogue, query)]


async def patients(catalogue: Catalogue) -> dict[str, int]:
    return {match.uid[0]: match.studies for match in await find(catalogue, Query(Level.PATIENT))}


async def test_a_study_is_found_by_what_was_corrected_and_no_longer_by_what_is_stored(
    catalogue: Catalogue,
) -> None:
    await add(catalogue, row("1.1", "1.1.1", "1.1.1.1", name="Wrong^Name", accession_number="A0"))
    await catalogue.decide(corrected(study("1.1"), x00100010="Müller-Lüdenscheidt^Jürgen", x00080050="A1"))
    assert await studies_by(catalogue, 0x00100010, "PN", "MULLER-LUD*") == ["1.1"]
    assert await studies_by(catalogue, 0x00100010, "PN", "Wrong*") == []
    assert await studies_by(catalogue, 0x00080050, "SH", "A1") == ["1.1"]
    assert await studies_by(catalogue, 0x00080050, "SH", "A0") == []
    for level in Level:
        (match,) = await find(catalogue, Query(level))
        assert dict(match.corrected) == {NAME: "Müller-Lüdenscheidt^Jürgen", ACCESSION_NUMBER: "A1"}


async def test_a_newer_correction_holds_and_one_without_details_takes_all_back(catalogue: Catalogue) -> None:
    await add(catalogue, row("1.1", "1.1.1", "1.1.1.1", name="Stored"))
    await catalogue.decide(corrected(study("1.1"), 2, x00100010="Second"))
    await catalogue.decide(corrected(study("1.1"), 1, x00100010="First", x00080050="A1"))
    assert await studies_by(catalogue, 0x00100010, "PN", "second") == ["1.1"]
    assert await studies_by(catalogue, 0x00080050, "SH", "A1") == []
    await catalogue.decide(corrected(study("1.1"), 3))
    assert await studies_by(catalogue, 0x00100010, "PN", "stored") == ["1.1"]
    (match,) = await find(catalogue, Query(Level.STUDY))
    assert match.corrected == ()


async def test_an_attribute_that_was_taken_away_matches_nothing(catalogue: Catalogue) -> None:
    await add(catalogue, row("1.1", "1.1.1", "1.1.1.1", accession_number="A1"))
    await catalogue.decide(corrected(study("1.1"), x00080050=""))
    assert await studies_by(catalogue, 0x00080050, "SH", "?*") == []


async def test_a_moved_study_is_the_other_patients(catalogue: Catalogue) -> None:
    for uid, patient in (("1.1", "A"), ("1.2", "A"), ("1.3", "B")):
        await add(catalogue, row(uid, f"{uid}.1", f"{uid}.1.1", patient_id=patient, issuer="X"))
    assert await patients(catalogue) == {"A\nX": 2, "B\nX": 1}
    await catalogue.decide(corrected(study("1.1"), x00100020="B"))
    assert await patients(catalogue) == {"A\nX": 1, "B\nX": 2}
    assert await studies_by(catalogue, 0x00100020, "LO", "B") == ["1.1", "1.3"]
    instances = await find(catalogue, by_uids(patient_id="B"))
    assert [match.uid[0] for match in instances] == ["1.1", "1.3"]
    await catalogue.decide(corrected(study("1.2"), x00100020="B"))
    assert await patients(catalogue) == {"B\nX": 3}
    await catalogue.decide(corrected(study("1.1"), 2, x00100020="B", x00100021=""))
    assert await patients(catalogue) == {"B\n": 1, "B\nX": 2}


async def test_merges_are_followed_from_patient_to_patient(catalogue: Catalogue) -> None:
    for uid, patient in (("1.1", "A"), ("1.2", "B"), ("1.3", "C")):
        await add(catalogue, row(uid, f"{uid}.1", f"{uid}.1.1", patient_id=patient, name=f"{patient}^0"))
    await catalogue.decide(corrected(Instance.patient("B\n"), x00100020="C", x00100010="C^0"))
    await catalogue.decide(corrected(Instance.patient("A\n"), x00100020="B", x00100010="B^0"))
    assert await patients(catalogue) == {"C\n": 3}
    assert await studies_by(catalogue, 0x00100010, "PN", "C^0") == ["1.1", "1.2", "1.3"]
    await add(catalogue, row("1.4", "1.4.1", "1.4.1.1", patient_id="A"))
    assert await patients(catalogue) == {"C\n": 4}
    await catalogue.decide(corrected(Instance.patient("B\n"), 2))
    assert await patients(catalogue) == {"B\n": 3, "C\n": 1}
    await catalogue.decide(corrected(Instance.patient("A\n"), 2))
    assert await patients(catalogue) == {"A\n": 2, "B\n": 1, "C\n": 1}


async def test_a_correction_that_comes_before_the_study_holds_when_it_comes(catalogue: Catalogue) -> None:
    await catalogue.decide(corrected(study("1.1"), x00100020="B"))
    await catalogue.decide(corrected(Instance("1.1", "1.1.1", ""), x00080060="MR"))
    await catalogue.decide(corrected(Instance.patient("B\n"), x00100010="B^Right"))
    assert await patients(catalogue) == {}
    await add(catalogue, row("1.1", "1.1.1", "1.1.1.1", patient_id="A"))
    assert await patients(catalogue) == {"B\n": 1}
    (match,) = await find(catalogue, Query(Level.SERIES))
    assert dict(match.corrected) == {ID: "B", NAME: "B^Right", MODALITY: "MR"}


async def test_a_series_whose_modality_is_corrected_changes_the_modalities_of_its_study(
    catalogue: Catalogue,
) -> None:
    for series in ("1.1.1", "1.1.2"):
        await add(catalogue, row("1.1", series, f"{series}.1", modality="CT"))
    await catalogue.decide(corrected(Instance("1.1", "1.1.2", ""), x00080060="MR"))
    (match,) = await find(catalogue, Query(Level.STUDY))
    assert match.modalities == ("CT", "MR")
    assert await studies_by(catalogue, 0x00080061, "CS", "MR") == ["1.1"]
    of_series = {match.uid[1]: match.modalities for match in await find(catalogue, Query(Level.SERIES))}
    assert of_series == {"1.1.1": ("CT",), "1.1.2": ("MR",)}
    await catalogue.decide(corrected(Instance("1.1", "1.1.2", ""), 2))
    assert await studies_by(catalogue, 0x00080061, "CS", "MR") == []
