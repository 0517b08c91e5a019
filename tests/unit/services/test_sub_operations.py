from __future__ import annotations

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.filereader import read_dataset

from storage_node.services.status import ERROR_COMMENT_LENGTH, Status, error_comment
from storage_node.services.sub_operations import Progress, failed_uid_list

UIDS = st.from_regex(r"[1-9][0-9]{0,6}(\.[1-9][0-9]{0,6}){0,6}", fullmatch=True)


@given(st.lists(UIDS, min_size=1, max_size=50), st.booleans())
def test_the_failed_uid_list_is_read_by_pydicom_as_it_was_written(uids: list[str], explicit: bool) -> None:
    data_set = read_dataset(BytesIO(failed_uid_list(uids, explicit=explicit)), not explicit, True)
    found = data_set.FailedSOPInstanceUIDList
    assert ([found] if isinstance(found, str) else list(found)) == uids


def test_a_list_too_long_for_explicit_vr_is_cut_between_two_uids() -> None:
    uids = [f"1.2.840.{number:050d}" for number in range(3000)]
    encoded = failed_uid_list(uids, explicit=True)
    assert len(encoded) <= 8 + 0xFFFE
    told = encoded[8:].rstrip(b"\0").decode().split("\\")
    assert told == uids[: len(told)]
    assert len(told) > 1000


@pytest.mark.parametrize(
    ("statuses", "outcome"),
    [
        ([0x0000, 0x0000], Status.SUCCESS),
        ([0x0000, 0xA700], Status.SUB_OPERATIONS_FAILED),
        ([0x0000, 0xB000], Status.SUB_OPERATIONS_FAILED),
        ([0xC000, 0xA900], Status.UNABLE_TO_PERFORM_SUB_OPERATIONS),
        ([], Status.SUCCESS),
    ],
)
def test_the_final_status_follows_from_how_the_sub_operations_went(
    statuses: list[int], outcome: Status
) -> None:
    progress = Progress(remaining=len(statuses))
    for number, status in enumerate(statuses):
        progress.count(str(number), status)
    assert progress.outcome() == outcome
    assert progress.remaining == 0
    assert progress.completed + progress.failed + progress.warning == len(statuses)


@pytest.mark.parametrize("with_remaining", [True, False])
def test_counts_beyond_16_bits_are_told_as_the_largest_there_is(*, with_remaining: bool) -> None:
    progress = Progress(remaining=70_000, completed=65_536, failed=3)
    told = progress.elements(with_remaining=with_remaining)
    assert told.pop("number_of_remaining_suboperations", 0xFFFF) == 0xFFFF
    assert list(told.values()) == [0xFFFF, 3, 0]


@given(st.text(max_size=200))
def test_an_error_comment_is_one_that_any_peer_can_take(text: str) -> None:
    comment = error_comment(text)
    assert len(comment) <= ERROR_COMMENT_LENGTH
    assert comment.isascii()
    assert "\\" not in comment
