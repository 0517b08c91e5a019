"""The driver: one transport connection and its upper layer on an asyncio loop (uvloop or another).

It owns the socket, the timers, back-pressure in both directions, and who waits for what. What an
association looks like from outside is `association`'s part, how one comes about `acceptor`'s and
`requestor`'s, and what is said of it `account`'s.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import Final, TypeVar, cast

from cluster.dicom.account import Account
from cluster.dicom.associate import AssociateAC, AssociateRQ
from cluster.dicom.command_set import CommandField
from cluster.dicom.faults import AssociationEnded, Ending, RemoteProtocolError
from cluster.dicom.limits import UpperLayerLimits
from cluster.dicom.message import Buffer, ReceivedMessage
from cluster.dicom.open_requests import OpenRequests
from cluster.dicom.pdu import Abort, AssociateRJ, ReleaseRP, ReleaseRQ
from cluster.dicom.receive_buffer import ReceivedDataSet
from cluster.dicom.states import State
from cluster.dicom.upper_layer import Faulted, Indication, Role, TransportLost, UpperLayer

_HIGH_WATER_BYTES: Final = 1024 * 1024
_LOW_WATER_BYTES: Final = 256 * 1024
_MESSAGES_AHEAD: Final = 64
"""Messages that a peer may send before their turn; then it has to wait."""
_WATCHES_PER_LIMIT: Final = 8
"""How often in a time limit it is looked whether it is over: a silent peer has an eighth more at most."""

_HANG_UP_S: Final = 1.0
_WANTED_IN: Final = frozenset({State.ESTABLISHED, State.AWAITING_LOCAL_RELEASE_RESPONSE})
"""States in which messages are of use: a release that the peer asks for comes after them."""

T = TypeVar("T")


class Connection(Account, asyncio.BufferedProtocol):
    """One transport connection with the upper layer on it, from its opening until it is closed."""

    def __init__(self, role: Role, limits: UpperLayerLimits) -> None:
        super().__init__(role)
        self.upper_layer = UpperLayer(role, limits)
        self.limits = limits
        self.inbox: deque[ReceivedMessage] = deque()
        self.current: ReceivedDataSet | None = None
        """The data set of the message that is being worked on."""
        self.cancelled: set[int] = set()
        """Message IDs that a C-CANCEL-RQ has named (PS3.7 9.3.2.3)."""
        self.on_interrupt: Callable[[], None] | None = None
        """Called when a C-CANCEL-RQ has arrived, and when the association has ended."""
        self.ending: AssociationEnded | None = None
        """Why nothing more can be received or sent."""
        self.release_wanted = False
        """The peer has asked for the release."""
        self.open_requests = OpenRequests()
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._closed = self._loop.create_future()
        self._ready: Callable[[], bool] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._reading_paused = False
        self._heard_at = self._loop.time()
        self._watch_timer: asyncio.TimerHandle | None = None
        self._artim_timer: asyncio.TimerHandle | None = None
        self._artim_starts = 0
        self._linger_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin (Evt2, Evt5)."""
        # uvloop's transports are no subclass of asyncio's.
        self._transport = transport = cast(asyncio.Transport, transport)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport.set_write_buffer_limits(_HIGH_WATER_BYTES, _LOW_WATER_BYTES)
        self.upper_layer.transport_opened()
        self.settle()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  the buffer knows better what is to come
        """Say where the next bytes go."""
        return self.upper_layer.room()

    def buffer_updated(self, nbytes: int) -> None:
        """Look at what has arrived."""
        self._look_at(self.upper_layer.arrived, nbytes)

    def received(self, data: Buffer) -> None:
        """Look at what has arrived elsewhere."""
        self._look_at(self.upper_layer.receive, data)

    def eof_received(self) -> bool:
        """Let the transport be closed: there is no half-open association."""
        self._close()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Take leave (Evt17)."""
        self.end(Ending.LOST, "the connection is closed" if exc is None else str(exc))
        self.upper_layer.transport_closed()
        self._deliver_events()
        for timer in (self._artim_timer, self._linger_timer, self._watch_timer):
            if timer is not None:
                timer.cancel()
        if not self._closed.done():
            self._closed.set_result(None)

    def pause_writing(self) -> None:
        """Note that the peer takes less than we send."""
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        """Note that the peer has taken what we sent."""
        if self._writable is not None:
            if not self._writable.done():
                self._writable.set_result(None)
            self._writable = None

    def settle(self) -> None:
        """Do what the upper layer wants done. To be called after each call on it."""
        upper_layer, transport = self.upper_layer, self._transport
        self._deliver_events()
        buffers = upper_layer.to_send()
        if transport is not None and buffers and not transport.is_closing():
            transport.writelines(buffers)
        if upper_layer.artim_starts != self._artim_starts or not upper_layer.artim_running:
            self._set_artim()
        if upper_layer.closing and self._linger_timer is None:
            self._close()
        if self._waiter is not None:
            self._wake()
        self.balance()

    def balance(self) -> None:
        """Let the peer go on sending, or wait, as what it sent is taken or is not."""
        pause = self._waiter is None and self.ending is None and self._is_too_far_ahead()
        if pause == self._reading_paused or self._transport is None:
            return
        self._reading_paused = pause
        if pause:
            self._transport.pause_reading()
        else:
            self._heard_at = self._loop.time()
            self._transport.resume_reading()

    async def until(self, ready: Callable[[], bool]) -> None:
        """Wait until `ready()`, which is asked whenever something has arrived. One caller at a time.

        Raises
        ------
        AssociationEnded
            It will not be.
        """
        while not ready():
            self.check()
            assert self._waiter is None, "two wait for the same association"
            waiter = self._loop.create_future()
            self._ready, self._waiter = ready, waiter
            self._heard_at = self._loop.time()
            self.balance()
            try:
                await waiter
            finally:
                self._ready = self._waiter = None

    async def drain(self) -> None:
        """Wait until the peer has taken most of what was sent.

        Raises
        ------
        AssociationEnded
            It takes nothing for longer than `message_timeout_s`, or is gone.
        """
        while self._writable is not None and self.ending is None:
            assert self._transport is not None
            unsent = self._transport.get_write_buffer_size()
            await asyncio.wait([self._writable], timeout=self.limits.message_timeout_s)
            if self._writable is not None and self._transport.get_write_buffer_size() >= unsent:
                self.time_out("message_timeout", "the peer takes nothing of what is sent")
        self.check()

    async def closed(self) -> None:
        """Wait until the transport connection is closed."""
        await asyncio.shield(self._closed)

    @property
    def idle_s(self) -> float:
        """How long it has been between messages: all that was asked is answered, and nothing is under way."""
        if (
            self.open_requests
            or self.inbox
            or self.release_wanted
            or self.upper_layer.in_message
            or self._waiter is None
            or (self._transport is not None and self._transport.get_write_buffer_size())
        ):
            return 0.0
        return self._loop.time() - self._heard_at

    def check(self, *, but: Ending | None = None) -> None:
        """Raise `AssociationEnded` if it has, unless in that way."""
        if self.ending is not None and self.ending.how is not but:
            raise AssociationEnded(self.ending.how, self.ending.why)

    def end(self, how: Ending, why: str) -> None:
        """Note how the association ended; the first to say so is right."""
        if self.ending is not None:
            return
        self.ending = AssociationEnded(how, why)
        self.note_ended(how, why)
        self.resume_writing()
        self._wake()
        self._interrupt()

    def time_out(self, kind: str, why: str) -> None:
        """End the association because the peer took too long."""
        self.note_fault(kind, why)
        self.end(Ending.TIMEOUT, why)
        self.upper_layer.abort()
        self.settle()

    def abort(self, how: Ending = Ending.ABORTED, why: str = "by us") -> None:
        """Send an A-ABORT, if there is still something to abort."""
        self.end(how, why)
        self.upper_layer.abort()
        self.settle()

    def cut(self) -> None:
        """Close the transport connection now, whatever is unsent."""
        if self._transport is not None:
            self._transport.abort()

    def establish(self) -> None:
        """Note that the association is established."""
        self.note_established()
        self._heard_at = self._loop.time()
        self._watch()

    def hang_up(self) -> None:
        """Close the transport connection soon: what is unsent has a last chance."""
        self._close(_HANG_UP_S)

    def associate(self, pdu: AssociateRQ | AssociateAC | AssociateRJ) -> None:
        """Deal with what the peer says of a new association."""
        raise NotImplementedError

    def _look_at(self, look: Callable[[T], None], what: T) -> None:
        self._heard_at = self._loop.time()
        try:
            look(what)
        except RemoteProtocolError as fault:
            self.note_fault(fault.kind, str(fault))
        self.settle()

    def _deliver_events(self) -> None:
        for event in self.upper_layer.events():
            self._deliver(event)

    def _deliver(self, event: Indication) -> None:
        match event:
            case ReceivedMessage():
                self._message(event)
            case AssociateRQ() | AssociateAC() | AssociateRJ():
                self.associate(event)
            case ReleaseRQ():
                self._release_requested()
            case ReleaseRP():
                self._release_confirmed()
            case Abort():
                self.end(Ending.ABORTED, str(event))
            case TransportLost():
                self.end(Ending.LOST, "the connection is closed")
            case Faulted(fault):
                self.end(Ending.PROTOCOL_ERROR, str(fault))

    def _message(self, message: ReceivedMessage) -> None:
        command = message.command
        if self.ending is not None or self.upper_layer.state not in _WANTED_IN:
            if message.data_set is not None:
                message.data_set.discard()
        elif command.command_field == CommandField.C_CANCEL_RQ:
            assert command.message_id_being_responded_to is not None
            self.cancelled.add(command.message_id_being_responded_to)
            self._interrupt()
            if message.data_set is not None:
                message.data_set.discard()
        else:
            if command.is_request and command.message_id is not None:
                self.cancelled.discard(command.message_id)
            self.inbox.append(message)

    def _release_requested(self) -> None:
        """Answer at once, but as acceptor first work off what came before, and in a collision wait (AR-8)."""
        if self.upper_layer.state is State.COLLISION_ACCEPTOR_AWAITING_RELEASE_RP:
            return
        if self._role is Role.ACCEPTOR:
            self.release_wanted = True
            return
        self.upper_layer.respond_release()
        if self.upper_layer.state is State.AWAITING_TRANSPORT_CLOSE:
            self.end(Ending.RELEASED, "by the peer")

    def _release_confirmed(self) -> None:
        if self.upper_layer.state is State.COLLISION_ACCEPTOR_AWAITING_LOCAL_RESPONSE:
            self.upper_layer.respond_release()
        self.end(Ending.RELEASED, "by us")

    def _interrupt(self) -> None:
        if self.on_interrupt is not None:
            self.on_interrupt()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        assert self._ready is not None
        if self.ending is not None or self._ready():
            # It runs later: what arrives until then is ahead of it.
            self._ready = self._waiter = None
            waiter.set_result(None)

    def _close(self, linger_s: float | None = None) -> None:
        """Close the transport when all is sent; a peer that takes nothing does not keep it open."""
        if self._transport is None:
            return
        self._transport.close()
        if self._linger_timer is not None:
            self._linger_timer.cancel()
        self._linger_timer = self._loop.call_later(linger_s or self.limits.artim_timeout_s, self.cut)

    def _is_too_far_ahead(self) -> bool:
        if len(self.inbox) >= _MESSAGES_AHEAD:
            return True
        held_bytes = 0 if self.current is None else self.current.buffered_bytes
        for message in self.inbox:
            if message.data_set is not None:
                held_bytes += message.data_set.buffered_bytes
        return held_bytes > self.limits.receive_window_bytes

    def _set_artim(self) -> None:
        self._artim_starts = self.upper_layer.artim_starts
        if self._artim_timer is not None:
            self._artim_timer.cancel()
            self._artim_timer = None
        if self.upper_layer.artim_running:
            self._artim_timer = self._loop.call_later(self.limits.artim_timeout_s, self._artim_expired)

    def _artim_expired(self) -> None:
        if self.upper_layer.state is State.AWAITING_ASSOCIATE_RQ:
            self.note_fault("artim", "no A-ASSOCIATE-RQ in time")
        self.upper_layer.artim_expired()
        self.cut()

    def _watch(self) -> None:
        """Look whether the peer has been silent for too long, now and again until the association ends."""
        if self.ending is not None:
            return
        now = self._loop.time()
        idle_s, message_s = self.limits.idle_timeout_s, self.limits.message_timeout_s
        silent_s = now - self._heard_at
        if self._reading_paused or not (self.upper_layer.in_message or self._waiter is not None):
            # The peer has nothing to say: it is we who let it wait.
            self._heard_at = now
        elif self.upper_layer.in_message and silent_s >= message_s:
            self.time_out("message_timeout", f"silent for {message_s:g} s in the middle of a message")
            return
        elif not self.upper_layer.in_message and silent_s >= idle_s:
            self.time_out("idle_timeout", f"silent for {idle_s:g} s")
            return
        shortest = min(idle_s, message_s)
        self._watch_timer = self._loop.call_later(shortest / _WATCHES_PER_LIMIT, self._watch)
