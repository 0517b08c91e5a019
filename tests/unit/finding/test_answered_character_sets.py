"""In which character set a query is answered, with pydicom as the one who reads it."""

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
from storage_node.services.answers import Answers
from tests.unit.finding.test_answers import EXPLICIT, IMPLICIT, SYNTAXES, match

NAME, DESCRIPTION, CODES, MEANING = 0x00100010, 0x00081030, 0x00081032, 0x00080104
CHARACTER_SET = 0x00080005


def answered(
    stored: dict[int, Element],
    asked: bytes | None = None,
    *,
    own: str | None = None,
    syntax: str = EXPLICIT,
    sequence: bytes = b"",
) -> Dataset:
    identifier = {tag: Element(None, b"") for tag in stored if tag != CHARACTER_SET}
    if CODES in identifier:
        identifier[CODES] = Element("SQ", sequence)
    if asked is not None:
        identifier[CHARACTER_SET] = Element("CS", asked)
    tags = tuple(sorted(tag for tag in identifier if tag != CHARACTER_SET))
    answers = Answers(Request(Model.STUDY, Query(Level.STUDY), tags), identifier, syntax, "ATRIA", own)
    data = answers.identifier(replace(match(), header=pack(stored)))
    assert len(data) % 2 == 0
    return read_dataset(BytesIO(data), syntax == IMPLICIT, True)


def name(value: bytes, character_set: bytes | None) -> dict[int, Element]:
    elements = {NAME: Element("PN", value)}
    return elements if character_set is None else {CHARACTER_SET: Element("CS", character_set), **elements}


KANJI = b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B"
SURNAME = b"\x1b$B;3ED\x1b(B"
JAPANESE, KOREAN = b"\\ISO 2022 IR 87", b"\\ISO 2022 IR 149"


@pytest.mark.parametrize(
    ("stored", "asked", "told", "expected"),
    [
        (name(b"Doe^Jane", b"ISO_IR 192"), b"ISO_IR 100", None, "Doe^Jane"),
        (name(b"M\xfcller", b"ISO_IR 100"), b"ISO_IR 100", "ISO_IR 100", "Müller"),
        (name(b"M\xfcller", b"ISO_IR 100"), b"ISO_IR 192", "ISO_IR 192", "Müller"),
        (name(b"M\xfcller", b"ISO_IR 100"), b"GB18030", "GB18030", "Müller"),
        (name(b"M\xfcller", b"ISO_IR 100"), None, "ISO_IR 192", "Müller"),
        (name(b"M\xfcller", b"ISO_IR 100"), b"", "ISO_IR 192", "Müller"),
        (name(b"M\xfcller", b"ISO_IR 100"), b"ISO_IR 144", "ISO_IR 192", "Müller"),
        (name("Mu\u0308ller".encode(), b"ISO_IR 192"), b"ISO_IR 100", "ISO_IR 100", "Müller"),
        (name(KANJI, JAPANESE), b"ISO_IR 192", "ISO_IR 192", "Yamada^Tarou=山田^太郎"),
        (name("山田".encode(), b"ISO_IR 192"), JAPANESE, ["", "ISO 2022 IR 87"], "山田"),
        (name(SURNAME, JAPANESE), KOREAN, ["", "ISO 2022 IR 149"], "山田"),
        (name(KANJI, JAPANESE), KOREAN, "ISO_IR 192", "Yamada^Tarou=山田^太郎"),
        (name("홍길동".encode(), b"ISO_IR 192"), JAPANESE, "ISO_IR 192", "홍길동"),
        (name("홍^길동".encode(), b"ISO_IR 192"), KOREAN, ["", "ISO 2022 IR 149"], "홍^길동"),
        (name(b"M\xfcller", None), b"ISO_IR 100", "ISO_IR 100", "Müller"),
        (name(b"M\xfcller", b"KLINGON"), b"ISO_IR 100", "ISO_IR 100", "Müller"),
        (name(b"M\xff", b"GB18030"), b"ISO_IR 100", "ISO_IR 192", "M\ufffd"),
    ],
)
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_name_is_told_in_the_set_of_the_query_or_else_in_utf_8(
    stored: dict[int, Element], asked: bytes | None, told: object, expected: str, syntax: str
) -> None:
    found = answered(stored, asked, syntax=syntax)
    assert (found.get("SpecificCharacterSet"), str(found.PatientName)) == (told, expected)


