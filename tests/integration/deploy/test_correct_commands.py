"""`atria correct`, `merge` and `history`, beside a cluster that runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from tests.integration.deploy.atria import Up, atria


def answer(*arguments: object, exit_code: int = 0) -> Any:
    done = atria(*arguments, "--json")
    assert done.returncode == exit_code, done.stdout + done.stderr
    return json.loads(done.stdout)


def refusal(*arguments: object) -> str:
    done = atria(*arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    return done.stderr


@pytest.fixture
def study(running: Up, images: list[Path]) -> str:
    assert atria("send", "--to", running.address, *images).returncode == 0
    return str(dcmread(images[0]).StudyInstanceUID)


def test_a_study_is_corrected_shown_found_sent_and_taken_back(
    running: Up, study: str, tmp_path: Path
) -> None:
    data, why = ("--data", running.data), ("--reason", "test")
    patient = f"P{study[-12:]}"
    words = (study, f"PatientID={patient}", "PatientName=Müller^[Jürgen]", "00081030=Right")
    asked = atria("correct", *words, *why, *data)
    assert asked.returncode == 1, "nobody was there to say yes"
    assert "6 instances of 1 study will be answered so" in asked.stderr
    assert all(text in asked.stdout for text in ("PatientName", "CompressedSamples^", "Müller^[Jürgen]"))
    assert "No patient" in asked.stdout
    find = ("find", "--to", running.address, f"PatientID={patient}", "PatientName=muller*")

    said = answer("correct", *words, *why, "--yes", *data)
    assert (said["studies"], said["instances"], said["epoch"]) == (1, 6, 1)
    assert [change["after"] for change in said["changes"]] == ["Right", "Müller^[Jürgen]", patient]
    assert len(answer(*find)) == 1
    out = tmp_path / "out"
    got = atria("get", "--to", running.address, "--study", study, "--out", out)
    assert got.returncode == 0, got.stdout + got.stderr
    copies = [dcmread(file) for file in out.rglob("*.dcm")]
    assert {(str(copy.PatientName), copy.PatientID) for copy in copies} == {("Müller^[Jürgen]", patient)}
    assert len(copies) == 6
    assert "It is so already" in atria("correct", *words, *why, *data).stdout

    answer("correct", study, "--undo", "PatientName", *why, "--yes", *data)
    answer("correct", study, "--undo", *why, "--yes", *data)
    assert answer(*find) == []

    told = answer("history", study, *data)
    assert [(one["kind"], one["epoch"], one["holds"]) for one in told] == [
        ("corrected", 1, False),
        ("corrected", 2, False),
        ("corrected", 3, True),
    ]
    assert all(one["sites"] == ["a", "b", "c"] and "@" in one["decided_by"] for one in told)
    table = atria("history", study, *data).stdout
    assert "PatientName=Müller^[Jürgen]" in table
    assert "corrections taken back" in table


def test_patients_are_merged_corrected_and_parted_again(running: Up, study: str) -> None:
    data, why, yes = ("--data", running.data), ("--reason", "test"), "--yes"
    one, other, end = f"A{study[-12:]}", f"B{study[-12:]}", f"C{study[-12:]}"
    series = {found["0020000E"]["Value"][0] for found in _series(running, study)}
    answer("correct", study, f"PatientID={one}", "PatientName=One^A", *why, yes, *data)
    answer("correct", "--patient", one, f"PatientID={other}", *why, yes, *data)
    assert _studies(running, other) == [study]
    assert "was merged into" in refusal("correct", "--patient", one, "PatientSex=F", *why, *data)
    assert f"no patient {end} is known" in refusal("merge", "--patient", other, "--into", end, *why, *data)
    assert len(answer("history", "--patient", one, *data)) == 1
    said = answer("merge", "--undo", "--patient", one, *why, yes, *data)
    assert [(change["before"], change["after"]) for change in said["changes"]] == [(other, one)]
    assert _studies(running, one) == [study]
    (first, *_) = sorted(series)
    answer("correct", "--series", first, "Modality=PX", *why, yes, *data)
    found = answer("find", "--to", running.address, f"StudyInstanceUID={study}", "ModalitiesInStudy")
    assert "PX" in found[0]["00080061"]["Value"]


def _series(running: Up, study: str) -> Any:
    return answer(
        "find", "--to", running.address, "--level", "series", f"StudyInstanceUID={study}", "SeriesInstanceUID"
    )


def _studies(running: Up, patient: str) -> list[str]:
    found = answer("find", "--to", running.address, f"PatientID={patient}", "StudyInstanceUID")
    return [one["0020000D"]["Value"][0] for one in found]


def test_what_cannot_be_done_is_said_in_one_line(running: Up) -> None:
    data, why = ("--data", running.data), ("--reason", "test")
    for words, said in (
        (("correct", "9.9.9", "StudyInstanceUID=1.2", *why), "is a UID"),
        (("correct", "9.9.9", "StudyID=1", *why), "no study 9.9.9 is known"),
        (("merge", "--patient", "A", *why), "say --into"),
        (("history",), "name one thing"),
    ):
        error = refusal(*words, *data)
        assert said in error
        assert error.count("\n") == 1
    assert "Nothing was decided" in atria("history", "9.9.9", *data).stdout
