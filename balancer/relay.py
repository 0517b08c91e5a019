"""An association between a client and the worker it was given: both directions, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from prometheus_client import Counter

from balancer.associate_rq import A_ABORT, A_ASSOCIATE_RJ, A_RELEASE_RP, AbortReason, a_abort
from balancer.flow import Flow, FramedFlow, Listener, WatchedFlow
from balancer.pipes import PipePool

RELAYED_BYTES = Counter("atria_balancer_relayed_bytes_total", "Bytes that were relayed", ["direction"])
_TO_WORKER: Final = RELAYED_BYTES.labels("to_worker")
_TO_CLIENT: Final = RELAYED_BYTES.labels("to_client")

BOUNDARY_GRACE_S: Final = 1.0
"""How long a client that is to be aborted may take to receive the rest of a PDU."""


class Outcome(enum.StrEnum):
    """How a connection to the front door ended."""

    RELEASED = "released"
    ABORTED = "aborted"
    """The worker has sent an A-ABORT."""
    REJECTED = "rejected"
    """The worker has sent an A-ASSOCIATE-RJ."""
    CLIENT_LEFT = "client_left"
    """The client closed or broke the connection, or sent an A-ABORT, as which the worker closed it."""
    WORKER_LOST = "worker_lost"
    DRAINED = "drained"
    """The balancer was to end, and the association was not over in time."""
    PROBE = "probe"
    """The client left, or stayed, without a byte: a health check, as a rule."""
    NO_ASSOCIATE_RQ = "no_associate_rq"
    UNKNOWN_AE = "unknown_ae"
    """The called or the calling AE title is none that associations are taken for."""
    NO_TLS = "no_tls"
    """The client did not agree on TLS, on a port for it."""
    CLOSED = "closed"
    """The worker closed a connection that was passed through: what was said is not known."""
    GAVE_WAY = "gave_way"
    """There were too many connections that said nothing, and this was one of them."""
    NO_WORKER = "no_worker"
    AT_LIMIT = "at_limit"
    FAILED = "failed"
    """A fault of ours; the log has it."""


@dataclass(frozen=True, slots=True)
class End:
    """How it ended, and what the client is still to be told."""

    outcome: Outcome
    last_words: bytes = b""
    """PDUs to send to the client before its connection is closed."""
    reset: bool = False
    """Whether the client's connection is to be broken: in the middle of a PDU nothing can be said."""


_OUTCOME_OF: Final = {
    A_RELEASE_RP: Outcome.RELEASED,
    A_ABORT: Outcome.ABORTED,
    A_ASSOCIATE_RJ: Outcome.REJECTED,
}


