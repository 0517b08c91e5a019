"""The A-ASSOCIATE-RQ that begins each association: who calls whom (PS3.8 9.3.2). Sans-I/O.

Only the fixed part is understood: the rest is the worker's to judge, and gets there as it came. pynetdicom is
not used: it would take longer to import than the balancer to start.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

PDU_HEADER_BYTES: Final = 6
"""PDU type, a reserved byte, and the length of what follows (PS3.8 9.3.1)."""
A_ASSOCIATE_RQ: Final = 0x01
A_ASSOCIATE_RJ: Final = 0x03
A_ASSOCIATE_RJ_BYTES: Final = 10
A_RELEASE_RP: Final = 0x06
A_ABORT: Final = 0x07
A_ABORT_BYTES: Final = 10
REJECTED_TRANSIENT: Final = 2
"""Result of an A-ASSOCIATE-RJ that may be asked again (PS3.8 9.3.4)."""

_FIXED_BYTES: Final = 68
"""Protocol version, reserved, called and calling AE title, reserved."""
_KNOWN_TYPES: Final = range(0x01, 0x08)
_TLS_HANDSHAKE: Final = 0x16


class AbortReason(enum.IntEnum):
    """Reason of an A-ABORT by the provider (PS3.8 table 9-26)."""

    NOT_SPECIFIED = 0
    UNRECOGNIZED_PDU = 1
    UNEXPECTED_PDU = 2
    INVALID_PDU_PARAMETER = 6


class RejectReason(enum.Enum):
    """Result, source and reason of an A-ASSOCIATE-RJ (PS3.8 table 9-21)."""

    CALLING_AE_NOT_RECOGNIZED = (1, 1, 3)
    CALLED_AE_NOT_RECOGNIZED = (1, 1, 7)
    TEMPORARY_CONGESTION = (2, 3, 1)
    LOCAL_LIMIT_EXCEEDED = (2, 3, 2)


def pdu_length_bytes(header: bytes | bytearray) -> int:
    """Return how many bytes follow a PDU's header of six bytes."""
    return int.from_bytes(header[2:PDU_HEADER_BYTES], "big")


def a_abort(reason: AbortReason) -> bytes:
    """Return an A-ABORT with source 2, the provider (PS3.8 9.3.8)."""
    return bytes((A_ABORT, 0, 0, 0, 0, 4, 0, 0, 2, reason))


def a_associate_rj(reason: RejectReason) -> bytes:
    """Return an A-ASSOCIATE-RJ (PS3.8 9.3.4)."""
    return bytes((A_ASSOCIATE_RJ, 0, 0, 0, 0, 4, 0, *reason.value))


class NotAnAssociateRq(ValueError):
    """What came is no A-ASSOCIATE-RQ that we take. `reason` is for the A-ABORT that answers it."""

    def __init__(self, message: str, reason: AbortReason) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class AssociateRq:
    """Who calls whom."""

    called_ae: str
    calling_ae: str
    pdu: bytes
    """The whole PDU, as it came."""


class AssociateRqReader:
    """Puts an A-ASSOCIATE-RQ together from bytes in any pieces, and asks for none beyond it.

    Parameters
    ----------
    limit_bytes : int
        Largest PDU that is taken, header included.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._pdu = bytearray()
        self._total_bytes = PDU_HEADER_BYTES

    @property
    def received_bytes(self) -> int:
        """How much has come."""
        return len(self._pdu)

    @property
    def needed_bytes(self) -> int:
        """How many more bytes may be fed now."""
        return self._total_bytes - len(self._pdu)

    def feed(self, data: bytes) -> AssociateRq | None:
        """Take bytes, at most `needed_bytes` of them.

        Returns
        -------
        AssociateRq or None
            None while the PDU is not complete.

        Raises
        ------
        NotAnAssociateRq
        """
        assert len(data) <= self.needed_bytes
        begins = not self._pdu
        self._pdu += data
        if begins and self._pdu:
            _check_type(self._pdu[0])
        if self._total_bytes == PDU_HEADER_BYTES == len(self._pdu):
            self._total_bytes += self._checked_length(pdu_length_bytes(self._pdu))
        if len(self._pdu) == PDU_HEADER_BYTES or self.needed_bytes:
            return None
        return AssociateRq(
            called_ae=_ae_title(self._pdu[10:26]),
            calling_ae=_ae_title(self._pdu[26:42]),
            pdu=bytes(self._pdu),
        )

    def _checked_length(self, length: int) -> int:
        if length < _FIXED_BYTES:
            raise NotAnAssociateRq(
                f"A-ASSOCIATE-RQ of {length} bytes; its fixed part alone takes {_FIXED_BYTES} (PS3.8 9.3.2)",
                AbortReason.INVALID_PDU_PARAMETER,
            )
        if PDU_HEADER_BYTES + length > self._limit_bytes:
            raise NotAnAssociateRq(
                f"A-ASSOCIATE-RQ of {PDU_HEADER_BYTES + length} bytes; at most {self._limit_bytes} are taken",
                AbortReason.INVALID_PDU_PARAMETER,
            )
        return length


def _check_type(pdu_type: int) -> None:
    if pdu_type == A_ASSOCIATE_RQ:
        return
    if pdu_type in _KNOWN_TYPES:
        raise NotAnAssociateRq(
            f"PDU of type 0x{pdu_type:02x} where an A-ASSOCIATE-RQ is expected (PS3.8 table 9-10, Sta2)",
            AbortReason.UNEXPECTED_PDU,
        )
    hint = ": TLS, on a port without it" if pdu_type == _TLS_HANDSHAKE else ""
    raise NotAnAssociateRq(
        f"0x{pdu_type:02x} is no PDU type (PS3.8 9.3.1){hint}", AbortReason.UNRECOGNIZED_PDU
    )


def _ae_title(raw: bytes | bytearray) -> str:
    """Return an AE title without padding: not significant (PS3.8 table 9-11). Some senders pad with NUL.

    What is no ISO 646 becomes `?`, as it does at workers, who report what other balancers have let in.
    """
    return raw.decode("ascii", "replace").replace("\N{REPLACEMENT CHARACTER}", "?").strip(" \0")
