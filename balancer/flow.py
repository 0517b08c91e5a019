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

import structlog

from balancer.framing import PduFraming
from balancer.pipes import Pipe, PipePool, PipeShortage

log = structlog.get_logger()

SPLICED_FROM_BYTES: Final = 64 * 1024
"""Where more than this of a PDU is to come, it is spliced; less is copied, together with what follows."""
PIPE_RETRY_S: Final = 0.05
"""How long a stream rests when no pipe can be had."""

_scratch = memoryview(bytearray(SPLICED_FROM_BYTES))
"""Where every framed flow reads: what it cannot pass on within the same callback, it takes out."""


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
    """Moves bytes through a pipe, so that none of them enters Python.

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
        self._retry: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to move bytes."""
        self._resume()

    def stop(self) -> None:
        """Move nothing more; what is in flight is dropped. Harmless when repeated."""
        self._pause()
        self._stop_writing()
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self._put_pipe_back()

    def _resume(self) -> None:
        self._retry = None
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
        except PipeShortage as shortage:
            log.warning("relay.no_pipe", error=str(shortage))
            self._pause()
            self._retry = self._loop.call_later(PIPE_RETRY_S, self._resume)
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
        return self._fill_pipe()

    def _drain(self) -> bool:
        """Give to the destination what it takes; tell whether that was all."""
        assert self._pipe is not None
        self._pipe.drain(self._destination.fileno())
        if self._pipe.held_bytes:
            return False
        self._put_pipe_back()
        return True

    def _fill_pipe(self, limit_bytes: int | None = None) -> int:
        if self._pipe is None:
            self._pipe = self._pipes.take()
        return self._pipe.fill(self._source.fileno(), limit_bytes)

    def _put_pipe_back(self) -> None:
        if self._pipe is not None:
            self._pipes.give_back(self._pipe)
            self._pipe = None


class FramedFlow(Flow):
    """Moves bytes and knows where PDUs end: small ones pass through Python, the body of a large one does not.

    `framing` follows what has come from the source.
    """

    def __init__(
        self, source: socket.socket, destination: socket.socket, pipes: PipePool, listener: Listener
    ) -> None:
        super().__init__(source, destination, pipes, listener)
        self.framing = PduFraming()
        self._copied = memoryview(b"")
        self._at_boundary: Callable[[], None] | None = None

    def start(self, first: bytes = b"") -> None:
        """Begin to move bytes, with those that were read from the source before."""
        self.framing.feed(first)
        self._copied = memoryview(first)
        self._listener.moved(len(first))
        self._push()

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
        if framing.body_left_bytes > SPLICED_FROM_BYTES:
            count = self._fill_pipe(framing.body_left_bytes)
            framing.skip(count)
            return count
        limit = len(_scratch) if self._at_boundary is None else framing.needed_bytes
        count = self._source.recv_into(_scratch, limit)
        self._copied = _scratch[:count]
        framing.feed(self._copied)
        return count

    def _drain(self) -> bool:
        if self._pipe is not None:
            return super()._drain()
        try:
            sent = self._destination.send(self._copied)
        except BlockingIOError:
            sent = 0
        left = self._copied[sent:]
        if left and self._copied.obj is _scratch.obj:
            left = memoryview(bytes(left))
        self._copied = left
        return not left
