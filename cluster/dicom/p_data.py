"""P-DATA-TF PDUs as they arrive, in whatever pieces (PS3.8 9.3.5)."""

from __future__ import annotations

from collections.abc import Callable

from cluster.dicom.faults import AbortReason, FaultKind, RemoteProtocolError
from cluster.dicom.message import MessageAssembler, ReceivedMessage
from cluster.dicom.pdu import (
    COMMAND_FRAGMENT,
    LAST_FRAGMENT,
    P_DATA_HEADER,
    PDU_HEADER,
    PDV_HEADER,
    PDV_LENGTH_SHORTFALL,
    PDV_OVERHEAD_BYTES,
    PduType,
)
from cluster.dicom.receive_buffer import ReceiveBuffer


class PDataReader:
    """Reads P-DATA-TFs out of the buffer, fragment by fragment, into messages."""

    __slots__ = (
        "_buffer",
        "_deliver",
        "_fragment_bytes",
        "_in_fragment",
        "_longest",
        "_pdu_bytes",
        "assembler",
    )

    def __init__(
        self,
        buffer: ReceiveBuffer,
        assembler: MessageAssembler,
        longest_bytes: int,
        deliver: Callable[[ReceivedMessage], None],
    ) -> None:
        self.assembler = assembler
        self._buffer = buffer
        self._longest = longest_bytes
        self._deliver = deliver
        self._pdu_bytes = 0
        self._fragment_bytes = 0
        self._in_fragment = False

    @property
    def in_pdu(self) -> bool:
        """Whether a PDU has begun and not all of it has been read."""
        return self._in_fragment or self._pdu_bytes > 0

    def begin(self, length: int) -> None:
        """Begin a PDU whose header says so many bytes.

        Raises
        ------
        RemoteProtocolError
            They hold no presentation data value, or are more than is tolerated.
        """
        if not PDV_OVERHEAD_BYTES <= length <= self._longest:
            raise RemoteProtocolError(
                FaultKind.PDU_LENGTH,
                AbortReason.INVALID_PDU_PARAMETER,
                f"P-DATA-TF of {length} bytes, expected {PDV_OVERHEAD_BYTES} to {self._longest}",
            )
        self._buffer.skip(PDU_HEADER.size)
        self._pdu_bytes = length

    def step(self) -> bool:
        """Read the next header or part of a fragment; return False when more bytes are needed for it.

        Raises
        ------
        RemoteProtocolError
        """
        available = self._buffer.end - self._buffer.begin
        return self._go_on(available) if self._in_fragment else self._begin_fragment(available)

    def take_whole_fragments(self) -> None:
        """Read what nearly all bytes come in: whole PDUs of one fragment, not the last, of a data set.

        The general way would do the same with each of them, at three times the cost.
        """
        buffer, context_id, longest = self._buffer, self.assembler.context_id, self._longest
        block, begin, end = buffer.block, buffer.begin, buffer.end
        while end - begin >= P_DATA_HEADER.size:
            kind, pdu_length, length, found_id, control = P_DATA_HEADER.unpack_from(block, begin)
            size = length - PDV_LENGTH_SHORTFALL
            if (
                kind != PduType.P_DATA_TF
                or found_id != context_id
                or control & (COMMAND_FRAGMENT | LAST_FRAGMENT)
                or pdu_length > longest
                or not 0 < size == pdu_length - PDV_OVERHEAD_BYTES
                or end - begin < P_DATA_HEADER.size + size
            ):
                return
            buffer.begin = begin + P_DATA_HEADER.size
            buffer.keep(size)
            begin = buffer.begin

    def _begin_fragment(self, available: int) -> bool:
        if available < PDV_OVERHEAD_BYTES:
            return False
        buffer = self._buffer
        length, context_id, control = PDV_HEADER.unpack_from(buffer.block, buffer.begin)
        size = length - PDV_LENGTH_SHORTFALL
        rest = self._pdu_bytes - PDV_OVERHEAD_BYTES - size
        if size < 0 or rest < 0 or 0 < rest < PDV_OVERHEAD_BYTES:
            raise RemoteProtocolError(
                FaultKind.PDU_LENGTH,
                AbortReason.INVALID_PDU_PARAMETER,
                f"presentation data value of {length} bytes does not fit its P-DATA-TF",
            )
        self.assembler.begin_fragment(context_id, control, size)
        buffer.skip(PDV_OVERHEAD_BYTES)
        self._pdu_bytes = rest
        self._fragment_bytes = size
        self._in_fragment = True
        return True

    def _go_on(self, available: int) -> bool:
        size = min(self._fragment_bytes, available)
        if size:
            self.assembler.consume(size)
            self._fragment_bytes -= size
        if self._fragment_bytes:
            return False
        self._in_fragment = False
        message = self.assembler.end_fragment()
        if message is not None:
            self._deliver(message)
        return True