@pytest.mark.filterwarnings("ignore:Unknown encoding:UserWarning")
def test_bytes_that_cannot_be_decoded_are_passed_on_where_the_sets_are_equal() -> None:
    for character_set in (b"ISO_IR 192", b"KLINGON", b"ISO_IR 13"):
        found = answered(name(b"\xff\xfe", character_set), character_set)
        assert found.get_item(NAME).value == b"\xff\xfe"
    assert answered(name(b"\xff", None)).get_item(NAME).value == b"\xff "


def test_the_set_of_the_settings_stands_above_that_of_the_query() -> None:
    latin = name("Müller".encode(), b"ISO_IR 192")
    assert answered(latin, b"ISO_IR 192", own="ISO_IR 100").SpecificCharacterSet == "ISO_IR 100"
    assert answered(latin, None, own="ISO_IR 100").SpecificCharacterSet == "ISO_IR 100"
    assert answered(name(KANJI, JAPANESE), JAPANESE, own="ISO_IR 100").SpecificCharacterSet == [
        "",
        "ISO 2022 IR 87",
    ]
    assert (
        answered(name(SURNAME, JAPANESE), KOREAN[1:], own="ISO_IR 144").SpecificCharacterSet
        == "ISO 2022 IR 149"
    )


def test_one_set_has_to_hold_all_values() -> None:
    stored = {**name(KANJI, JAPANESE + KOREAN), DESCRIPTION: Element("LO", b"Sch\x1b$)C\xb1\xe6del")}
    found = answered(stored, JAPANESE)
    assert found.SpecificCharacterSet == "ISO_IR 192"
    assert (str(found.PatientName), found.StudyDescription) == ("Yamada^Tarou=山田^太郎", "Sch길del")


def test_bytes_that_are_no_text_need_no_character_set() -> None:
    stored = {CHARACTER_SET: Element("CS", b"ISO_IR 100"), 0x00280010: Element("US", b"\xff\xff")}
    found = answered(stored, b"ISO_IR 100")
    assert "SpecificCharacterSet" not in found
    assert found.Rows == 0xFFFF


def _items(
    character_set: str | None, *meanings: str, syntax: str = EXPLICIT, own: str | None = None
) -> bytes:
    whole = Dataset()
    whole.SpecificCharacterSet = character_set
    items = []
    for meaning in meanings:
        item = Dataset()
        if own is not None:
            item.SpecificCharacterSet = own
        item.CodeValue, item.CodeMeaning = "T-D1100", meaning
        nested = Dataset()
        nested.CodeValue, nested.CodeMeaning = "A", meaning
        item.EquivalentCodeSequence = [nested]
        items.append(item)
    whole.ProcedureCodeSequence = items
    out = DicomBytesIO()
    out.is_little_endian, out.is_implicit_VR = True, syntax == IMPLICIT
    write_dataset(out, whole)
    reader = HeaderReader(syntax)
    reader.feed(out.getvalue())
    return reader.elements[CODES].value


@pytest.mark.parametrize("stored_as", SYNTAXES)
@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("own", [None, "ISO_IR 144"])
def test_text_in_sequences_is_told_in_the_same_set(stored_as: str, syntax: str, own: str | None) -> None:
    value = _items("ISO_IR 144", "Щука", "plain", syntax=stored_as, own=own)
    stored = {
        CHARACTER_SET: Element("CS", b"ISO_IR 100" if own else b"ISO_IR 144"),
        CODES: Element("SQ" if stored_as == EXPLICIT else None, value),
    }
    for asked, told in ((b"ISO_IR 144", "ISO_IR 144"), (b"ISO_IR 100", "ISO_IR 192")):
        found = answered(stored, asked, syntax=syntax)
        assert found.SpecificCharacterSet == told
        first, second = found.ProcedureCodeSequence
        assert (first.CodeMeaning, first.EquivalentCodeSequence[0].CodeMeaning) == ("Щука", "Щука")
        assert (second.CodeMeaning, second.CodeValue) == ("plain", "T-D1100")
        assert "SpecificCharacterSet" not in first


