"""`atria conflicts`, `rejections` and `accept`, beside a cluster that runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from tests.integration.deploy.atria import Up, atria
from tests.integration.services.rejection_notes import PATIENT_SAFETY, document

ABOVE = {"StudyInstanceUID": "study_instance_uid", "SeriesInstanceUID": "series_instance_uid"}


def answer(*arguments: object, exit_code: int = 0) -> Any:
    done = atria(*arguments, "--json")
    assert done.returncode == exit_code, done.stdout + done.stderr
    return json.loads(done.stdout)


def send(running: Up, *files: Path) -> None:
    assert atria("send", "--to", running.address, *files).returncode == 0


@pytest.fixture
def conflict(running: Up, images: list[Path], tmp_path: Path) -> str:
    """Store an image, then another with the same UID, and return the UID."""
    other = dcmread(images[0])
    other.PatientName = "Other^Name"
    other.PixelData = other.PixelData[::-1]
    other.save_as(tmp_path / "other.dcm")
    send(running, images[0])
    send(running, tmp_path / "other.dcm")
    return str(other.SOPInstanceUID)


def test_a_conflict_is_listed_looked_at_and_decided(running: Up, conflict: str) -> None:
    data = ("--data", running.data)

    def listed() -> list[str]:
        return [entry["sop_instance_uid"] for entry in answer("conflicts", *data)]

    assert conflict in listed()
    assert conflict in atria("conflicts", *data).stdout
    shown = answer("conflicts", "show", conflict, *data)
    assert shown["conflict"] == "conflict"
    assert [version["is_current"] for version in shown["versions"]] == [True, False]
    assert shown["differences"] == ["PatientName"]
    said = atria("conflicts", "show", conflict, *data).stdout
    assert "The headers differ in PatientName." in said
    assert "Other^Name" not in said
    values = answer("conflicts", "show", conflict, "--values", *data)["differences"]
    assert values["PatientName"][1] == "Other^Name"
    second = shown["versions"][1]["digest"]
    chosen = answer("conflicts", "choose", conflict, "--digest", second[:8], "--reason", "it is right", *data)
    assert chosen["digest"] == second
    assert conflict not in listed()
    above = (f"{name}={shown[key]}" for name, key in ABOVE.items())
    asked = atria("find", "--to", running.address, "--level", "image", *above, "PatientName").stdout
    assert "Other^Name" in asked
    (found,) = answer("where", conflict, *data)
    assert found["versions"][0]["digest"] == second
    for which, expected in (("--first", shown["versions"][0]["digest"]), ("--newest", second)):
        chosen = answer("conflicts", "choose", conflict, which, "--reason", "no", *data)
        assert chosen["digest"] == expected


def test_a_choice_that_says_not_which_is_refused(running: Up, conflict: str) -> None:
    data = ("--reason", "x", "--data", running.data)
    for arguments in ((conflict,), (conflict, "--first", "--newest")):
        refused = atria("conflicts", "choose", *arguments, *data)
        assert (refused.returncode, "say which version" in refused.stderr) == (2, True)
    unknown = atria("conflicts", "choose", "9.9.9", "--first", *data)
    assert (unknown.returncode, "knows 9.9.9" in unknown.stderr) == (2, True)
    none = atria("conflicts", "choose", conflict, "--digest", "x", *data)
    assert "0 of 2 versions have a digest that begins with 'x'" in none.stderr
    misplaced = atria("conflicts", "--data", running.data, "show", conflict)
    assert misplaced.stderr == "atria: --data belongs behind show\n"


def test_what_a_note_rejected_is_listed_and_accepted(running: Up, images: list[Path], tmp_path: Path) -> None:
    data = ("--data", running.data)
    send(running, *images)
    read = dcmread(images[0])
    study = str(read.StudyInstanceUID)
    note = note_file(tmp_path / "note.dcm", read)
    send(running, tmp_path / "note.dcm")
    of_series = f"StudyInstanceUID={study}", f"SeriesInstanceUID={read.SeriesInstanceUID}"
    find = ("find", "--to", running.address, "--level", "image", *of_series)
    assert len(answer(*find)) == 2
    (entry,) = answer("rejections", study, *data)
    assert (entry["sop_instance_uid"], entry["code"], entry["note"]) == (
        read.SOPInstanceUID,
        PATIENT_SAFETY,
        note,
    )
    assert "Rejected for Patient Safety Reasons (113037)" in atria("rejections", note, *data).stdout
    said = answer("accept", note, "--reason", "it is right", "--yes", *data)
    assert said == {"accepted": 2, "of": 2, "refused": []}, "the instance, and the note"
    assert len(answer(*find)) == 3
    again = atria("accept", study, "--reason", "it is right", "--yes", *data)
    assert (again.returncode, again.stderr) == (2, f"atria: nothing of {study} is rejected\n")


def note_file(file: Path, rejected: Dataset) -> str:
    from cluster.nouns import Instance

    instance = Instance(rejected.StudyInstanceUID, rejected.SeriesInstanceUID, rejected.SOPInstanceUID)
    note = document(PATIENT_SAFETY, [instance], sop=generate_uid())
    note.StudyInstanceUID = generate_uid()
    note.file_meta = FileMetaDataset()
    note.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dcmwrite(file, note, enforce_file_format=True)
    return str(note.SOPInstanceUID)
