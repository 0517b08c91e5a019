"""The PDUs without variable items, and what they say in words (PS3.8 9.3)."""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import Final

from cluster.dicom.faults import AbortReason, FaultKind, RemoteProtocolError

PDU_HEADER: Final = struct.Struct(">BxI")
"""PDU-type, a reserved byte, and the length of what follows (PS3.8 9.3.1)."""
PDV_HEADER: Final = struct.Struct(">IBB")
"""Item-length, presentation context ID and message control header (PS3.8 9.3.5.1, E.2)."""
P_DATA_HEADER: Final = struct.Struct(">BxIIBB")
"""Both, as a P-DATA-TF of one presentation data value begins."""
PDV_OVERHEAD_BYTES: Final = PDV_HEADER.size
_ITEM_LENGTH_BYTES: Final = 4
PDV_LENGTH_SHORTFALL: Final = PDV_OVERHEAD_BYTES - _ITEM_LENGTH_BYTES
"""The item-length of a PDV counts context ID and control header besides the fragment."""

COMMAND_FRAGMENT: Final = 0x01
LAST_FRAGMENT: Final = 0x02


class PduType(enum.IntEnum):
    """PDU-type (PS3.8 9.3.1)."""

    ASSOCIATE_RQ = 0x01
    ASSOCIATE_AC = 0x02
    ASSOCIATE_RJ = 0x03
    P_DATA_TF = 0x04
    RELEASE_RQ = 0x05
    RELEASE_RP = 0x06
    ABORT = 0x07


_REJECT_RESULTS: Final = {1: "rejected permanently", 2: "rejected for now"}
_REJECT_REASONS: Final = {
    (1, 1): "no reason given",
    (1, 2): "application context name not supported",
    (1, 3): "calling AE title not recognized",
    (1, 7): "called AE title not recognized",
    (2, 1): "no reason given",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded",
}
_ABORT_REASONS: Final = {
    0: "reason not specified",
    1: "unrecognized PDU",
    2: "unexpected PDU",
    4: "unrecognized PDU parameter",
    5: "unexpected PDU parameter",
    6: "invalid PDU parameter value",
}


@dataclass(frozen=True, slots=True)
class AssociateRJ:
    """A-ASSOCIATE-RJ (PS3.8 9.3.4)."""

    result: int
    source: int
    reason: int

    def encode(self) -> bytes:
        """Return the whole PDU."""
        return struct.pack(">BxIxBBB", PduType.ASSOCIATE_RJ, 4, self.result, self.source, self.reason)

    def __str__(self) -> str:
        result = _REJECT_RESULTS.get(self.result, "rejected")
        reason = _REJECT_REASONS.get((self.source, self.reason), "unknown reason")
        return f"{result}: {reason} ({self.result}/{self.source}/{self.reason})"


@dataclass(frozen=True, slots=True)
class ReleaseRQ:
    """A-RELEASE-RQ (PS3.8 9.3.6)."""

    def encode(self) -> bytes:
        """Return the whole PDU."""
        return struct.pack(">BxI4x", PduType.RELEASE_RQ, 4)


@dataclass(frozen=True, slots=True)
class ReleaseRP:
    """A-RELEASE-RP (PS3.8 9.3.7)."""

    def encode(self) -> bytes:
        """Return the whole PDU."""
        return struct.pack(">BxI4x", PduType.RELEASE_RP, 4)


@dataclass(frozen=True, slots=True)
class Abort:
    """A-ABORT (PS3.8 9.3.8). Source 0 is the service user, 2 the provider (then it is an A-P-ABORT)."""

    source: int
    reason: int

    def encode(self) -> bytes:
        """Return the whole PDU."""
        return struct.pack(">BxIxxBB", PduType.ABORT, 4, self.source, self.reason)

    def __str__(self) -> str:
        if self.source == 0:
            return "aborted by the peer's user"
        return f"aborted by the peer: {_ABORT_REASONS.get(self.reason, 'unknown reason')}"


SmallPdu = AssociateRJ | ReleaseRQ | ReleaseRP | Abort


def decode_small(pdu_type: PduType, body: bytes) -> SmallPdu:
    """Read a PDU of fixed length from what follows its header.

    Raises
    ------
    RemoteProtocolError
        Its length is not 4 (PS3.8 9.3.4, 9.3.6 to 9.3.8).
    """
    if len(body) != 4:
        raise RemoteProtocolError(
            FaultKind.PDU_LENGTH,
            AbortReason.INVALID_PDU_PARAMETER,
            f"{pdu_type.name} of {len(body)} bytes, expected 4",
        )
    match pdu_type:
        case PduType.ASSOCIATE_RJ:
            return AssociateRJ(body[1], body[2], body[3])
        case PduType.RELEASE_RQ:
            return ReleaseRQ()
        case PduType.RELEASE_RP:
            return ReleaseRP()
        case _:
            return Abort(body[2], body[3])
