"""One caller's way through the front door: its request is read, a worker is found, bytes are relayed."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable

import structlog

from balancer.associate_rq import (
    A_ASSOCIATE_RJ,
    A_ASSOCIATE_RJ_BYTES,
    REJECTED_TRANSIENT,
    AbortReason,
    AssociateRq,
    AssociateRqReader,
    NotAnAssociateRq,
    RejectReason,
    a_abort,
    a_associate_rj,
)
from balancer.pipes import PipePool
from balancer.relay import End, Outcome, Relay
from balancer.sockets import break_off, connect, endpoint, take_leave, tune
from balancer.workers import REFUSALS, Worker, Workers
from cluster.proxy_protocol import Command, Endpoint, Header, encode
from cluster.settings import UpperLayer

log = structlog.get_logger()

_READ_AT_ONCE_BYTES = 64 * 1024


class _Rejected(Exception):
    """A worker has answered with a transient A-ASSOCIATE-RJ: another may take the association."""

    def __init__(self, pdu: bytes) -> None:
        super().__init__("A-ASSOCIATE-RJ, transient")
        self.pdu = pdu


class Association:
    """A connection to the front door, from its first byte to its last.

    Parameters
    ----------
    client : socket.socket
        The connection; it is closed at the end of `run`.
    limits : UpperLayer
    workers : Workers
    pipes : PipePool
    admitted : callable
        Asked when the A-ASSOCIATE-RQ is there: whether one more association may be relayed.
    """

    def __init__(
        self,
        client: socket.socket,
        *,
        limits: UpperLayer,
        workers: Workers,
        pipes: PipePool,
        admitted: Callable[[], bool],
    ) -> None:
        self.id = secrets.token_hex(8)
        self._client = client
        self._limits = limits
        self._workers = workers
        self._pipes = pipes
        self._admitted = admitted
        self._loop = asyncio.get_running_loop()
        self._relay: Relay | None = None
        self._requested = False
        self._source: Endpoint | None = None
        self._log = log.bind(association=self.id)

    @property
    def requested(self) -> bool:
        """Whether the A-ASSOCIATE-RQ has come."""
        return self._requested

    async def run(self) -> Outcome:
        """Serve the caller to the end, and return what the end was."""
        try:
            end = await self._serve()
            say = self._log.debug if end.outcome is Outcome.PROBE else self._log.info
            say("association.ended", outcome=end.outcome.value, **self._relayed())
            if end.reset:
                break_off(self._client)
            elif end.outcome not in (Outcome.CLIENT_LEFT, Outcome.PROBE):
                await take_leave(self._client, end.last_words, self._limits.artim_timeout_s)
            return end.outcome
        finally:
            self._client.close()

    def abort(self) -> bool:
        """End the relaying with an A-ABORT; tell whether there was any."""
        if self._relay is None:
            return False
        self._relay.abort()
        return True

    async def _serve(self) -> End:
        try:
            tune(self._client)
            self._source = endpoint(self._client.getpeername())
            self._log = self._log.bind(source=str(self._source))
            request = await self._read_request()
        except OSError:
            return End(Outcome.CLIENT_LEFT)
        if isinstance(request, End):
            return request
        self._requested = True
        self._log = self._log.bind(calling_ae=request.calling_ae, called_ae=request.called_ae)
        if not self._admitted():
            return End(Outcome.AT_LIMIT, a_associate_rj(RejectReason.LOCAL_LIMIT_EXCEEDED))
        return await self._find_worker(request)

    async def _read_request(self) -> AssociateRq | End:
        reader = AssociateRqReader(self._limits.associate_rq_limit_bytes)
        try:
            async with asyncio.timeout(self._limits.artim_timeout_s):
                while True:
                    data = await self._loop.sock_recv(
                        self._client, min(reader.needed_bytes, _READ_AT_ONCE_BYTES)
                    )
                    if not data:
                        return End(Outcome.CLIENT_LEFT if reader.received_bytes else Outcome.PROBE)
                    if (request := reader.feed(data)) is not None:
                        return request
        except NotAnAssociateRq as error:
            self._log.warning("association.not_requested", error=str(error))
            return End(Outcome.NO_ASSOCIATE_RQ, a_abort(error.reason))
        except TimeoutError:
            if not reader.received_bytes:
                return End(Outcome.PROBE)
            self._log.warning(
                "association.not_requested",
                error=f"A-ASSOCIATE-RQ not complete after {self._limits.artim_timeout_s:g} s (ARTIM)",
            )
            return End(Outcome.NO_ASSOCIATE_RQ, a_abort(AbortReason.NOT_SPECIFIED))

    async def _find_worker(self, request: AssociateRq) -> End:
        """Offer the association to one worker after the other, until one answers; then relay."""
        rejection = a_associate_rj(RejectReason.TEMPORARY_CONGESTION)
        refused: set[str] = set()
        while (worker := self._workers.pick(refused)) is not None:
            try:
                try:
                    connection, answer = await self._introduce(request, worker)
                except _Rejected as rejected:
                    rejection = rejected.pdu
                    REFUSALS.labels(worker.name, "rejected").inc()
                    self._log.info("worker.rejected", worker=worker.name)
                except OSError as error:
                    self._workers.failed(worker, type(error).__name__)
                    self._log.warning("worker.passed_over", worker=worker.name, error=str(error))
                else:
                    self._workers.answered(worker)
                    return await self._relay_to(worker, connection, answer)
            finally:
                self._workers.leave(worker)
            refused.add(worker.name)
        self._log.warning("association.no_worker", asked=sorted(refused))
        return End(Outcome.NO_WORKER, rejection)

    async def _introduce(self, request: AssociateRq, worker: Worker) -> tuple[socket.socket, bytes]:
        """Hand the request to a worker, and return the connection with the beginning of its answer.

        Raises
        ------
        OSError
            It does not take it, or says nothing in time.
        _Rejected
            It takes none at present.
        """
        async with asyncio.timeout(self._limits.connect_timeout_s):
            connection = await connect(worker.dicom)
        try:
            async with asyncio.timeout(self._limits.connect_timeout_s):
                await self._loop.sock_sendall(connection, self._header() + request.pdu)
                return connection, await self._first_answer(connection)
        except BaseException:
            connection.close()
            raise

    async def _first_answer(self, connection: socket.socket) -> bytes:
        """Read enough of a worker's answer to know that it is one, and no transient rejection."""
        answer = b""
        while not answer or (answer[0] == A_ASSOCIATE_RJ and len(answer) < A_ASSOCIATE_RJ_BYTES):
            data = await self._loop.sock_recv(connection, _READ_AT_ONCE_BYTES)
            if not data:
                raise ConnectionAbortedError("closed without an answer")
            answer += data
        if answer[0] == A_ASSOCIATE_RJ and answer[7] == REJECTED_TRANSIENT:
            raise _Rejected(answer)
        return answer

    async def _relay_to(self, worker: Worker, connection: socket.socket, answer: bytes) -> End:
        self._log = self._log.bind(worker=worker.name)
        self._log.info("association.relayed")
        with connection:
            self._relay = Relay(
                self._client, connection, self._pipes, silence_limit_s=self._limits.artim_timeout_s
            )
            try:
                return await self._relay.run(answer)
            except asyncio.CancelledError:
                break_off(self._client)
                raise

    def _header(self) -> bytes:
        return encode(
            Header(
                Command.PROXY,
                client=self._source,
                server=endpoint(self._client.getsockname()),
                association_id=self.id,
            )
        )

    def _relayed(self) -> dict[str, int]:
        if self._relay is None:
            return {}
        return {
            "to_worker_bytes": self._relay.to_worker_bytes,
            "to_client_bytes": self._relay.to_client_bytes,
        }
