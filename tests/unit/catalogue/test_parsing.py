"""What is asked by keys in no column, in sequences, and by what was agreed on; and what is refused."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from cluster.dicom.elements import Element, pack
from cluster.nouns import Level
from storage_node.catalogue.attributes import ATTRIBUTES
from storage_node.catalogue.headers import are_met
from storage_node.catalogue.keys import Alike, Combined, Empty, Items, OneOf, Within
from storage_node.catalogue.levels import attribute_of, level_of
from storage_node.catalogue.matching import Agreed, BadIdentifier, Model, Request, parse_find, parse_retrieval
from tests.contract.catalogue.data_sets import elements

LEVEL = 0x00080052
DATE, TIME, NAME = ATTRIBUTES[0x00080020], ATTRIBUTES[0x00080030], ATTRIBUTES[0x00100010]
REQUESTS, STEP = 0x00400275, 0x00400009


def _identifier(level: Level, **keys: Any) -> dict[int, Element]:
    return elements({"SpecificCharacterSet": "ISO_IR 192", **keys}) | {LEVEL: Element("CS", level.encode())}


def _parsed(level: Level, agreed: Agreed = Agreed(), **keys: Any) -> Request:  # noqa: B008  # it is frozen
    upper = {"StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.2.3"}
    named = {name: upper[name] for name in list(upper)[: list(Level).index(level) - 1]}
    return parse_find(Model.STUDY, _identifier(level, **{**named, **keys}), agreed)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"StudyDate": "2024"}, "Study Date: neither a date nor a range"),
        ({"StudyDate": "202401*"}, "Study Date: neither a date nor a range"),
        ({"StudyDate": "20240101-20240102-20240103"}, "Study Date: neither a date nor a range"),
        ({"StudyDate": "2024-01-01"}, "Study Date: neither a date nor a range"),
        ({"StudyDate": "20240102-20240101"}, "Study Date: its range is reversed"),
        ({"StudyTime": "1"}, "Study Time: neither a time nor a range"),
        ({"StudyTime": "2200-0600"}, "Study Time: its range is reversed"),
        ({"StudyDate": '""'}, "Study Date: neither a date nor a range"),
        ({"OtherPatientIDsSequence": [{"PatientID": "1"}, {}]}, r"\(0010,1002\): a key has one item, not 2"),
        ({"OtherPatientIDsSequence": [{"PatientBirthDate": "x"}]}, "neither a date nor a range"),
        ({"PatientID": "\\".join(f"A{n}*" for n in range(2000))}, "Patient ID: more than 64 wild cards"),
        (
            {"PatientName": "\\".join(f"{n}{'^*' * 30}" for n in range(3))},
            "Patient Name: more than 64 wild cards",
        ),
    ],
)
def test_what_does_not_fit_is_refused_and_named(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(BadIdentifier, match=message) as caught:
        _parsed(Level.STUDY, **keys)
    assert len(str(caught.value)) <= 64


def test_no_nesting_is_too_deep_to_be_refused() -> None:
    nested = b""
    for _ in range(3000):
        item = struct.pack("<HHI", 0xFFFE, 0xE000, len(nested)) + nested
        nested = struct.pack("<HH2sHI", 0x0040, 0x0275, b"SQ", 0, len(item)) + item
    identifier = _identifier(Level.STUDY) | {0x00101002: Element("SQ", item), 0x00091002: Element("SQ", item)}
    with pytest.raises(BadIdentifier, match="deep"):
        parse_find(Model.STUDY, identifier)


def test_a_range_of_dates_and_one_of_times_are_one_if_that_was_agreed_on() -> None:
    agreed = Agreed(combined_date_time=True)
    keys: dict[str, Any] = {"StudyDate": "20240705-20240707", "StudyTime": "1000-0800"}
    combined = Combined(DATE, TIME, "20240705100000.000000", "20240707080059.999999")
    assert _parsed(Level.STUDY, agreed, **keys).query.keys == (combined,)
    with pytest.raises(BadIdentifier, match="Study Time: its range is reversed"):
        _parsed(Level.STUDY, **keys)
    open_otherwise = _parsed(Level.STUDY, agreed, StudyDate="20240705-", StudyTime="-0800").query.keys
    assert [type(key) for key in open_otherwise] == [Within, Within]
    with pytest.raises(BadIdentifier, match="Study Date: its range is reversed"):
        _parsed(Level.STUDY, agreed, StudyDate="20240705-20240705", StudyTime="1000-0800")


def test_two_quotation_marks_ask_for_no_value_if_that_was_agreed_on() -> None:
    agreed = Agreed(empty_values=True)
    assert _parsed(Level.STUDY, agreed, StudyDate='""').query.keys == (Empty(DATE),)
    assert _parsed(Level.STUDY, agreed, PatientComments='""').query.residual == (
        Empty(attribute_of(0x00104000) or DATE),
    )
    assert _parsed(Level.STUDY, PatientID='""').query.keys == (OneOf(ATTRIBUTES[0x00100020], ('""',)),)


def test_several_values_are_all_asked_for_if_that_was_agreed_on() -> None:
    in_study = ATTRIBUTES[0x00080061]
    each = (OneOf(in_study, ("CT",)), OneOf(in_study, ("PT",)))
    agreed = Agreed(multiple_values=True)
    assert _parsed(Level.STUDY, agreed, ModalitiesInStudy="CT\\PT").query.keys == each
    assert _parsed(Level.STUDY, ModalitiesInStudy="CT\\PT").query.keys == (OneOf(in_study, ("CT", "PT")),)
    one_value = _parsed(Level.STUDY, agreed, PatientID="A\\B").query.keys
    assert one_value == (OneOf(ATTRIBUTES[0x00100020], ("A", "B")),), "it has never more than one value"


def test_a_name_is_fuzzy_without_wild_cards_if_that_was_agreed_on() -> None:
    agreed = Agreed(fuzzy_names=True)
    assert _parsed(Level.STUDY, agreed, PatientName="Doe, Jane").query.keys == (Alike(NAME, ("doe", "jane")),)
    assert not isinstance(_parsed(Level.STUDY, agreed, PatientName="Doe*").query.keys[0], Alike)
    assert not isinstance(_parsed(Level.STUDY, PatientName="Doe").query.keys[0], Alike)


def test_unique_keys_above_may_be_missing_if_that_was_agreed_on() -> None:
    identifier = _identifier(Level.SERIES, SeriesInstanceUID="1.2.3", StudyInstanceUID="")
    for agreed in (Agreed(lenient_levels=True), Agreed(relational_queries=True)):
        (key,) = parse_find(Model.PATIENT, identifier, agreed).query.keys
        assert key == OneOf(ATTRIBUTES[0x0020000E], ("1.2.3",))
        assert parse_retrieval(Model.PATIENT, identifier, agreed).keys == (key,)
    for parse in (parse_find, parse_retrieval):
        with pytest.raises(BadIdentifier, match="Patient ID"):
            parse(Model.PATIENT, identifier)


def test_keys_inside_an_item_are_matched_in_one_item() -> None:
    keys = [{"ScheduledProcedureStepID": "S?", "RequestedProcedureID": "R2"}]
    request = _parsed(Level.SERIES, RequestAttributesSequence=keys)
    assert isinstance(request.query.residual[0], Items)
    assert request.unmatched == ()
    for stored, expected in (
        ([{"ScheduledProcedureStepID": "S1", "RequestedProcedureID": "R2"}], True),
        ([{}, {"ScheduledProcedureStepID": "S1", "RequestedProcedureID": "R2"}], True),
        ([{"ScheduledProcedureStepID": "S1"}, {"RequestedProcedureID": "R2"}], False),
        ([{"ScheduledProcedureStepID": "S12", "RequestedProcedureID": "R2"}], False),
        ([], False),
    ):
        for explicit in (True, False):
            header = pack(elements({"RequestAttributesSequence": stored}, explicit=explicit))
            assert are_met(request.query.residual, header) is expected
    assert not are_met(request.query.residual, b"damaged")


@pytest.mark.parametrize(
    "keys",
    [
        {"RequestAttributesSequence": []},
        {"RequestAttributesSequence": [{}]},
        {"RequestAttributesSequence": [{"ScheduledProcedureStepID": "", "RequestedProcedureID": "*"}]},
        {"NumberOfSeriesRelatedInstances": "", "RetrieveAETitle": ""},
        {"SliceLocation": ""},
    ],
)
def test_what_is_only_asked_for_is_no_key(keys: dict[str, Any]) -> None:
    request = _parsed(Level.SERIES, **keys)
    assert (request.query.residual, request.unmatched) == ((), ())


@pytest.mark.parametrize(
    ("keys", "unmatched"),
    [
        ({"NumberOfSeriesRelatedInstances": "5"}, 0x00201209),
        ({"RetrieveAETitle": "X"}, 0x00080054),
        ({"InstanceAvailability": "ONLINE"}, 0x00080056),
        ({"SliceLocation": "1.5"}, 0x00201041),
        ({"SOPInstanceUID": "1.2"}, 0x00080018),
        ({"RequestAttributesSequence": [{"RetrieveAETitle": "X"}]}, REQUESTS),
        ({"ReferencedImageSequence": [{"ReferencedSOPInstanceUID": "1"}]}, 0x00081140),
    ],
)
def test_what_has_a_value_and_is_not_matched_is_named(keys: dict[str, Any], unmatched: int) -> None:
    assert _parsed(Level.SERIES, **keys).unmatched == (unmatched,)


def test_group_lengths_are_no_keys() -> None:
    identifier = _identifier(Level.STUDY) | {0x00080000: Element("UL", b"\x08\0\0\0")}
    request = parse_find(Model.STUDY, identifier)
    assert (request.unmatched, request.requested) == ((), ())


@pytest.mark.parametrize(
    ("tag", "level"),
    [
        (0x00101002, Level.PATIENT),
        (0x00101010, Level.STUDY),
        (0x00081032, Level.STUDY),
        (REQUESTS, Level.SERIES),
        (0x00080080, Level.SERIES),
        (0x00280010, Level.IMAGE),
    ],
)
def test_an_attribute_in_no_column_stands_at_the_level_of_its_module(tag: int, level: Level) -> None:
    assert level_of(tag) is level


@pytest.mark.parametrize(
    ("name", "stored", "key", "expected"),
    [
        ("Rows", 512, 512, True),
        ("Rows", 511, 512, False),
        ("PatientWeight", "70.50", "+7.05e1", True),
        ("ImageComments", "50\\50 *", "50\\50 ?", True),
        ("ImageComments", "50", "50\\60", False),
        ("AcquisitionDateTime", "20240101083000+0200", "20240101063000+0000", True),
        ("AcquisitionDateTime", "20240101083000+0200", "20240101063000+0000-20240101063000+0000", True),
        ("AcquisitionDateTime", "2023123123", "2024-", False),
        ("AcquisitionDateTime", "garbage", "2024-", False),
    ],
)
def test_a_value_of_a_header_is_compared_by_its_vr(name: str, stored: Any, key: Any, expected: bool) -> None:
    request = _parsed(Level.IMAGE, **{name: key})
    for explicit in (True, False):
        assert are_met(request.query.residual, pack(elements({name: stored}, explicit=explicit))) is expected


def test_a_date_time_without_an_offset_has_that_of_its_data_set() -> None:
    keys: dict[str, Any] = {"AcquisitionDateTime": "20240101080000", "TimezoneOffsetFromUTC": "+0100"}
    residual = _parsed(Level.IMAGE, **keys).query.residual
    for offset, expected in (("+0000", False), ("+0100", True), ("+0200", False)):
        stored = {"AcquisitionDateTime": "20240101080000", "TimezoneOffsetFromUTC": offset}
        assert are_met(residual, pack(elements(stored))) is expected
