"""Identifiers of C-FIND responses, read back by pydicom."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset

from cluster.dicom.elements import Element, pack
from cluster.dicom.header import HeaderReader
from cluster.nouns import Level
from storage_node.catalogue.matching import Model, Query, Request
from storage_node.catalogue.protocol import Match
from storage_node.services.answers import Answers
from tests.contract.catalogue.rows import CT, MR, row

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
SYNTAXES = [IMPLICIT, EXPLICIT]


def match(header: bytes | None = None) -> Match:
    stands = row("1.2", "1.2.3", "1.2.3.4", study_date="20240101", number="7", series_number="2")
    return Match(
        uid=("1.2",),
        header=stands.header if header is None else header,
        version=stands.version,
        instances=5,
        series=2,
        studies=1,
        modalities=("CT", "SR"),
        sop_classes=(CT, MR),
        order=1,
        precedence="",
        fingerprint=0,
    )


def told(found: Match, level: Level, *requested: int, syntax: str = EXPLICIT) -> Dataset:
    request = Request(Model.STUDY, Query(level), tuple(sorted(requested)))
    identifier = {tag: Element(None, b"") for tag in requested}
    data = Answers(request, identifier, syntax, "ATRIA").identifier(found)
    return read_dataset(BytesIO(data), syntax == IMPLICIT, True)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_an_answer_has_what_was_asked_for_in_the_order_of_tags(syntax: str) -> None:
    found = told(match(), Level.STUDY, 0x0020000D, 0x00100010, 0x00080020, 0x00091010, syntax=syntax)
    assert list(found.keys()) == [0x00080020, 0x00080052, 0x00080054, 0x00091010, 0x00100010, 0x0020000D]
    assert (found.StudyDate, found.PatientName, found.StudyInstanceUID) == ("20240101", "Doe^Jane", "1.2")
    assert (found.QueryRetrieveLevel, found.RetrieveAETitle) == ("STUDY", "ATRIA")
    assert not found[0x00091010].value, "what is not known comes back without a value"


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (Level.PATIENT, {0x00201200: 1, 0x00201202: 2, 0x00201204: 5}),
        (Level.STUDY, {0x00201206: 2, 0x00201208: 5, 0x00080061: ["CT", "SR"], 0x00080062: [CT, MR]}),
        (Level.SERIES, {0x00201209: 5, 0x00200011: 2}),
        (Level.IMAGE, {0x00083002: EXPLICIT, 0x00200013: 7, 0x00080018: "1.2.3.4"}),
    ],
)
def test_what_is_counted_is_told_at_its_level(level: Level, expected: dict[int, object]) -> None:
    counted = (0x00201200, 0x00201202, 0x00201204, 0x00201206, 0x00201208, 0x00201209, 0x00083002)
    below = (0x00080061, 0x00080062, 0x00200011, 0x00200013, 0x00080018)
    found = told(match(), level, 0x00080056, *counted, *below)
    assert found.InstanceAvailability == "ONLINE"
    for tag in (*counted, *below):
        if tag in expected:
            assert found[tag].value == expected[tag]
        elif level is not Level.IMAGE or tag != 0x00200011:
            assert not found[tag].value, f"{tag:08X}"


def test_a_senders_own_counts_are_not_passed_on() -> None:
    header = pack({0x00201208: Element("IS", b"99"), 0x00080061: Element("CS", b"XX")})
    found = told(match(header), Level.SERIES, 0x00201208, 0x00080061)
    assert not found[0x00201208].value
    assert not found[0x00080061].value


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_text_beyond_ascii_comes_with_its_character_set(syntax: str) -> None:
    header = row(name="Müller^Jürgen", character_set="ISO_IR 192").header
    found = told(match(header), Level.STUDY, 0x00100010, syntax=syntax)
    assert (found.SpecificCharacterSet, found.PatientName) == ("ISO_IR 192", "Müller^Jürgen")
    plain = told(match(row(character_set="ISO_IR 192").header), Level.STUDY, 0x00100010, syntax=syntax)
    assert "SpecificCharacterSet" not in plain


def test_an_element_whose_vr_is_none_is_told_with_that_of_the_dictionary() -> None:
    header = pack({0x00100010: Element("ZZ", b"Doe^Jane"), 0x00091010: Element("ZZ", b"ab")})
    found = told(match(header), Level.STUDY, 0x00100010, 0x00091010)
    assert [(found[tag].VR, found[tag].value) for tag in (0x00100010, 0x00091010)] == [
        ("PN", "Doe^Jane"),
        ("UN", b"ab"),
    ]


@pytest.mark.parametrize("stored", SYNTAXES)
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_sequences_are_told_in_the_encoding_of_the_answer(stored: str, syntax: str) -> None:
    item = Dataset()
    item.CodeValue, item.CodeMeaning = "T-D1100", "Head"
    item.PurposeOfReferenceCodeSequence = [Dataset()]
    whole = Dataset()
    whole.ProcedureCodeSequence = [item, item]
    out = DicomBytesIO()
    out.is_little_endian, out.is_implicit_VR = True, stored == IMPLICIT
    write_dataset(out, whole)
    reader = HeaderReader(stored)
    reader.feed(out.getvalue())
    found = told(match(pack(reader.elements)), Level.STUDY, 0x00081032, syntax=syntax)
    assert found.ProcedureCodeSequence == whole.ProcedureCodeSequence


@given(
    st.dictionaries(
        st.sampled_from([0x00080020, 0x00081032, 0x00100010, 0x00280010, 0x00091010, 0x00081150]),
        st.builds(Element, st.sampled_from([None, "SQ", "UN", "LO", "US", "UI"]), st.binary(max_size=40)),
    ),
    st.sampled_from(SYNTAXES),
)
def test_whatever_was_stored_can_be_told(elements: dict[int, Element], syntax: str) -> None:
    request = Request(Model.STUDY, Query(Level.IMAGE), tuple(sorted(elements)))
    data = Answers(request, {}, syntax, "ATRIA").identifier(replace(match(), header=pack(elements)))
    reader = HeaderReader(syntax)
    reader.feed(data)
    reader.close()
    assert {*elements, 0x00080052, 0x00080054} <= reader.elements.keys()


CORRECTED = (("00080060", "MR"), ("00081030", "Schädel"), ("00100010", "Янтарь^Анна"), ("00100030", ""))


def test_what_was_corrected_is_told_instead_of_what_is_stored() -> None:
    stored = pack({0x00100010: Element("PN", b"Doe^Jane"), 0x00100030: Element("DA", b"19700101")})
    tags = (0x00080060, 0x00081030, 0x00100010, 0x00100020, 0x00100030)
    found = told(replace(match(stored), corrected=CORRECTED), Level.SERIES, *tags)
    assert (found.Modality, found.StudyDescription, found.PatientName) == ("MR", "Schädel", "Янтарь^Анна")
    assert not found.PatientID
    assert not found.PatientBirthDate
    assert found.SpecificCharacterSet == "ISO_IR 192"


def test_what_was_corrected_below_the_level_or_not_asked_for_is_not_told() -> None:
    corrected = replace(match(), corrected=(*CORRECTED, ("00080061", "XX"), ("junk", "x")))
    found = told(corrected, Level.STUDY, 0x00080060, 0x00080061, 0x00100020)
    assert (found.ModalitiesInStudy, found.PatientID) == (["CT", "SR"], "P1")
    assert not found.Modality
    assert "PatientName" not in found
    assert not told(corrected, Level.PATIENT, 0x00081030).StudyDescription


def test_a_corrected_text_is_told_in_the_character_set_that_is_asked_in() -> None:
    found = replace(match(), corrected=(("00100010", "Müller^Jürgen"),))
    request = Request(Model.STUDY, Query(Level.STUDY), (0x00100010,))
    identifier = {0x00080005: Element("CS", b"ISO_IR 100"), 0x00100010: Element(None, b"")}
    answers = Answers(request, identifier, EXPLICIT, "ATRIA")
    assert "Müller^Jürgen".encode("latin_1") in answers.identifier(found)
