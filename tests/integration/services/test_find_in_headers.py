"""C-FIND by keys that are in no column: in sequences, and of optional attributes (PS3.4 C.2.2.2.6, C.6)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom.filereader import read_dataset

from cluster.dicom import client, uids
from cluster.dicom.requestor import ProposedContext
from storage_node.services.status import Status
from tests.contract.catalogue.data_sets import Values, encoded
from tests.integration.services.instances import CT, instance, store
from tests.integration.services.node import EXPLICIT, Node, running_node

FIND = uids.STUDY_ROOT_FIND
LIMIT = 3


def _request(step: str, procedure: str) -> Values:
    return {"ScheduledProcedureStepID": step, "RequestedProcedureID": procedure}


SERIES = [
    [_request("S1", "R1")],
    [_request("S2", "R1"), _request("S1", "R2")],
    [_request("S1", "R1"), _request("S2", "R2")],
    [],
    [_request("S9", "R9")],
]
"""The requests of series 1.2.0, 1.2.1, … of one study."""


@pytest.fixture
async def filled(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(tmp_path / "data", limits={"find_matches": LIMIT}) as node:
        async with await node.connect(ProposedContext(CT, (EXPLICIT,))) as association:
            for number, requests in enumerate(SERIES):
                told = {"PerformedProcedureStepDescription": f"step {number}"}
                more = encoded({**told, "RequestAttributesSequence": requests})
                sop = f"1.2.{number}.1"
                data_set = instance(sop, series=f"1.2.{number}", more=more)
                assert (await store(association, data_set, sop=sop)).status == Status.SUCCESS
        yield node


async def _find(node: Node, **keys: Any) -> tuple[list[str], list[int | None]]:
    """Return the numbers of the series that were found, and the statuses."""
    identifier = {"QueryRetrieveLevel": "SERIES", "StudyInstanceUID": "1.2", "SeriesInstanceUID": "", **keys}
    found, statuses = [], []
    async with await node.connect(ProposedContext(FIND, (EXPLICIT,))) as association:
        async for command, answer in client.find(association, FIND, encoded(identifier)):
            statuses.append(command.status)
            if answer is not None:
                found.append(str(read_dataset(BytesIO(answer), False, True).SeriesInstanceUID)[-1])
    return found, statuses


@pytest.mark.parametrize(
    ("item", "series"),
    [
        ({"ScheduledProcedureStepID": "S1"}, "0 1 2"),
        ({"RequestedProcedureID": "R1"}, "0 1 2"),
        ({"ScheduledProcedureStepID": "S1", "RequestedProcedureID": "R2"}, "1"),
        ({"ScheduledProcedureStepID": "S?", "RequestedProcedureID": "*2"}, "1 2"),
        ({"ScheduledProcedureStepID": "s1"}, ""),
        ({"ScheduledProcedureStepID": "", "RequestedProcedureID": "R9"}, "4"),
    ],
)
async def test_series_are_found_by_keys_inside_one_item(filled: Node, item: Values, series: str) -> None:
    found, statuses = await _find(filled, RequestAttributesSequence=[item])
    assert found == series.split()
    assert statuses == [*[Status.PENDING] * len(found), Status.SUCCESS]


async def test_optional_keys_that_are_in_no_column_are_matched(filled: Node) -> None:
    found, statuses = await _find(filled, PerformedProcedureStepDescription="step [02]*")
    assert found == []
    found, statuses = await _find(filled, PerformedProcedureStepDescription="*2", Manufacturer="")
    assert (found, statuses) == (["2"], [Status.PENDING, Status.SUCCESS])


@pytest.mark.parametrize("asked", [[], [{}], [_request("", "*")]])
async def test_a_sequence_that_is_only_asked_for_is_no_warning(filled: Node, asked: list[Values]) -> None:
    found, statuses = await _find(
        filled, RequestAttributesSequence=asked, PerformedProcedureStepDescription="*4"
    )
    assert (found, statuses) == (["4"], [Status.PENDING, Status.SUCCESS])


async def test_past_the_limit_a_find_in_headers_fails_after_its_pendings(filled: Node) -> None:
    found, statuses = await _find(filled, PerformedProcedureStepDescription="step ?")
    assert len(found) == LIMIT
    assert statuses == [*[Status.PENDING] * LIMIT, Status.OUT_OF_RESOURCES]


@pytest.mark.parametrize("key", [{"SeriesDate": "yesterday"}, {"RequestAttributesSequence": [{}, {}]}])
async def test_a_key_that_does_not_fit_is_refused(filled: Node, key: dict[str, Any]) -> None:
    assert await _find(filled, **key) == ([], [Status.DATA_SET_DOES_NOT_MATCH])
