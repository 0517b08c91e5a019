"""Identifiers are parsed into queries, and the reference matcher does what PS3.4 C.2.2.2 says."""

from __future__ import annotations

import fnmatch
from contextlib import suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cluster.dicom.elements import Element
from cluster.nouns import Level
from storage_node.catalogue.attributes import ATTRIBUTES, normal, normalised
from storage_node.catalogue.matching import (
    BadIdentifier,
    Key,
    Like,
    Model,
    OneOf,
    Query,
    Within,
    by_uids,
    matches,
    parse_find,
    parse_retrieval,
)

LEVEL, NAME, PATIENT_ID, DATE, TIME = 0x00080052, 0x00100010, 0x00100020, 0x00080020, 0x00080030
STUDY, SERIES, SOP = 0x0020000D, 0x0020000E, 0x00080018


def identifier(level: str | None) -> dict[int, Element]:
    return {} if level is None else {LEVEL: Element("CS", level.encode())}


def with_values(level: str | None, values: dict[int, str]) -> dict[int, Element]:
    return identifier(level) | {tag: Element(None, value.encode()) for tag, value in values.items()}


@pytest.mark.parametrize(
    ("tag", "value", "expected"),
    [
        (PATIENT_ID, "", None),
        (PATIENT_ID, "*", None),
        (PATIENT_ID, "**", None),
        (PATIENT_ID, " P1 ", ("P1",)),
        (PATIENT_ID, "P*1?", Like(ATTRIBUTES[PATIENT_ID], ("P*1?",))),
        (PATIENT_ID, "P***1", Like(ATTRIBUTES[PATIENT_ID], ("P*1",))),
        (NAME, "Müller^Jürgen^^", ("muller^jurgen",)),
        (STUDY, "1.2\\1.3", ("1.2", "1.3")),
        (STUDY, "*", None),
        (DATE, "20240101", ("20240101",)),
        (DATE, "2024.01.01", ("20240101",)),
        (DATE, "20240101-", Within(ATTRIBUTES[DATE], "20240101", None)),
        (DATE, "-20240101", Within(ATTRIBUTES[DATE], None, "20240101")),
        (DATE, "20240101 - 20240131", Within(ATTRIBUTES[DATE], "20240101", "20240131")),
        (DATE, "-", None),
        (TIME, "10", ("100000.000000",)),
        (TIME, "1000-1100", Within(ATTRIBUTES[TIME], "100000.000000", "110059.999999")),
        (TIME, "-11", Within(ATTRIBUTES[TIME], None, "115959.999999")),
    ],
)
def test_a_value_becomes_the_key_it_means(
    tag: int, value: str, expected: Key | tuple[str, ...] | None
) -> None:
    wanted = OneOf(ATTRIBUTES[tag], expected) if isinstance(expected, tuple) else expected
    found = parse_find(Model.STUDY, with_values("STUDY", {tag: value, 0x00080005: "ISO_IR 192"})).query.keys
    assert found == (() if wanted is None else (wanted,))


@pytest.mark.parametrize(
    ("model", "level", "values", "missing"),
    [
        (Model.STUDY, None, {}, "level"),
        (Model.STUDY, "PATIENT", {}, "level"),
        (Model.STUDY, "study", {}, "level"),
        (Model.STUDY, "FRAME", {}, "level"),
        (Model.PATIENT, "STUDY", {}, "Patient ID"),
        (Model.PATIENT, "STUDY", {PATIENT_ID: " "}, "Patient ID"),
        (Model.STUDY, "SERIES", {SERIES: "1.2.3"}, "Study Instance UID"),
        (Model.STUDY, "IMAGE", {STUDY: "1.2", SOP: "1.2.3"}, "Series Instance UID"),
        (Model.PATIENT, "IMAGE", {STUDY: "1.2", SERIES: "1.2.3"}, "Patient ID"),
    ],
)
def test_a_missing_key_is_told_in_an_error_comment(
    model: Model, level: str | None, values: dict[int, str], missing: str
) -> None:
    for parse in (parse_find, parse_retrieval):
        with pytest.raises(BadIdentifier, match=missing) as caught:
            parse(model, with_values(level, values))
        assert len(str(caught.value)) <= 64


