"""C-FIND: what a peer asks for, and what it is told (PS3.4 C.4.1)."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.filereader import read_dataset

from cluster.dicom import client, uids
from cluster.dicom.requestor import ProposedContext
from storage_node.services.status import Status
from tests.integration.services.instances import CT, MR, element, identifier, instance, store
from tests.integration.services.node import EXPLICIT, Node, running_node

CONTEXTS = tuple(
    ProposedContext(model, (EXPLICIT,)) for model in (uids.PATIENT_ROOT_FIND, uids.STUDY_ROOT_FIND)
)
STUDIES: dict[str, dict[int, tuple[str, bytes]]] = {
    "1.1": {
        0x00080020: ("DA", b"20240101"),
        0x00080030: ("TM", b"080000"),
        0x00100010: ("PN", b"Doe^Jane"),
        0x00100020: ("LO", b"P1"),
    },
    "1.2": {
        0x00080020: ("DA", b"20240215"),
        0x00080030: ("TM", b"1030"),
        0x00100010: ("PN", b"DOE^John"),
        0x00100020: ("LO", b"P2"),
    },
    "1.3": {
        0x00080020: ("DA", b"20250301"),
        0x00080030: ("TM", b"235959.5"),
        0x00080050: ("SH", b"A1\\A2"),
        0x00100010: ("PN", b"Smith^Ann"),
        0x00100020: ("LO", b"P1"),
    },
    "1.4": {},
    "1.5": {},
}
"""Studies by their UID; the last two have no Patient ID. Each has two CT images, and 1.3 a series of MR."""


def _header(elements: dict[int, tuple[str, bytes]], group: int) -> bytes:
    return b"".join(element(tag, *elements[tag]) for tag in sorted(elements) if tag >> 16 == group)


def _image(study: str, sop_class: str, number: int) -> tuple[str, bytes]:
    series = f"{study}.{1 if sop_class == CT else 2}"
    sop = f"{series}.{number}"
    elements = STUDIES[study]
    modality = element(0x00080060, "CS", b"CT" if sop_class == CT else b"MR")
    data_set = instance(sop, study=study, series=series, sop_class=sop_class)
    at = data_set.index(b"\x20\x00\x0d\x00")
    first = _header({t: v for t, v in elements.items() if t < 0x00080060}, 8) + modality
    return sop, data_set[:at] + first + _header(elements, 0x10) + data_set[at:]


@pytest.fixture
async def filled(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(tmp_path / "data") as node:
        contexts = [ProposedContext(sop_class, (EXPLICIT,)) for sop_class in (CT, MR)]
        async with await node.connect(*contexts) as association:
            for study in STUDIES:
                for sop_class, number in ((CT, 1), (CT, 2), (MR, 1))[: 3 if study == "1.3" else 2]:
                    sop, data_set = _image(study, sop_class, number)
                    response = await store(association, data_set, sop=sop, sop_class=sop_class)
                    assert response.status == Status.SUCCESS
        yield node


async def _find(
    node: Node, level: str, model: str = uids.STUDY_ROOT_FIND, **keys: str
) -> tuple[list[Dataset], set[int], int]:
    """Return what was found, the statuses on the way, and the final one."""
    found, statuses = [], []
    async with await node.connect(*CONTEXTS) as association:
        async for command, answer in client.find(association, model, identifier(level, **keys)):
            assert command.status is not None
            statuses.append(command.status)
            if answer is not None:
                found.append(read_dataset(BytesIO(answer), False, True))
    return found, set(statuses[:-1]), statuses[-1]


@pytest.mark.parametrize(
    ("keys", "studies"),
    [
        ({}, "1.1 1.2 1.3 1.4 1.5"),
        ({"PatientID": "*"}, "1.1 1.2 1.3 1.4 1.5"),
        ({"PatientID": "P1"}, "1.1 1.3"),
        ({"PatientID": "p1"}, ""),
        ({"PatientID": "P1 "}, "1.1 1.3"),
        ({"PatientID": "P?"}, "1.1 1.2 1.3"),
        ({"PatientName": "doe^*"}, "1.1 1.2"),
        ({"PatientName": "DOE^JANE"}, "1.1"),
        ({"PatientName": "*JO*"}, "1.2"),
        ({"PatientName": "Doe"}, ""),
        ({"StudyInstanceUID": "1.1\\1.3\\9.9"}, "1.1 1.3"),
        ({"StudyDate": "20240101"}, "1.1"),
        ({"StudyDate": "20240101-20241231"}, "1.1 1.2"),
        ({"StudyDate": "20240102-"}, "1.2 1.3"),
        ({"StudyDate": "-20240215"}, "1.1 1.2"),
        ({"StudyTime": "1030"}, "1.2"),
        ({"StudyTime": "08-1030"}, "1.1 1.2"),
        ({"StudyTime": "103001-"}, "1.3"),
        ({"StudyTime": "-0800"}, "1.1"),
        ({"StudyDate": "20240101-20241231", "StudyTime": "0900-"}, "1.2"),
        ({"AccessionNumber": "A2"}, "1.3"),
        ({"ModalitiesInStudy": "MR"}, "1.3"),
        ({"ModalitiesInStudy": "CT\\US"}, "1.1 1.2 1.3 1.4 1.5"),
        ({"SOPClassesInStudy": MR}, "1.3"),
        ({"PatientID": "NOBODY"}, ""),
    ],
)
async def test_studies_are_found_by_each_kind_of_matching(
    filled: Node, keys: dict[str, str], studies: str
) -> None:
    found, pending, final = await _find(filled, "STUDY", **{"StudyInstanceUID": "", **keys})
    assert [str(answer.StudyInstanceUID) for answer in found] == studies.split()
    assert pending <= {Status.PENDING}
    assert final == Status.SUCCESS


PATIENT_COUNTS = {
    "NumberOfPatientRelatedStudies": 2,
    "NumberOfPatientRelatedSeries": 3,
    "NumberOfPatientRelatedInstances": 5,
}
STUDY_COUNTS = {"NumberOfStudyRelatedSeries": 2, "NumberOfStudyRelatedInstances": 3}


@pytest.mark.parametrize(
    ("model", "level", "keys", "expected"),
    [
        (uids.PATIENT_ROOT_FIND, "PATIENT", {"PatientID": "P1"}, {**PATIENT_COUNTS, "PatientID": "P1"}),
        (
            uids.PATIENT_ROOT_FIND,
            "STUDY",
            {"PatientID": "P1", "StudyInstanceUID": "1.3"},
            {**STUDY_COUNTS, "ModalitiesInStudy": ["CT", "MR"], "PatientID": "P1"},
        ),
        (
            uids.STUDY_ROOT_FIND,
            "STUDY",
            {"StudyInstanceUID": "1.3"},
            {**STUDY_COUNTS, "SOPClassesInStudy": [CT, MR], "StudyTime": "235959.5"},
        ),
        (
            uids.PATIENT_ROOT_FIND,
            "SERIES",
            {"PatientID": "P1", "StudyInstanceUID": "1.3", "SeriesInstanceUID": "", "Modality": "C*"},
            {"NumberOfSeriesRelatedInstances": 2, "SeriesInstanceUID": "1.3.1", "Modality": "CT"},
        ),
        (
            uids.STUDY_ROOT_FIND,
            "IMAGE",
            {"StudyInstanceUID": "1.3", "SeriesInstanceUID": "1.3.2", "SOPInstanceUID": ""},
            {"SOPInstanceUID": "1.3.2.1", "SOPClassUID": MR, "AvailableTransferSyntaxUID": EXPLICIT},
        ),
    ],
)
async def test_each_level_tells_its_keys_and_counts(
    filled: Node, model: str, level: str, keys: dict[str, str], expected: dict[str, Any]
) -> None:
    asked = {**dict.fromkeys((*expected, "InstanceAvailability"), ""), **keys}
    (found,), _, final = await _find(filled, level, model, **asked)
    assert {keyword: found[keyword].value for keyword in expected} == expected
    assert (found.QueryRetrieveLevel, found.RetrieveAETitle) == (level, "ATRIA")
    assert found.InstanceAvailability == "ONLINE"
    assert final == Status.SUCCESS


async def test_studies_without_a_patient_id_are_of_different_patients(filled: Node) -> None:
    found, _, _ = await _find(
        filled, "PATIENT", uids.PATIENT_ROOT_FIND, PatientID="", NumberOfPatientRelatedStudies=""
    )
    told = sorted((answer.PatientID or "", answer.NumberOfPatientRelatedStudies) for answer in found)
    assert told == [("", 1), ("", 1), ("P1", 2), ("P2", 1)]


@pytest.mark.parametrize("key", [{"InstitutionName": "H"}, {"Modality": "CT"}, {"RetrieveAETitle": "X"}])
async def test_a_key_that_cannot_be_matched_is_told_by_ff01(filled: Node, key: dict[str, str]) -> None:
    found, pending, final = await _find(filled, "STUDY", StudyInstanceUID="1.1", **key)
    assert len(found) == 1
    assert (pending, final) == ({Status.PENDING_WITHOUT_OPTIONAL_KEYS}, Status.SUCCESS)


@pytest.mark.parametrize(
    ("model", "level", "keys"),
    [
        (uids.STUDY_ROOT_FIND, "PATIENT", {"PatientID": ""}),
        (uids.STUDY_ROOT_FIND, "SERIES", {"SeriesInstanceUID": ""}),
        (uids.STUDY_ROOT_FIND, "IMAGE", {"StudyInstanceUID": "1.1", "SOPInstanceUID": ""}),
        (uids.PATIENT_ROOT_FIND, "STUDY", {"StudyInstanceUID": ""}),
        (uids.STUDY_ROOT_FIND, "FRAME", {}),
    ],
)
async def test_a_level_or_a_unique_key_that_is_missing_is_a900(
    filled: Node, model: str, level: str, keys: dict[str, str]
) -> None:
    assert await _find(filled, level, model, **keys) == ([], set(), Status.DATA_SET_DOES_NOT_MATCH)


async def test_a_row_that_has_rotted_does_not_break_the_query(filled: Node) -> None:
    for file in filled.settings.data_folder.glob("site-*/catalogue.sqlite"):
        with sqlite3.connect(file) as connection:
            changed = connection.execute(
                "UPDATE versions SET header = x'00FF' WHERE study_instance_uid = '1.2'"
            )
            assert changed.rowcount == 2
        connection.close()
    found, _, final = await _find(filled, "STUDY", StudyInstanceUID="", NumberOfStudyRelatedInstances="")
    assert [str(answer.StudyInstanceUID) for answer in found] == ["1.1", "1.2", "1.3", "1.4", "1.5"]
    assert found[1].NumberOfStudyRelatedInstances == 2
    assert final == Status.SUCCESS


async def test_two_versions_of_an_instance_are_kept_and_found_as_one(filled: Node) -> None:
    sop, data_set = _image("1.1", CT, 1)
    async with await filled.connect(ProposedContext(CT, (EXPLICIT,))) as association:
        other = data_set + element(0x00204000, "LT", b"corrected")
        assert (await store(association, other, sop=sop)).status == Status.SUCCESS
        assert (await store(association, data_set, sop=sop)).status == Status.SUCCESS
    keys = {"StudyInstanceUID": "1.1", "SeriesInstanceUID": "1.1.1"}
    found, _, _ = await _find(filled, "IMAGE", **keys, SOPInstanceUID=sop, ImageComments="")
    assert [answer.ImageComments for answer in found] == ["corrected"]
    (study,), _, _ = await _find(filled, "STUDY", StudyInstanceUID="1.1", NumberOfStudyRelatedInstances="")
    assert study.NumberOfStudyRelatedInstances == 2
