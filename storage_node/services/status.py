"""The statuses that the services answer (PS3.7 annex C, PS3.4 B.2.3, C.4.1.1.4, C.4.2.1.5, C.4.3.1.4)."""

from __future__ import annotations

import enum
from typing import Final

ERROR_COMMENT_LENGTH: Final = 64
"""Error Comment (0000,0902) is an LO: at most 64 characters (PS3.7 annex C)."""


class Status(enum.IntEnum):
    """Status (0000,0900)."""

    SUCCESS = 0x0000
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    UNRECOGNIZED_OPERATION = 0x0211
    OUT_OF_RESOURCES = 0xA700
    UNABLE_TO_COUNT_MATCHES = 0xA701
    UNABLE_TO_PERFORM_SUB_OPERATIONS = 0xA702
    MOVE_DESTINATION_UNKNOWN = 0xA801
    DATA_SET_DOES_NOT_MATCH = 0xA900
    SUB_OPERATIONS_FAILED = 0xB000
    CANNOT_UNDERSTAND = 0xC000
    CANCEL = 0xFE00
    PENDING = 0xFF00
    PENDING_WITHOUT_OPTIONAL_KEYS = 0xFF01


class Refusal(Exception):
    """A request that cannot be done: the peer gets status and comment, and the association goes on."""

    def __init__(self, status: Status, comment: str) -> None:
        super().__init__(comment)
        self.status = status
        self.comment = comment


def error_comment(text: str) -> str:
    """Return the text as an Error Comment: ASCII without backslash, no longer than the standard allows."""
    plain = text.encode("ascii", "replace").decode("ascii").replace("\\", "/")
    return plain if len(plain) <= ERROR_COMMENT_LENGTH else f"{plain[: ERROR_COMMENT_LENGTH - 3]}..."