def _query(**keys: object) -> bytes:
    item = Dataset()
    for keyword, value in keys.items():
        setattr(item, keyword, value)
    whole = Dataset()
    whole.ProcedureCodeSequence = [item]
    out = DicomBytesIO()
    out.is_little_endian, out.is_implicit_VR = True, False
    write_dataset(out, whole)
    return out.getvalue()[12:]


@pytest.mark.parametrize("whole", [b"", _query()])
def test_a_sequence_without_items_or_with_an_empty_one_comes_back_whole(whole: bytes) -> None:
    stored = {CODES: Element("SQ", _items(None, "Head"))}
    (item,) = answered(stored, sequence=whole).ProcedureCodeSequence
    assert item.EquivalentCodeSequence[0].CodeMeaning == "Head"


def test_of_the_items_of_a_sequence_only_what_was_asked_for_comes_back() -> None:
    stored = {CODES: Element("SQ", _items(None, "Head", "Neck"))}
    found = answered(stored, sequence=_query(CodeMeaning="", CodingSchemeDesignator=""))
    assert [item.CodeMeaning for item in found.ProcedureCodeSequence] == ["Head", "Neck"]
    for item in found.ProcedureCodeSequence:
        assert [element.keyword for element in item] == ["CodingSchemeDesignator", "CodeMeaning"]
    inner = Dataset()
    inner.CodeValue = ""
    (one, _) = answered(stored, sequence=_query(EquivalentCodeSequence=[inner])).ProcedureCodeSequence
    assert [element.keyword for element in one.EquivalentCodeSequence[0]] == ["CodeValue"]
    assert one.EquivalentCodeSequence[0].CodeValue == "A"


_SETS = [
    b"",
    b"ISO_IR 100",
    b"ISO_IR 192",
    b"GB18030",
    b"ISO_IR 13",
    JAPANESE,
    KOREAN,
    b"ISO 2022 IR 144\\ISO 2022 IR 126",
]


@given(
    st.binary(max_size=30),
    st.sampled_from(_SETS),
    st.sampled_from(_SETS),
    st.sampled_from(["PN", "LO", "UN"]),
)
def test_whatever_was_stored_and_whoever_asks_there_is_an_answer(
    value: bytes, stored: bytes, asked: bytes, vr: str
) -> None:
    elements = {CHARACTER_SET: Element("CS", stored), NAME: Element(vr, value), CODES: Element("SQ", value)}
    assert NAME in answered(elements, asked)


def test_a_value_that_grows_too_long_for_its_vr_is_told_all_the_same() -> None:
    stored = {CHARACTER_SET: Element("CS", b"ISO_IR 144"), DESCRIPTION: Element("LO", b"\xe9" * 0xFFFF)}
    assert answered(stored, b"ISO_IR 192")[DESCRIPTION].value == "щ".encode() * 0xFFFF


def test_the_timezone_of_what_was_stored_is_told_to_who_names_one() -> None:
    zone = {0x00080201: Element("SH", b"+0200 "), **name(b"A", None)}
    identifier = {NAME: Element("PN", b""), 0x00080201: Element("SH", b"+0000 ")}
    request = Request(Model.STUDY, Query(Level.STUDY), (NAME,))
    for asked, told in ((identifier, "+0200"), ({NAME: identifier[NAME]}, None)):
        data = Answers(request, asked, EXPLICIT, "ATRIA").identifier(replace(match(), header=pack(zone)))
        assert read_dataset(BytesIO(data), False, True).get("TimezoneOffsetFromUTC") == told
