"""One direction of a relayed connection: from socket to socket, with back-pressure and without a task.

Nothing is read while something is in flight: so an end of the stream is seen only when all before it has
been delivered, and a receiver that does not keep up holds back its sender, not the balancer's memory.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from balancer.associate_rq import A_ABORT, A_ABORT_BYTES, PDU_HEADER_BYTES, pdu_length_bytes
from balancer.framing import PduFraming
from balancer.pipes import Pipe, PipePool

SPLICED_FROM_BYTES: Final = 64 * 1024
"""A PDU longer than this is spliced; shorter ones are copied, together with what follows."""

_scratch = memoryview(bytearray(SPLICED_FROM_BYTES))
"""Where every flow reads what it copies: what it cannot pass on within the same callback, it takes out."""


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told what becomes of a flow."""

    moved: Callable[[int], None]
    """How many bytes have come from the source: each time."""
    ended: Callable[[OSError | None], None]
    """Once, when the source has ended and all is delivered: the error that broke it, or None."""
    refused: Callable[[OSError], None]
    """Once, when the destination takes no more: the error."""


class Flow:
    """Moves bytes through a pipe, so that none of them enters Python; copies them where no pipe can be had.

    Parameters
    ----------
    source, destination : socket.socket
        Non-blocking, and the caller's to close.
    pipes : PipePool
    listener : Listener
    """

    def __init__(
        self, source: socket.socket, destination: socket.socket, pipes: PipePool, listener: Listener
    ) -> None:
        self._source = source
        self._destination = destination
        self._pipes = pipes
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._pipe: Pipe | None = None
        self._reading = False
        self._writing = False
        self._copied = memoryview(b"")

    def start(self, first: bytes = b"") -> None:
        """Begin to move bytes, with those that were read from the source before."""
        self._copied = memoryview(first)
        self._listener.moved(len(first))
        self._push()

    def stop(self) -> None:
        """Move nothing more; what is in flight is dropped. Harmless when repeated."""
        self._pause()
        self._stop_writing()
        self._put_pipe_back()

    def _resume(self) -> None:
        if not self._reading:
            self._reading = True
            self._loop.add_reader(self._source, self._on_readable)

    def _pause(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._source)

    def _stop_writing(self) -> None:
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._destination)

    def _on_readable(self) -> None:
        try:
            count = self._pull()
        except BlockingIOError:
            self._put_pipe_back()
            return
        except OSError as error:
            self.stop()
            self._listener.ended(error)
            return
        if not count:
            self.stop()
            self._listener.ended(None)
            return
        self._listener.moved(count)
        self._push()

    def _push(self) -> None:
        """Deliver what is in flight; wait for the destination if it does not take all."""
        try:
            delivered = self._drain()
        except OSError as error:
            self.stop()
            self._listener.refused(error)
            return
        if delivered:
            self._stop_writing()
            self._resume()
        elif not self._writing:
            self._pause()
            self._writing = True
            self._loop.add_writer(self._destination, self._push)

    def _pull(self) -> int:
        """Take from the source, and return how much: 0 at its end."""
        return self._fill_pipe() if self._has_pipe() else self._copy(SPLICED_FROM_BYTES)

    def _drain(self) -> bool:
        """Give to the destination what it takes; tell whether that was all."""
        if self._pipe is None:
            return self._send_copied()
        self._pipe.drain(self._destination.fileno())
        if self._pipe.held_bytes:
            return False
        self._put_pipe_back()
        return True

    def _has_pipe(self) -> bool:
        """Take a pipe if there is one."""
        if self._pipe is None:
            self._pipe = self._pipes.take()
        return self._pipe is not None

    def _fill_pipe(self, limit_bytes: int | None = None) -> int:
        assert self._pipe is not None
        return self._pipe.fill(self._source.fileno(), limit_bytes)

    def _copy(self, limit_bytes: int) -> int:
        count = self._source.recv_into(_scratch, limit_bytes)
        self._copied = _scratch[:count]
        return count

    def _send_copied(self) -> bool:
        try:
            sent = self._destination.send(self._copied) if self._copied else 0
        except BlockingIOError:
            sent = 0
        left = self._copied[sent:]
        if left and not left.readonly:
            left = memoryview(bytes(left))  # a buffer that can be written to is one that all flows share
        self._copied = left
        return not left

    def _put_pipe_back(self) -> None:
        if self._pipe is not None:
            self._pipes.give_back(self._pipe)
            self._pipe = None


class WatchedFlow(Flow):
    """Moves bytes, and notices where the last of them, that came by themselves, are an A-ABORT (PS3.8 9.3.8).

    Whoever sends one waits for the other to close the connection, as a receiver does that has died.
    """

    has_aborted = False
    """Whether the source has sent an A-ABORT, and nothing after it."""

    def _pull(self) -> int:
        count = super()._pull()
        self.has_aborted = False
        if count == A_ABORT_BYTES:
            if self._pipe is not None:
                self._copied = memoryview(self._pipe.take_out())
                self._put_pipe_back()
            self.has_aborted = self._copied[0] == A_ABORT
        return count


class FramedFlow(Flow):
    """Moves bytes and knows where PDUs end: small ones pass through Python, the body of a large one does not.

    `framing` follows what has come from the source.
    """

    def __init__(
        self, source: socket.socket, destination: socket.socket, pipes: PipePool, listener: Listener
    ) -> None:
        super().__init__(source, destination, pipes, listener)
        self.framing = PduFraming()
        self._at_boundary: Callable[[], None] | None = None

    def start(self, first: bytes = b"") -> None:
        """Begin to move bytes, with those that were read from the source before."""
        self.framing.feed(first)
        super().start(first)

    def stop_at_boundary(self, reached: Callable[[], None]) -> None:
        """Finish the current PDU, stop, and tell: at once where none has begun."""
        self._at_boundary = reached
        if not self._writing:
            self._stop_if_at_boundary()

    def _push(self) -> None:
        super()._push()
        if self._reading:
            self._stop_if_at_boundary()

    def _stop_if_at_boundary(self) -> None:
        if self._at_boundary is not None and self.framing.at_boundary:
            self.stop()
            self._at_boundary()

    def _pull(self) -> int:
        framing = self.framing
        header = self._next_header()
        length_bytes = pdu_length_bytes(header) if header else framing.last_length_bytes
        left_bytes = len(header) + length_bytes if header else framing.body_left_bytes
        if left_bytes and length_bytes > SPLICED_FROM_BYTES and self._has_pipe():
            count = self._fill_pipe(left_bytes)
            framing.feed(header[:count])
            framing.skip(max(count - len(header), 0))
            return count
        count = self._copy(SPLICED_FROM_BYTES if self._at_boundary is None else framing.needed_bytes)
        framing.feed(self._copied)
        return count

    def _next_header(self) -> bytes:
        """Look at a PDU's header where the PDU may well be large, as the one before was; take nothing.

        Returns
        -------
        bytes
            Empty where none begins, none is looked for, or not all of it has come.
        """
        if not self.framing.at_boundary or self.framing.last_length_bytes <= SPLICED_FROM_BYTES:
            return b""
        header = self._source.recv(PDU_HEADER_BYTES, socket.MSG_PEEK)
        return header if len(header) == PDU_HEADER_BYTES else b""
