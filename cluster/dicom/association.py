"""The established association, as services and clients see it: messages in, messages out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Final, Self, TypeVar

from cluster.dicom import command_set
from cluster.dicom.command_set import CommandSet
from cluster.dicom.faults import AssociationEnded, Ending, LocalProtocolError
from cluster.dicom.message import Buffer, Fragmenter, ReceivedMessage
from cluster.dicom.negotiation import PresentationContext
from cluster.dicom.receive_buffer import ReceivedDataSet
from cluster.dicom.states import State
from cluster.dicom.transport import Connection
from cluster.dicom.upper_layer import Role

__all__ = [
    "Association",
    "AssociationEnded",
    "DataSetStream",
    "Message",
    "PresentationContext",
    "RequestCancelled",
]

_WRITE_BYTES: Final = 256 * 1024
"""How much of a data set is gathered before it is written."""


T = TypeVar("T")


class RequestCancelled(Exception):
    """The peer has cancelled its request (C-CANCEL, PS3.7 9.3.2.3)."""


class DataSetStream:
    """The data set of a message, as it arrives."""

    __slots__ = ("_connection", "_received")

    def __init__(self, connection: Connection, received: ReceivedDataSet) -> None:
        self._connection = connection
        self._received = received

    @property
    def at_end(self) -> bool:
        """Whether the last fragment has arrived and everything was read."""
        return self._received.complete and not self._received.buffered_bytes

    @property
    def received_bytes(self) -> int:
        """How much has arrived, read or not."""
        return self._received.received_bytes

    async def read(self, limit_bytes: int) -> list[memoryview]:
        """Wait for `limit_bytes` more, or the data set's end, and return them.

        The buffers are the caller's for ever. A view keeps the block alive that it arrived in (up to 1
        MiB), so copy what is small and is to be kept for long.

        Parameters
        ----------
        limit_bytes : int
            Most bytes that are returned, and that are held for it; at least 1.

        Returns
        -------
        list of memoryview
            In order, `limit_bytes` together or what there is to the data set's end: nothing at its end.

        Raises
        ------
        AssociationEnded
            Before so much had arrived.
        """
        received = self._received
        await self._connection.until(lambda: received.complete or received.buffered_bytes >= limit_bytes)
        buffers = received.take(limit_bytes)
        self._connection.balance()
        return buffers

    async def discard(self) -> None:
        """Wait for the data set's end, and keep nothing of it.

        Raises
        ------
        AssociationEnded
            Before its end had arrived.
        """
        self._received.discard()
        await self._connection.until(lambda: self._received.complete)


@dataclass(frozen=True, slots=True)
class Message:
    """A DIMSE message (PS3.7 6.3)."""

    context: PresentationContext
    command: CommandSet
    data_set: DataSetStream | None


class Association:
    """An association, from its acceptance to its end, for one task at a time.

    As an asynchronous context manager it is released at the end of the block, or aborted on an exception;
    then its connection is closed.
    """

    def __init__(
        self,
        connection: Connection,
        role: Role,
        contexts: Mapping[int, PresentationContext],
        peer_max_pdu_length_bytes: int,
    ) -> None:
        self.role = role
        self.id = connection.association_id
        self.calling_ae = connection.calling_ae
        self.called_ae = connection.called_ae
        self.source = connection.source
        """`host:port` of the requestor, as it was where it entered the cluster."""
        self.contexts = contexts
        self.peer_max_pdu_length_bytes = peer_max_pdu_length_bytes
        """As the peer announced it: 0 for no limit."""
        self._connection = connection
        self._sending = asyncio.Lock()
        self._last_message_id = 0
        ours = connection.limits.max_pdu_length_bytes
        self._max_pdu_length_bytes = min(peer_max_pdu_length_bytes or ours, ours)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and not self.ended:
                await self.release()
        finally:
            self.abort()
            self._connection.hang_up()
            await self._connection.closed()

    @property
    def ended(self) -> bool:
        """Whether nothing more can be sent."""
        return self._connection.ending is not None

    def contexts_for(self, abstract_syntax: str) -> list[PresentationContext]:
        """Return the accepted presentation contexts of an abstract syntax, in the order of their IDs."""
        found = [c for c in self.contexts.values() if c.abstract_syntax == abstract_syntax]
        return sorted(found, key=lambda context: context.context_id)

    def next_message_id(self) -> int:
        """Return a Message ID (0000,0110) that was not used lately."""
        self._last_message_id = self._last_message_id % 0xFFFF + 1
        return self._last_message_id

    def cancelled(self, message_id: int | None) -> bool:
        """Return whether a C-CANCEL-RQ for the message has arrived (PS3.7 9.3.2.3)."""
        return message_id in self._connection.cancelled

    async def unless_cancelled(self, message_id: int | None, work: AsyncIterator[T]) -> AsyncGenerator[T]:
        """Yield what work yields, until a C-CANCEL-RQ for the message has arrived, or the association ended.

        Work that is being waited for is cancelled then; the caller closes it.

        Raises
        ------
        RequestCancelled
        AssociationEnded
        """
        connection = self._connection
        while True:
            connection.check()
            if self.cancelled(message_id):
                raise RequestCancelled
            try:
                async with asyncio.timeout(None) as scope:
                    connection.on_interrupt = partial(self._interrupt, message_id, scope)
                    result = await anext(work)
            except StopAsyncIteration:
                return
            except TimeoutError:
                if not scope.expired():
                    raise
                continue
            finally:
                connection.on_interrupt = None
            yield result

    def _interrupt(self, message_id: int | None, scope: asyncio.Timeout) -> None:
        if self.ended or self.cancelled(message_id):
            scope.reschedule(asyncio.get_running_loop().time())

    async def receive(self) -> Message:
        """Wait for the next message; what is left of the one before is discarded.

        A message comes with all of its data set, or when as much of it as the receive window has arrived.
        C-CANCEL-RQ never comes: see `cancelled`.

        Raises
        ------
        AssociationEnded
            There is none: the association is released (which is answered here, when all messages before
            were received), aborted, lost, silent for too long, or the peer broke the protocol.
        """
        connection = self._connection
        if connection.current is not None and not connection.current.complete:
            connection.current.discard()
            await connection.until(self._current_is_complete)
        connection.current = None
        await connection.until(self._has_message)
        if not connection.inbox:
            connection.upper_layer.respond_release()
            connection.end(Ending.RELEASED, "by the peer")
            connection.settle()
            connection.check()
        received = connection.inbox.popleft()
        connection.current = received.data_set
        connection.open_requests.received(received.command)
        return self._message(received)

    async def send(
        self,
        context_id: int,
        command: CommandSet,
        data_set: Iterable[Buffer] | AsyncIterable[Buffer] | None = None,
    ) -> None:
        """Send a message, at the pace at which the peer takes it.

        Parameters
        ----------
        context_id : int
            ID of an accepted presentation context.
        command : CommandSet
            Whether a data set follows is set by `data_set`.
        data_set : iterable or asynchronous iterable of bytes-like, optional
            Its bytes, in the context's transfer syntax. They are not copied: they must not change until sent.

        Raises
        ------
        AssociationEnded
            The peer is gone or takes nothing; part of the message may have been sent.
        Exception
            What `data_set` raised. The association is aborted, as a message cannot be taken back.
        """
        if context_id not in self.contexts:
            raise LocalProtocolError(f"presentation context ID {context_id} was not accepted")
        encoded = command_set.encode(command, has_data_set=data_set is not None)
        if command.is_request:  # before it is sent, as the answer may come to another task
            self._connection.open_requests.sent(command)
        async with self._sending:
            await self._send(context_id, encoded, data_set)
        if not command.is_request:
            self._connection.open_requests.sent(command)

    async def _send(
        self, context_id: int, encoded: bytes, data_set: Iterable[Buffer] | AsyncIterable[Buffer] | None
    ) -> None:
        fragmenter = self._fragmenter(context_id, is_command=True)
        pdus = [*fragmenter.add(encoded), *fragmenter.finish()]
        if data_set is None:
            await self._write([b"".join(pdus)])
            return
        try:
            await self._send_data_set(context_id, pdus, data_set)
        except BaseException:
            self.abort()
            raise

    async def release(self) -> None:
        """Release the association and wait until its connection is closed; messages that arrive are dropped.

        Raises
        ------
        AssociationEnded
            It ended in another way before.
        """
        connection = self._connection
        connection.check()
        if connection.upper_layer.state is State.ESTABLISHED:
            connection.inbox.clear()
            if connection.current is not None:
                connection.current.discard()
            connection.upper_layer.request_release()
        else:
            connection.upper_layer.respond_release()
            connection.end(Ending.RELEASED, "by the peer")
        connection.settle()
        try:
            async with asyncio.timeout(connection.limits.artim_timeout_s):
                await connection.closed()
        except TimeoutError:
            connection.time_out("release_timeout", "the peer does not answer the release")
        connection.check(but=Ending.RELEASED)

    def fail(self, why: str) -> AssociationEnded:
        """Abort because the peer said what makes no sense here, and return what is to be raised."""
        self._connection.note_fault("message", why)
        self._connection.abort(Ending.PROTOCOL_ERROR, why)
        assert self._connection.ending is not None
        return self._connection.ending

    def abort(self) -> None:
        """Abort the association; harmless when it has ended."""
        self._connection.abort()

    async def closed(self) -> None:
        """Wait until the transport connection is closed."""
        await self._connection.closed()

    def _has_message(self) -> bool:
        connection = self._connection
        if not connection.inbox:
            return connection.release_wanted and connection.ending is None
        data_set = connection.inbox[0].data_set
        window = connection.limits.receive_window_bytes
        return data_set is None or data_set.complete or data_set.buffered_bytes >= window

    def _current_is_complete(self) -> bool:
        current = self._connection.current
        return current is None or current.complete

    def _message(self, received: ReceivedMessage) -> Message:
        stream = None if received.data_set is None else DataSetStream(self._connection, received.data_set)
        return Message(self.contexts[received.context_id], received.command, stream)

    def _fragmenter(self, context_id: int, *, is_command: bool) -> Fragmenter:
        return Fragmenter(context_id, is_command=is_command, max_pdu_length_bytes=self._max_pdu_length_bytes)

    async def _send_data_set(
        self, context_id: int, pdus: list[Buffer], data_set: Iterable[Buffer] | AsyncIterable[Buffer]
    ) -> None:
        fragmenter = self._fragmenter(context_id, is_command=False)
        gathered = 0
        if isinstance(data_set, AsyncIterable):
            async for data in data_set:
                pdus += fragmenter.add(data)
                gathered += len(data)
                if gathered >= _WRITE_BYTES:
                    await self._write(pdus)
                    pdus, gathered = [], 0
        else:
            for data in data_set:
                pdus += fragmenter.add(data)
                gathered += len(data)
                if gathered >= _WRITE_BYTES:
                    await self._write(pdus)
                    pdus, gathered = [], 0
        await self._write([*pdus, *fragmenter.finish()])

    async def _write(self, pdus: list[Buffer]) -> None:
        connection = self._connection
        connection.check()
        connection.upper_layer.send_data(pdus)
        connection.settle()
        await connection.drain()
