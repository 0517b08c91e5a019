"""Whose fault it is: the peer's or the caller's, as h11 tells them apart."""

from __future__ import annotations

import enum


class AbortReason(enum.IntEnum):
    """Reason of an A-ABORT by the service provider (PS3.8 table 9-26)."""

    NOT_SPECIFIED = 0
    UNRECOGNIZED_PDU = 1
    UNEXPECTED_PDU = 2
    UNRECOGNIZED_PDU_PARAMETER = 4
    UNEXPECTED_PDU_PARAMETER = 5
    INVALID_PDU_PARAMETER = 6


class FaultKind(enum.StrEnum):
    """What a peer did wrong: the label by which faults are counted."""

    UNRECOGNIZED_PDU = "unrecognized_pdu"
    UNEXPECTED_PDU = "unexpected_pdu"
    PDU_LENGTH = "pdu_length"
    ASSOCIATE = "associate"
    CONTEXT_ID = "context_id"
    FRAGMENT = "fragment"
    COMMAND_SET = "command_set"


class RemoteProtocolError(Exception):
    """The peer broke the protocol. The A-ABORT that it gets is already among what is to be sent."""

    def __init__(self, kind: FaultKind, reason: AbortReason, what: str) -> None:
        super().__init__(what)
        self.kind = kind
        self.reason = reason


class Ending(enum.StrEnum):
    """How an association came to its end."""

    RELEASED = "released"
    ABORTED = "aborted"
    LOST = "lost"
    """The transport connection broke."""
    TIMEOUT = "timeout"
    PROTOCOL_ERROR = "protocol_error"


class AssociationEnded(Exception):
    """The association has ended while more was wanted of it."""

    def __init__(self, how: Ending, why: str) -> None:
        super().__init__(f"association {how.replace('_', ' ')}: {why}" if why else f"association {how}")
        self.how = how
        self.why = why


class LocalProtocolError(Exception):
    """The caller asked for what the protocol does not allow now, or ever. Nothing was sent."""
