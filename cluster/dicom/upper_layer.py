"""The upper layer protocol as a plain object: bytes in, events out, bytes to send out (PS3.8 9.2).

No socket, no clock, no task. Who drives it writes received bytes to `room()` and says `arrived(n)`, tells
it what the local user wants, and after each call sends `to_send()`, looks at `events()`, and keeps the
ARTIM timer and the transport connection as `artim_starts` and `closing` say.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from cluster.dicom.associate import (
    AssociateAC,
    AssociateRQ,
    decode_associate_ac,
    decode_associate_rq,
)
from cluster.dicom.faults import AbortReason, FaultKind, LocalProtocolError, RemoteProtocolError
from cluster.dicom.limits import UpperLayerLimits
from cluster.dicom.message import Buffer, MessageAssembler, ReceivedMessage
from cluster.dicom.p_data import PDataReader
from cluster.dicom.pdu import (
    PDU_HEADER,
    Abort,
    AssociateRJ,
    PduType,
    ReleaseRP,
    ReleaseRQ,
    decode_small,
)
from cluster.dicom.receive_buffer import ReceiveBuffer
from cluster.dicom.states import ACTIONS, TRANSITIONS, Effect, Event, State

_RECEIVED: Final = {
    PduType.ASSOCIATE_RQ: Event.ASSOCIATE_RQ_RECEIVED,
    PduType.ASSOCIATE_AC: Event.ASSOCIATE_AC_RECEIVED,
    PduType.ASSOCIATE_RJ: Event.ASSOCIATE_RJ_RECEIVED,
    PduType.P_DATA_TF: Event.P_DATA_TF_RECEIVED,
    PduType.RELEASE_RQ: Event.RELEASE_RQ_RECEIVED,
    PduType.RELEASE_RP: Event.RELEASE_RP_RECEIVED,
    PduType.ABORT: Event.ABORT_RECEIVED,
}
_ASSOCIATE: Final[dict[PduType, Callable[[bytes], AssociateRQ | AssociateAC]]] = {
    PduType.ASSOCIATE_RQ: decode_associate_rq,
    PduType.ASSOCIATE_AC: decode_associate_ac,
}
_SMALL_PDU_BYTES: Final = 4
_IGNORED_BY: Final = "AA-6"
_SKIPPED_BY: Final = frozenset({"AA-1", _IGNORED_BY, "AA-7", "AA-8"})
"""Actions on a PDU that comes out of turn: it is judged by its header, and what it holds is skipped."""
_TOLERATED_EXCESS: Final = 2
"""A P-DATA-TF is refused when it is longer than this many times the length that we announced: peers are known
to count the PDU header, or the item headers, or not. It costs no memory: fragments are kept as they come."""


class Role(enum.StrEnum):
    """Who asked for the association (PS3.8 7.1)."""

    REQUESTOR = "requestor"
    ACCEPTOR = "acceptor"


@dataclass(frozen=True, slots=True)
class TransportLost:
    """The transport connection was closed without a release: an A-P-ABORT to the user (PS3.8 7.4)."""


@dataclass(frozen=True, slots=True)
class Faulted:
    """The peer broke the protocol and was sent an A-ABORT: an A-P-ABORT to the user (PS3.8 7.4)."""

    fault: RemoteProtocolError


Pdu: TypeAlias = AssociateRQ | AssociateAC | AssociateRJ | ReleaseRQ | ReleaseRP | Abort
Indication: TypeAlias = Pdu | ReceivedMessage | TransportLost | Faulted


class UpperLayer:
    """One side of one association."""

    def __init__(self, role: Role, limits: UpperLayerLimits) -> None:
        self.role = role
        self.state = State.IDLE
        self.closing = False
        """The transport connection is to be closed when all is sent."""
        self.artim_running = False
        self.artim_starts = 0
        """How often ARTIM was started: a timer of another count is out of date."""
        self._limits = limits
        self._buffer = ReceiveBuffer()
        self._assembler = MessageAssembler(self._buffer, limits.command_set_limit_bytes)
        self._p_data = PDataReader(
            self._buffer,
            self._assembler,
            _TOLERATED_EXCESS * limits.max_pdu_length_bytes,
            self._message_received,
        )
        self._request: AssociateRQ | None = None
        self._skip_bytes = 0
        self._is_deaf = False
        self._fault: RemoteProtocolError | None = None
        self._whole_bytes = PDU_HEADER.size
        self._events: list[Indication] = []
        self._to_send: list[Buffer] = []

    def room(self) -> memoryview:
        """Return where the next received bytes are to be written; never empty."""
        return self._buffer.room(self._whole_bytes)

    def arrived(self, size: int) -> None:
        """Look at `size` bytes that were written to `room()`.

        Raises
        ------
        RemoteProtocolError
            The peer broke the protocol. It is sent an A-ABORT, and what else it sends is ignored.
        """
        self._buffer.arrived(size)
        while self._step():
            pass
        if self._fault is not None:
            fault, self._fault = self._fault, None
            raise fault

    def receive(self, data: Buffer) -> None:
        """Look at received bytes that lie elsewhere: they are copied.

        Raises
        ------
        RemoteProtocolError
            As `arrived` does; the rest of `data` was looked at all the same.
        """
        fault: RemoteProtocolError | None = None
        view = memoryview(data)
        while view:
            room = self.room()
            size = min(len(room), len(view))
            room[:size] = view[:size]
            view = view[size:]
            try:
                self.arrived(size)
            except RemoteProtocolError as error:
                fault = fault or error
        if fault is not None:
            raise fault

    def events(self) -> list[Indication]:
        """Return what the user is to be told, once."""
        events, self._events = self._events, []
        return events

    def to_send(self) -> list[Buffer]:
        """Return what is to be sent, once: whole PDUs."""
        buffers, self._to_send = self._to_send, []
        return buffers

    @property
    def in_message(self) -> bool:
        """Whether the peer has begun something that it has not finished: a PDU or a message."""
        return self._assembler.in_message or self._p_data.in_pdu or self._buffer.begin < self._buffer.end

    def transport_opened(self) -> None:
        """Note that there is a transport connection."""
        if self._request is None:
            self._local(Event.TRANSPORT_INDICATED)
        else:
            self._local(Event.TRANSPORT_CONFIRMED, self._request.encode())

    def transport_closed(self) -> None:
        """Note that the transport connection is no more."""
        action = TRANSITIONS.get((Event.TRANSPORT_CLOSED, self.state))
        if action is not None:
            self._perform(action, indication=TransportLost())

    def artim_expired(self) -> None:
        """Note that the ARTIM timer has run out."""
        action = TRANSITIONS.get((Event.ARTIM_EXPIRED, self.state))
        if action is not None:
            self._perform(action)

    def request(self, request: AssociateRQ) -> None:
        """Ask for an association, as soon as there is a transport connection.

        Raises
        ------
        LocalProtocolError
            Something was asked for before.
        """
        self._local(Event.LOCAL_ASSOCIATE_REQUEST)
        self._request = request

    def accept(self, response: AssociateAC) -> None:
        """Accept the association.

        Raises
        ------
        LocalProtocolError
            Nobody waits for that.
        """
        self._local(Event.LOCAL_ASSOCIATE_ACCEPT, response.encode())
        self._assembler.context_ids = response.accepted_ids

    def reject(self, response: AssociateRJ) -> None:
        """Reject the association.

        Raises
        ------
        LocalProtocolError
            Nobody waits for that.
        """
        self._local(Event.LOCAL_ASSOCIATE_REJECT, response.encode())

    def send_data(self, pdus: Iterable[Buffer]) -> None:
        """Send whole P-DATA-TF PDUs.

        Raises
        ------
        LocalProtocolError
            There is no association that takes data.
        """
        self._local(Event.LOCAL_P_DATA)
        self._to_send += pdus

    def request_release(self) -> None:
        """Ask for the association's release.

        Raises
        ------
        LocalProtocolError
            There is no association, or its release was asked for already, by either side.
        """
        self._local(Event.LOCAL_RELEASE_REQUEST, ReleaseRQ().encode())

    def respond_release(self) -> None:
        """Agree to the release that the peer asked for.

        Raises
        ------
        LocalProtocolError
            It did not, or we have to wait for its own answer first (PS3.8 9.2.3, release collision).
        """
        self._local(Event.LOCAL_RELEASE_RESPONSE, ReleaseRP().encode())

    def abort(self) -> None:
        """Abort the association; harmless when there is none."""
        action = TRANSITIONS.get((Event.LOCAL_ABORT, self.state))
        if action is not None:
            self._assembler.discard()
            self._perform(action)

    def _local(self, event: Event, pdu: bytes = b"") -> None:
        action = TRANSITIONS.get((event, self.state))
        if action is None:
            raise LocalProtocolError(
                f"{event.name} is not allowed in Sta{self.state.value} ({self.state.name})"
            )
        self._perform(action, pdu=pdu)

    def _perform(
        self,
        name: str,
        *,
        pdu: bytes = b"",
        indication: Indication | None = None,
        reason: AbortReason = AbortReason.NOT_SPECIFIED,
    ) -> None:
        action = ACTIONS[name]
        self.state = action.next_state
        if name == "AR-8" and self.role is Role.REQUESTOR:
            self.state = State.COLLISION_REQUESTOR_AWAITING_LOCAL_RESPONSE
        for effect in action.effects:
            match effect:
                case Effect.SEND if pdu:
                    self._to_send.append(pdu)
                case Effect.SEND_USER_ABORT:
                    self._to_send.append(Abort(0, 0).encode())
                case Effect.SEND_PROVIDER_ABORT:
                    self._to_send.append(Abort(2, reason).encode())
                case Effect.INDICATE if indication is not None:
                    self._events.append(indication)
                case Effect.START_ARTIM:
                    self.artim_running = True
                    self.artim_starts += 1
                case Effect.STOP_ARTIM:
                    self.artim_running = False
                case Effect.CLOSE:
                    self.closing = True
                case _:
                    pass

    def _step(self) -> bool:
        """Look at what comes next; return False when more bytes are needed for it."""
        buffer = self._buffer
        available = buffer.end - buffer.begin
        if self._is_deaf or self.state is State.IDLE:
            buffer.skip(available)
            return False
        if self._skip_bytes:
            size = min(self._skip_bytes, available)
            buffer.skip(size)
            self._skip_bytes -= size
            return self._skip_bytes == 0
        try:
            return self._p_data.step() if self._p_data.in_pdu else self._begin_pdu()
        except RemoteProtocolError as fault:
            # Where the next PDU begins cannot be told any more.
            self._is_deaf = True
            self._refuse(TRANSITIONS[Event.INVALID_PDU_RECEIVED, self.state], fault)
            return True

    def _begin_pdu(self) -> bool:
        buffer = self._buffer
        if self._assembler.in_data_set:
            self._p_data.take_whole_fragments()
        available = buffer.end - buffer.begin
        if available < PDU_HEADER.size:
            return False
        number, length = PDU_HEADER.unpack_from(buffer.block, buffer.begin)
        event = _RECEIVED.get(number)
        if event is None:
            raise RemoteProtocolError(
                FaultKind.UNRECOGNIZED_PDU, AbortReason.UNRECOGNIZED_PDU, f"PDU-type {number:02X}H"
            )
        action = TRANSITIONS.get((event, self.state))
        if action is None or action in _SKIPPED_BY:
            buffer.skip(PDU_HEADER.size)
            self._skip_bytes = length
            if action is not None:
                self._out_of_turn(action, event)
            return True
        if event is Event.P_DATA_TF_RECEIVED:
            self._p_data.begin(length)
            return True
        return self._control_pdu(action, PduType(number), available, length)

    def _message_received(self, message: ReceivedMessage) -> None:
        # DT-2 and AR-6: neither changes the state. After an abort of ours nobody wants it (AA-6).
        if self.state is not State.AWAITING_TRANSPORT_CLOSE:
            self._events.append(message)

    def _control_pdu(self, action: str, pdu_type: PduType, available: int, length: int) -> bool:
        limit = self._limits.associate_rq_limit_bytes if pdu_type in _ASSOCIATE else _SMALL_PDU_BYTES
        if length > limit:
            raise RemoteProtocolError(
                FaultKind.PDU_LENGTH,
                AbortReason.INVALID_PDU_PARAMETER,
                f"{pdu_type.name} of {length} bytes, expected at most {limit}",
            )
        if available < PDU_HEADER.size + length:
            self._whole_bytes = PDU_HEADER.size + length
            return False
        self._whole_bytes = PDU_HEADER.size
        self._buffer.skip(PDU_HEADER.size)
        body = self._buffer.copy(length)
        pdu = _ASSOCIATE[pdu_type](body) if pdu_type in _ASSOCIATE else decode_small(pdu_type, body)
        if pdu_type is PduType.RELEASE_RQ and self._assembler.in_message:
            raise RemoteProtocolError(
                FaultKind.FRAGMENT, AbortReason.UNEXPECTED_PDU, "A-RELEASE-RQ within a message"
            )
        if isinstance(pdu, AssociateAC):
            self._assembler.context_ids = self._check(pdu)
        self._perform(action, indication=pdu)
        return True

    def _check(self, response: AssociateAC) -> frozenset[int]:
        assert self._request is not None
        proposed = {context.context_id for context in self._request.contexts}
        if not response.accepted_ids <= proposed:
            raise RemoteProtocolError(
                FaultKind.ASSOCIATE,
                AbortReason.INVALID_PDU_PARAMETER,
                "a presentation context was accepted that was not proposed",
            )
        return response.accepted_ids

    def _out_of_turn(self, action: str, event: Event) -> None:
        if action == _IGNORED_BY:
            return
        where = f"Sta{self.state.value} ({self.state.name})"
        fault = RemoteProtocolError(
            FaultKind.UNEXPECTED_PDU, AbortReason.UNEXPECTED_PDU, f"{event.name} in {where}"
        )
        self._refuse(action, fault)

    def _refuse(self, action: str, fault: RemoteProtocolError) -> None:
        if self._fault is None and self.state is not State.AWAITING_TRANSPORT_CLOSE:
            self._fault = fault
        self._perform(action, indication=Faulted(fault), reason=fault.reason)