def test_a_retrieval_names_instances_below_its_unique_keys() -> None:
    values = {PATIENT_ID: "P*", STUDY: "1.2\\1.3"}
    assert parse_retrieval(Model.PATIENT, with_values("STUDY", values)) == by_uids(
        patient_id="P*", study=["1.2", "1.3"]
    )
    assert parse_retrieval(Model.PATIENT, with_values("PATIENT", values)) == by_uids(patient_id="P*")
    named = {STUDY: "1.2", SERIES: "1.2.3", SOP: "1\\2", NAME: "ignored"}
    expected = by_uids(study=["1.2"], series=["1.2.3"], sop=["1", "2"])
    assert parse_retrieval(Model.STUDY, with_values("IMAGE", named)) == expected


@pytest.mark.parametrize("values", [{}, {STUDY: ""}, {STUDY: "\\"}])
def test_a_retrieval_without_its_own_unique_key_is_refused(values: dict[int, str]) -> None:
    with pytest.raises(BadIdentifier, match="Study Instance UID"):
        parse_retrieval(Model.STUDY, with_values("STUDY", values))


def test_what_is_asked_for_is_what_the_identifier_has() -> None:
    values = {0x00080005: "", STUDY: "", NAME: "DOE*", 0x00201206: ""}
    request = parse_find(Model.STUDY, with_values("STUDY", values))
    assert request.requested == (NAME, STUDY, 0x00201206)
    assert request.query.level is Level.STUDY
    assert request.unmatched == ()


def test_keys_that_are_not_matched_are_named() -> None:
    values = {0x00080060: "CT", 0x00080080: "Hospital", 0x00081030: "Head", 0x00080018: ""}
    request = parse_find(Model.STUDY, with_values("STUDY", values))
    assert request.unmatched == (0x00080060, 0x00080080)
    assert [key.attribute.tag for key in request.query.keys] == [0x00081030]
    in_study = {STUDY: "1.2", 0x00080061: "CT"}
    assert parse_find(Model.STUDY, with_values("SERIES", in_study)).unmatched == (0x00080061,)


@given(st.text("ab*?.[]^", max_size=8), st.text("ab.[]^", max_size=8))
def test_wild_cards_match_as_file_names_do(pattern: str, value: str) -> None:
    escaped = pattern.replace("[", "[[]")
    expected = fnmatch.fnmatchcase(value, escaped) and value != ""
    assert matches(Like(ATTRIBUTES[PATIENT_ID], (pattern,)), value or None) == expected


@given(st.sampled_from([a.vr for a in ATTRIBUTES.values()]), st.text(max_size=20))
@example(vr="PN", value="¨0")
def test_the_normal_form_is_a_normal_form(vr: str, value: str) -> None:
    once = normal(vr, value)
    assert normal(vr, once) == once
    assert not set(once) & set(map(chr, range(32)))
    assert normalised(vr, value) != ""


def test_an_empty_value_matches_no_key() -> None:
    attribute = ATTRIBUTES[DATE]
    for empty in (None, "\\"):
        assert not matches(OneOf(attribute, ("",)), empty)
        assert not matches(Within(attribute, None, "20240101"), empty)
        assert not matches(Like(ATTRIBUTES[NAME], ("?*",)), empty)


@settings(deadline=None)  # the first text that is not ASCII loads what decodes it
@given(st.dictionaries(st.sampled_from([*ATTRIBUTES, LEVEL, 0x00080005, 0x00081111]), st.binary(max_size=30)))
def test_no_identifier_raises_anything_else(values: dict[int, bytes]) -> None:
    elements = {tag: Element(None, value) for tag, value in values.items()}
    for model in Model:
        for level in (None, "STUDY", "IMAGE"):
            with suppress(BadIdentifier):
                assert isinstance(parse_find(model, elements | identifier(level)).query, Query)
