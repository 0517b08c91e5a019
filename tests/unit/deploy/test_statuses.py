from __future__ import annotations

import pytest

from deploy.client.statuses import is_stored, meaning


@pytest.mark.parametrize("status", [0x0000, 0x0001, 0xB000, 0xB006, 0xB007])
def test_success_and_warnings_are_stored(status: int) -> None:
    assert is_stored(status)


@pytest.mark.parametrize("status", [0xA700, 0xA900, 0xC000, 0xCFFF, 0x0110, 0x0122, 0xFE00])
def test_failures_are_not_stored(status: int) -> None:
    assert not is_stored(status)


def test_a_status_is_told_with_its_meaning_and_the_comment_of_the_peer() -> None:
    assert meaning(0xA700, "1 of 3 sites") == (
        "0xA700: out of resources: too few sites answer, or the peer is at a limit (1 of 3 sites)"
    )
    assert meaning(0x1234, None) == "0x1234: a status of its own"