class Passage:
    """Relays bytes both ways, whatever they say, from the worker's first ones to the end of one side.

    Parameters
    ----------
    client, worker : socket.socket
        Non-blocking, and the caller's to close.
    pipes : PipePool
    silence_limit_s : float
        How long the worker may be silent after the client has closed its direction.
    """

    def __init__(
        self, client: socket.socket, worker: socket.socket, pipes: PipePool, *, silence_limit_s: float
    ) -> None:
        self._client = client
        self._worker = worker
        self._silence_limit_s = silence_limit_s
        self._loop = asyncio.get_running_loop()
        self._end: asyncio.Future[End] = self._loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        self.to_worker_bytes = 0
        self.to_client_bytes = 0
        self._to_worker = self._flow_to_worker(
            pipes, Listener(self._count_to_worker, self._client_ended, self._worker_refused)
        )
        self._to_client = self._flow_to_client(
            pipes, Listener(self._count_to_client, self._worker_ended, self._client_refused)
        )

    async def run(self, answer: bytes) -> End:
        """Relay until one side has come to its end.

        Parameters
        ----------
        answer : bytes
            What the worker has answered so far.
        """
        try:
            self._to_client.start(answer)
            self._to_worker.start()
            return await self._end
        finally:
            self._stop()

    def abort(self) -> None:
        """Break the connection: nobody knows where something could be put in."""
        self._finish(End(Outcome.DRAINED, reset=True))

    def _flow_to_worker(self, pipes: PipePool, listener: Listener) -> Flow:
        return Flow(self._client, self._worker, pipes, listener)

    def _flow_to_client(self, pipes: PipePool, listener: Listener) -> Flow:
        return Flow(self._worker, self._client, pipes, listener)

    def _finish(self, end: End) -> None:
        self._stop()
        if not self._end.done():
            self._end.set_result(end)

    def _stop(self) -> None:
        self._to_worker.stop()
        self._to_client.stop()
        if self._timer is not None:
            self._timer.cancel()

    def _client_ended(self, error: OSError | None) -> None:
        if error is not None:
            self._finish(self._left())
            return
        with contextlib.suppress(OSError):  # a worker that is gone as well ends the other direction
            self._worker.shutdown(socket.SHUT_WR)
        self._await_worker(self.to_client_bytes)

    def _await_worker(self, bytes_before: int) -> None:
        """Let a worker finish that still has something to say; a silent one is left."""

        def look() -> None:
            if self.to_client_bytes == bytes_before:
                self._finish(self._left())
            else:
                self._await_worker(self.to_client_bytes)

        self._set_timer(self._silence_limit_s, look)

    def _client_refused(self, _: OSError) -> None:
        self._finish(self._left())

    def _worker_refused(self, _: OSError) -> None:
        """Leave the end to the other direction, where the worker's last answers may still be waiting."""

    def _worker_ended(self, error: OSError | None) -> None:
        self._finish(End(Outcome.CLOSED) if error is None else End(Outcome.WORKER_LOST, reset=True))

    def _left(self) -> End:
        return End(Outcome.CLIENT_LEFT)

    def _set_timer(self, delay_s: float, action: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(delay_s, action)

    def _count_to_worker(self, count: int) -> None:
        self.to_worker_bytes += count
        _TO_WORKER.inc(count)

    def _count_to_client(self, count: int) -> None:
        self.to_client_bytes += count
        _TO_CLIENT.inc(count)


class Relay(Passage):
    """Relays one association: it knows where a PDU towards the client ends, and with what all is over."""

    _to_worker: WatchedFlow
    _to_client: FramedFlow
    _client_has_left = False

    def abort(self) -> None:
        """End the association: with an A-ABORT to the client, at the next PDU boundary towards it."""
        end = End(Outcome.DRAINED, last_words=a_abort(AbortReason.NOT_SPECIFIED))
        self._set_timer(BOUNDARY_GRACE_S, lambda: self._finish(End(Outcome.DRAINED, reset=True)))
        self._to_client.stop_at_boundary(lambda: self._finish(end))

    def _flow_to_worker(self, pipes: PipePool, listener: Listener) -> WatchedFlow:
        return WatchedFlow(self._client, self._worker, pipes, listener)

    def _flow_to_client(self, pipes: PipePool, listener: Listener) -> FramedFlow:
        return FramedFlow(self._worker, self._client, pipes, listener)

    def _client_ended(self, error: OSError | None) -> None:
        self._client_has_left = True
        super()._client_ended(error)

    def _worker_ended(self, _: OSError | None) -> None:
        framing = self._to_client.framing
        if framing.over or self._client_has_left or _has_left(self._client) or self._to_worker.has_aborted:
            self._finish(self._left())
        elif framing.at_boundary:
            self._finish(End(Outcome.WORKER_LOST, last_words=a_abort(AbortReason.NOT_SPECIFIED)))
        else:
            self._finish(End(Outcome.WORKER_LOST, reset=True))

    def _left(self) -> End:
        framing = self._to_client.framing
        if framing.over and framing.last_type is not None:
            return End(_OUTCOME_OF[framing.last_type])
        return super()._left()


def _has_left(peer: socket.socket) -> bool:
    """Tell whether a peer has closed or broken its connection, and nothing of it is left to read."""
    try:
        return not peer.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
