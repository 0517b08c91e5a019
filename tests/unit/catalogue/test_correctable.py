"""Which attributes people may correct, and to what."""

from __future__ import annotations

import pytest

from cluster.nouns import Level
from storage_node.catalogue.attributes import KEPT
from storage_node.catalogue.correctable import CORRECTABLE, BadCorrection, attribute, corrections_of


@pytest.mark.parametrize("word", ["PatientName", "00100010", "0010,0010", "(0010,0010)"])
def test_an_attribute_is_named_by_keyword_or_tag(word: str) -> None:
    assert attribute(word, Level.PATIENT) == attribute(word, Level.STUDY) == 0x00100010


@pytest.mark.parametrize(
    ("word", "level", "said"),
    [
        ("Nonsense", Level.STUDY, "no such attribute"),
        ("00090001", Level.STUDY, "no such attribute"),
        ("StudyInstanceUID", Level.STUDY, "is a UID"),
        ("SOPInstanceUID", Level.SERIES, "is a UID"),
        ("SeriesInstanceUID", Level.SERIES, "is a UID"),
        ("Modality", Level.STUDY, "no attribute of a study: it is one of a series"),
        ("PatientName", Level.SERIES, "no attribute of a series: it is one of a patient"),
        ("StudyDate", Level.PATIENT, "no attribute of a patient: it is one of a study"),
        ("PixelData", Level.SERIES, "no attribute of a series that can be corrected"),
        ("InstanceNumber", Level.SERIES, "no attribute of a series"),
        ("SpecificCharacterSet", Level.STUDY, "no attribute of a study"),
    ],
)
def test_what_is_of_another_level_or_identifies_is_refused(word: str, level: Level, said: str) -> None:
    with pytest.raises(BadCorrection, match=said):
        attribute(word, level)


def test_whatever_a_catalogue_keeps_above_the_instances_can_be_corrected() -> None:
    kept = {a.tag for a in KEPT if a.level is not Level.IMAGE}
    assert kept <= frozenset().union(*CORRECTABLE.values())
    assert all(not tag >> 16 & 1 and tag < 0x7FE00000 for tags in CORRECTABLE.values() for tag in tags)


def test_values_are_taken_as_they_are_written() -> None:
    words = [
        "PatientName=Müller^Jürgen=山田^太郎",
        "PatientBirthDate=",
        "StudyDescription= a = b ",
        "StudyTime=0815",
    ]
    assert corrections_of(words, Level.STUDY) == {
        0x00100010: "Müller^Jürgen=山田^太郎",
        0x00100030: "",
        0x00081030: "a = b",
        0x00080030: "0815",
    }
    assert corrections_of([r"OtherPatientIDs=A\B"], Level.PATIENT) == {0x00101000: r"A\B"}
    assert corrections_of(["PatientComments=a\\b\nc"], Level.PATIENT) == {0x00104000: "a\\b\nc"}


@pytest.mark.parametrize(
    "word",
    [
        "PatientName",
        "PatientBirthDate=1970-01-31",
        "PatientBirthDate=20240231",
        "PatientSex=X",
        "PatientSex=f",
        "PatientID=",
        "PatientID=a\\b",
        "PatientID=a\nb",
        "PatientID=" + "x" * 65,
        "PatientName=" + "x" * 65,
        "PatientName=a^b^c^d^e^f",
        "PatientName=a=b=c=d",
        "StudyTime=2575",
        "StudyID=" + "x" * 17,
        "PatientAge=45",
        "PatientComments=\x1b",
    ],
)
def test_a_value_that_the_attribute_cannot_have_is_refused(word: str) -> None:
    with pytest.raises(BadCorrection):
        corrections_of([word], Level.STUDY)


def test_an_attribute_is_given_once() -> None:
    with pytest.raises(BadCorrection, match="twice"):
        corrections_of(["PatientID=1", "00100020=2"], Level.STUDY)
