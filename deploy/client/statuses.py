"""What a DIMSE status means, in words (PS3.7 annex C, PS3.4 B.2.3, C.4)."""

from __future__ import annotations

_MEANINGS = (
    (range(0x0001), "success"),
    (range(0xA700, 0xA800), "out of resources: too few sites answer, or the peer is at a limit"),
    (range(0xA801, 0xA802), "the move destination is not known"),
    (range(0xA900, 0xAA00), "the data set does not match its SOP class, or the UIDs of its command"),
    (range(0xB000, 0xB001), "stored or sent, with a warning"),
    (range(0xB006, 0xB008), "stored, with a warning"),
    (range(0xC000, 0xD000), "the peer cannot understand the data set"),
    (range(0xFE00, 0xFE01), "cancelled"),
    (range(0xFF00, 0xFF02), "pending"),
    (range(0x0105, 0x0106), "no such attribute"),
    (range(0x0110, 0x0111), "processing failure"),
    (range(0x0122, 0x0123), "the peer does not know the SOP class"),
    (range(0x0124, 0x0125), "not authorised"),
    (range(0x0211, 0x0212), "the peer does not know the operation"),
)

_STORED = (0x0000, 0x0001, *range(0xB000, 0xC000))


def is_stored(status: int) -> bool:
    """Whether a C-STORE response says that the instance was stored: success, or a warning."""
    return status in _STORED


def meaning(status: int, comment: str | None) -> str:
    """Return a status in words, with the peer's own comment."""
    words = next((words for statuses, words in _MEANINGS if status in statuses), "a status of its own")
    return f"0x{status:04X}: {words}" + (f" ({comment})" if comment else "")
