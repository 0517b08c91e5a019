"""DIMSE messages from and to fragments: presentation data values in P-DATA-TF PDUs (PS3.8 9.3.5, annex E)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TypeAlias

from cluster.dicom import command_set
from cluster.dicom.command_set import CommandSet, CommandSetError
from cluster.dicom.faults import AbortReason, FaultKind, RemoteProtocolError
from cluster.dicom.pdu import (
    COMMAND_FRAGMENT,
    LAST_FRAGMENT,
    PDU_HEADER,
    PDV_HEADER,
    PDV_LENGTH_SHORTFALL,
    PDV_OVERHEAD_BYTES,
    PduType,
)
from cluster.dicom.receive_buffer import ReceiveBuffer, ReceivedDataSet

Buffer: TypeAlias = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """A message whose command set is complete; its data set may still be arriving."""

    context_id: int
    command: CommandSet
    data_set: ReceivedDataSet | None


class MessageAssembler:
    """Puts messages together: first all fragments of a command set, then all of its data set."""

    __slots__ = ("_buffer", "_command", "_data_set", "_is_last", "_limit_bytes", "context_id", "context_ids")

    def __init__(self, buffer: ReceiveBuffer, command_set_limit_bytes: int) -> None:
        self._buffer = buffer
        self._limit_bytes = command_set_limit_bytes
        self.context_id = 0
        """The presentation context of the message that has begun, or 0."""
        self._command = bytearray()
        self._data_set: ReceivedDataSet | None = None
        self._is_last = False
        self.context_ids: Collection[int] = ()
        """The presentation contexts that were accepted."""

    @property
    def in_message(self) -> bool:
        """Whether a message has begun and is not complete."""
        return self.context_id != 0

    @property
    def in_data_set(self) -> bool:
        """Whether the command set is complete, and its data set is not."""
        return self._data_set is not None

    def begin_fragment(self, context_id: int, control: int, size: int) -> None:
        """Look at the header of a fragment of `size` bytes.

        Raises
        ------
        RemoteProtocolError
            It does not go on with what has begun, or belongs to no accepted presentation context.
        """
        if self.context_id == 0:
            if context_id not in self.context_ids:
                raise RemoteProtocolError(
                    FaultKind.CONTEXT_ID,
                    AbortReason.INVALID_PDU_PARAMETER,
                    f"presentation context ID {context_id} was not accepted",
                )
            self.context_id = context_id
        elif context_id != self.context_id:
            raise _out_of_turn(f"presentation context ID {context_id} within a message of {self.context_id}")
        if bool(control & COMMAND_FRAGMENT) == (self._data_set is not None):
            raise _out_of_turn("a command fragment within a data set, or a data set without its command")
        if self._data_set is None and len(self._command) + size > self._limit_bytes:
            raise RemoteProtocolError(
                FaultKind.COMMAND_SET,
                AbortReason.INVALID_PDU_PARAMETER,
                f"command set of more than {self._limit_bytes} bytes",
            )
        self._is_last = bool(control & LAST_FRAGMENT)

    def consume(self, size: int) -> None:
        """Take `size` bytes of the fragment out of the buffer."""
        if self._data_set is None:
            self._command += self._buffer.copy(size)
        else:
            self._buffer.keep(size)

    def end_fragment(self) -> ReceivedMessage | None:
        """Note that the fragment is complete; return the message if that makes its command set complete.

        Raises
        ------
        RemoteProtocolError
            The command set cannot be read.
        """
        if not self._is_last:
            return None
        if self._data_set is not None:
            self._end_message()
            return None
        try:
            command = command_set.decode(bytes(self._command))
        except CommandSetError as error:
            raise RemoteProtocolError(
                FaultKind.COMMAND_SET, AbortReason.INVALID_PDU_PARAMETER, f"command set: {error}"
            ) from error
        self._command.clear()
        context_id = self.context_id
        if command.has_data_set:
            self._data_set = self._buffer.begin_data_set()
            return ReceivedMessage(context_id, command, self._data_set)
        self._end_message()
        return ReceivedMessage(context_id, command, None)

    def discard(self) -> None:
        """Drop what has arrived of the current data set, and what is still to come."""
        if self._data_set is not None:
            self._data_set.discard()

    def _end_message(self) -> None:
        self.context_id = 0
        self._data_set = None
        self._buffer.end_message()


def _out_of_turn(what: str) -> RemoteProtocolError:
    return RemoteProtocolError(FaultKind.FRAGMENT, AbortReason.UNEXPECTED_PDU_PARAMETER, what)


class Fragmenter:
    """Cuts a command set or a data set into P-DATA-TF PDUs of one fragment each, without copying it."""

    __slots__ = ("_context_id", "_control", "_held", "_held_bytes", "_max_fragment_bytes")

    def __init__(self, context_id: int, *, is_command: bool, max_pdu_length_bytes: int) -> None:
        # Fragments other than the last are even, as data sets are made of 16 bit words when OW is sent.
        largest = max_pdu_length_bytes - PDV_OVERHEAD_BYTES
        self._max_fragment_bytes = largest - largest % 2 if largest > 1 else largest
        assert self._max_fragment_bytes > 0
        self._context_id = context_id
        self._control = COMMAND_FRAGMENT if is_command else 0
        self._held: list[Buffer] = []
        self._held_bytes = 0

    def add(self, data: Buffer) -> list[Buffer]:
        """Return the PDUs that are full now and are not the last, as the buffers they consist of."""
        pdus: list[Buffer] = []
        view = memoryview(data).cast("B")
        while view:
            free = self._max_fragment_bytes - self._held_bytes
            if not free:
                self._flush_into(pdus, self._control)
                continue
            piece = view[:free]
            view = view[free:]
            self._held.append(piece)
            self._held_bytes += len(piece)
        return pdus

    def finish(self) -> list[Buffer]:
        """Return the last PDU."""
        pdus: list[Buffer] = []
        self._flush_into(pdus, self._control | LAST_FRAGMENT)
        return pdus

    def _flush_into(self, pdus: list[Buffer], control: int) -> None:
        size = self._held_bytes
        pdus.append(
            PDU_HEADER.pack(PduType.P_DATA_TF, size + PDV_OVERHEAD_BYTES)
            + PDV_HEADER.pack(size + PDV_LENGTH_SHORTFALL, self._context_id, control)
        )
        pdus += self._held
        self._held = []
        self._held_bytes = 0
