"""What a query may do beyond the baseline: as was negotiated with pynetdicom, or as the settings say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom import AE
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation
from pynetdicom.presentation import build_context

from cluster.dicom import uids
from cluster.dicom.requestor import ProposedContext
from storage_node.services.status import Status
from tests.integration.services.instances import CT, element, instance, store
from tests.integration.services.node import EXPLICIT, Node, running_node
from tests.pynetdicom_peer import at_rest

IMAGES = [
    ("1.1", "1.1.1", "1.1.1.1", b"P1"),
    ("1.1", "1.1.1", "1.1.1.2", b"P1"),
    ("1.1", "1.1.2", "1.1.2.1", b"P1"),
    ("1.2", "1.2.1", "1.2.1.1", b"P1"),
    ("1.3", "1.3.1", "1.3.1.1", b""),
    ("1.4", "1.4.1", "1.4.1.1", b""),
]
"""Instances by their UIDs, and of which patient they are."""


@pytest.fixture
async def filled(tmp_path: Path) -> AsyncIterator[Node]:
    peers = [{"ae_title": "LENIENT", "lenient_levels": True}]
    async with running_node(tmp_path / "data", peers=peers) as node:
        async with await node.connect(ProposedContext(CT, (EXPLICIT,))) as association:
            for study, series, sop, patient_id in IMAGES:
                data_set = instance(sop, study=study, series=series)
                patient = element(0x00100020, "LO", patient_id)
                at = data_set.index(b"\x20\x00\x0d\x00")
                data_set = data_set[:at] + patient + data_set[at:]
                assert (await store(association, data_set, sop=sop)).status == Status.SUCCESS
        yield node


def _extended(uid: str, information: bytes) -> SOPClassExtendedNegotiation:
    item = SOPClassExtendedNegotiation()
    item.sop_class_uid = UID(uid)
    item.service_class_application_information = information
    return item


def _ask(
    node: Node,
    level: str,
    model: str,
    keys: dict[str, str],
    asked: bytes = b"",
    calling_ae: str = "TESTER",
) -> tuple[int, str, list[Dataset], bytes | None]:
    """Return the final status and its comment, what was found, and what was agreed on."""
    query = Dataset()
    query.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(query, keyword, value)
    ae = AE(ae_title=calling_ae)
    ae.requested_contexts = [build_context(model, EXPLICIT)]
    extended = [_extended(model, asked)] if asked else []
    association = ae.associate("127.0.0.1", node.port, ext_neg=[*extended])
    assert association.is_established
    agreed = association.acceptor.sop_class_extended.get(UID(model))
    if model == uids.STUDY_ROOT_GET:
        responses = list(at_rest(association).send_c_get(query, model))
    else:
        responses = list(at_rest(association).send_c_find(query, model))
    association.release()
    final = responses[-1][0]
    return final.Status, final.get("ErrorComment", ""), [found for _, found in responses if found], agreed


@pytest.mark.parametrize(
    ("model", "asked", "agreed"),
    [
        (uids.STUDY_ROOT_FIND, b"\1\1\1\1\1\1\1", b"\1\1\1\0\0\1\1"),
        (uids.PATIENT_ROOT_FIND, b"\0\1\1", b"\0\1\1"),
        (uids.STUDY_ROOT_FIND, b"", None),
    ],
)
async def test_pynetdicom_is_told_what_is_done_of_what_it_asks_for(
    filled: Node, model: str, asked: bytes, agreed: bytes | None
) -> None:
    assert (await asyncio.to_thread(_ask, filled, "STUDY", model, {"PatientID": "P1"}, asked))[3] == agreed


SOP = {"SOPInstanceUID": "1.1.2.1", "StudyInstanceUID": "", "SeriesInstanceUID": ""}


async def test_upper_unique_keys_may_be_left_out_where_that_was_agreed_on(filled: Node) -> None:
    refused = await asyncio.to_thread(_ask, filled, "IMAGE", uids.STUDY_ROOT_FIND, SOP)
    assert refused[:3] == (
        Status.DATA_SET_DOES_NOT_MATCH,
        "IMAGE level needs Study Instance UID of the level above",
        [],
    )
    for asked, calling_ae in ((b"\1", "TESTER"), (b"", "LENIENT")):
        status, _, (found,), _ = await asyncio.to_thread(
            _ask, filled, "IMAGE", uids.STUDY_ROOT_FIND, SOP, asked, calling_ae
        )
        assert status == Status.SUCCESS
        assert (found.StudyInstanceUID, found.SeriesInstanceUID) == ("1.1", "1.1.2")


async def test_a_relational_retrieval_names_an_instance_alone(filled: Node) -> None:
    keys = {"SOPInstanceUID": "1.1.2.1"}
    refused = await asyncio.to_thread(_ask, filled, "IMAGE", uids.STUDY_ROOT_GET, keys)
    assert refused[0] == Status.DATA_SET_DOES_NOT_MATCH
    got = await asyncio.to_thread(_ask, filled, "IMAGE", uids.STUDY_ROOT_GET, keys, b"\1\1")
    assert got[3] == b"\1"
    # It is found; to send it, there is no presentation context.
    assert got[0] in (Status.SUB_OPERATIONS_FAILED, Status.UNABLE_TO_PERFORM_SUB_OPERATIONS)


COUNTS = (
    "NumberOfPatientRelatedStudies",
    "NumberOfPatientRelatedSeries",
    "NumberOfPatientRelatedInstances",
    "NumberOfStudyRelatedSeries",
    "NumberOfStudyRelatedInstances",
    "NumberOfSeriesRelatedInstances",
)


@pytest.mark.parametrize(
    ("level", "keys", "counts"),
    [
        ("STUDY", {"StudyInstanceUID": "1.1"}, [2, 3, 4, 2, 3]),
        ("STUDY", {"StudyInstanceUID": "1.3"}, [1, 1, 1, 1, 1]),
        ("SERIES", {"StudyInstanceUID": "1.1", "SeriesInstanceUID": "1.1.1"}, [2, 3, 4, 2, 3, 2]),
        (
            "IMAGE",
            {"StudyInstanceUID": "1.1", "SeriesInstanceUID": "1.1.1", "SOPInstanceUID": "1.1.1.2"},
            [2, 3, 4, 2, 3, 2],
        ),
    ],
)
async def test_what_is_counted_above_is_told_to_who_asks_for_it(
    filled: Node, level: str, keys: dict[str, str], counts: list[int]
) -> None:
    asked = {**dict.fromkeys(COUNTS, ""), "ModalitiesInStudy": "", "SOPClassesInStudy": "", **keys}
    status, _, (found,), _ = await asyncio.to_thread(_ask, filled, level, uids.STUDY_ROOT_FIND, asked)
    assert status == Status.SUCCESS
    assert [found[keyword].value for keyword in COUNTS if found[keyword].value is not None] == counts
    assert found.SOPClassesInStudy == CT
