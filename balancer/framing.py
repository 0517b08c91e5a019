"""Where PDUs begin and end in the bytes that a worker sends (PS3.8 9.3.1). Sans-I/O.

It follows the boundaries and keeps no payload: what it is not fed, it is told of.
"""

from __future__ import annotations

from typing import Final

from balancer.associate_rq import A_ABORT, A_ASSOCIATE_RJ, A_RELEASE_RP, PDU_HEADER_BYTES, pdu_length_bytes

LAST_PDU_TYPES: Final = frozenset({A_ASSOCIATE_RJ, A_RELEASE_RP, A_ABORT})
"""After these an acceptor has nothing more to say (PS3.8 9.2)."""


class PduFraming:
    """Follows one direction of a connection."""

    def __init__(self) -> None:
        self._header = bytearray()
        self._body_left = 0
        self.last_type: int | None = None
        """Type of the last PDU that has begun to arrive with its whole header."""
        self.last_length_bytes = 0
        """Its length, as its header says."""

    @property
    def at_boundary(self) -> bool:
        """Whether the bytes so far end with a PDU's end: where another PDU may be put in."""
        return not self._body_left and not self._header

    @property
    def over(self) -> bool:
        """Whether the last PDU is complete, and one after which nothing follows."""
        return self.at_boundary and self.last_type in LAST_PDU_TYPES

    @property
    def body_left_bytes(self) -> int:
        """How much of the current PDU is still to come, as far as its header is known."""
        return self._body_left

    @property
    def needed_bytes(self) -> int:
        """How many bytes can follow without passing a boundary; 0 at one."""
        if self._header:
            return PDU_HEADER_BYTES - len(self._header)
        return self._body_left

    def feed(self, data: bytes | memoryview) -> None:
        """Follow bytes that have come."""
        position, size = 0, len(data)
        while position < size:
            if self._body_left:
                step = min(self._body_left, size - position)
                self._body_left -= step
                position += step
                continue
            end = position + PDU_HEADER_BYTES - len(self._header)
            self._header += data[position:end]
            position = min(end, size)
            if len(self._header) == PDU_HEADER_BYTES:
                self.last_type = self._header[0]
                self.last_length_bytes = self._body_left = pdu_length_bytes(self._header)
                self._header.clear()

    def skip(self, count: int) -> None:
        """Follow `count` bytes that nobody looked at: of the current PDU's body."""
        assert 0 <= count <= self._body_left
        self._body_left -= count
