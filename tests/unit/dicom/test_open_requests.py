from __future__ import annotations

import pytest

from cluster.dicom.command_set import CommandField, CommandSet
from cluster.dicom.open_requests import OpenRequests


def find(number: int) -> CommandSet:
    return CommandSet(CommandField.C_FIND_RQ, message_id=number)


def answer(number: int, status: int) -> CommandSet:
    return CommandSet(CommandField.C_FIND_RSP, message_id_being_responded_to=number, status=status)


@pytest.mark.parametrize("status", [0x0000, 0xA700, 0xB000, 0xFE00, 0x0122])
def test_a_request_is_open_until_its_final_answer(status: int) -> None:
    requests = OpenRequests()
    assert not requests
    requests.received(find(1))
    assert requests
    requests.sent(answer(1, status))
    assert not requests


@pytest.mark.parametrize("status", [0xFF00, 0xFF01])
def test_a_pending_answer_leaves_it_open(status: int) -> None:
    requests = OpenRequests()
    requests.sent(find(1))
    requests.received(answer(1, status))
    assert requests


def test_each_side_has_its_own_message_ids() -> None:
    requests = OpenRequests()
    requests.sent(find(1))
    requests.received(find(1))
    requests.sent(answer(1, 0))
    assert requests
    requests.received(answer(1, 0))
    assert not requests


def test_an_answer_to_another_request_leaves_it_open() -> None:
    requests = OpenRequests()
    requests.received(find(1))
    requests.sent(answer(2, 0))
    assert requests


def test_a_cancel_asks_for_no_answer() -> None:
    requests = OpenRequests()
    requests.received(CommandSet(CommandField.C_CANCEL_RQ, message_id_being_responded_to=1))
    assert not requests
