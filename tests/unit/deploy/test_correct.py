"""What the words of `atria correct` mean."""

from __future__ import annotations

import pytest

from cluster.nouns import Level
from deploy.command.correct import told
from deploy.errors import UserError


@pytest.mark.parametrize(
    ("words", "patient", "series", "undo", "expected"),
    [
        (["1.2", "StudyID=1"], None, None, False, (Level.STUDY, "1.2", ["StudyID=1"])),
        (["1", "StudyID=1"], None, None, False, (Level.STUDY, "1", ["StudyID=1"])),
        (["1.2", "00200010"], None, None, True, (Level.STUDY, "1.2", ["00200010"])),
        (["1.2"], None, None, True, (Level.STUDY, "1.2", [])),
        (["PatientSex=F"], "4711", None, False, (Level.PATIENT, None, ["PatientSex=F"])),
        (["PatientSex"], "4711", None, True, (Level.PATIENT, None, ["PatientSex"])),
        (["Modality=MR"], None, "1.2.3", False, (Level.SERIES, None, ["Modality=MR"])),
        (["1.2", "Modality=MR"], None, "1.2.3", False, (Level.SERIES, "1.2", ["Modality=MR"])),
        (["Modality"], None, "1.2.3", True, (Level.SERIES, None, ["Modality"])),
        (["1.2"], None, "1.2.3", True, (Level.SERIES, "1.2", [])),
    ],
)
def test_what_is_corrected_and_of_what_is_told_apart(
    words: list[str],
    patient: str | None,
    series: str | None,
    undo: bool,
    expected: tuple[Level, str | None, list[str]],
) -> None:
    assert told(words, patient, None, series, undo=undo) == expected


@pytest.mark.parametrize(
    ("words", "patient", "issuer", "series", "said"),
    [
        ([], None, None, None, "name the study"),
        (["PatientName=x"], None, None, None, "name the study"),
        (["1.2"], None, None, None, "KEYWORD=VALUE"),
        (["StudyID=1"], "A", None, "1.2", "not both"),
        (["1.2", "StudyID=1"], None, "X", None, "--issuer goes with --patient"),
    ],
)
def test_what_is_not_clear_is_refused(
    words: list[str], patient: str | None, issuer: str | None, series: str | None, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        told(words, patient, issuer, series, undo=False)
