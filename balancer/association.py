"""One caller's way through the front door: its request is read, a worker is found, bytes are relayed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

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
from balancer.caller import Caller
from balancer.client import Client
from balancer.pipes import PipePool
from balancer.reception import CallerLeft, Inquiry, NoWorker, Reception
from balancer.relay import End, Outcome, Passage, Relay
from balancer.request_reader import LARGE_REQUESTS_AT_ONCE, RequestReader, read_request
from balancer.sockets import connect, take_leave
from balancer.worker import Worker
from cluster.proxy_protocol import Command, Endpoint, Header, IPAddress, encode
from cluster.settings import UpperLayer
from cluster.settings.live import LiveSettings

log = structlog.get_logger()

CONNECT_PATIENCE_S: Final = 1.5
"""How long a host may take to accept a connection when there is another worker, if `connect_timeout_s` is
longer: a SYN that was lost is sent anew after 1 s (RFC 6298), a host that is off never answers."""
_READ_AT_ONCE_BYTES: Final = 64 * 1024
_LEFT: Final = frozenset({Outcome.CLIENT_LEFT, Outcome.PROBE, Outcome.NO_TLS})
"""Ways to end after which there is nobody to be told."""


class _NotTaken(Exception):
    """A worker has not taken the association, and the client has had no answer: another may take it."""

    def __init__(self, rejection: bytes | None = None) -> None:
        super().__init__()
        self.rejection = rejection
        """The transient A-ASSOCIATE-RJ with which it said so, if it did."""


@dataclass(frozen=True, slots=True)
class Hall:
    """What lies behind the front door, for all who come in."""

    live: LiveSettings
    reception: Reception
    pipes: PipePool
    source_for: Callable[[IPAddress], IPAddress | None]
    """From which of our addresses a worker's is called."""
    large_requests: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(LARGE_REQUESTS_AT_ONCE)
    )
    """To be held while one is read."""


class Association:
    """A connection to the front door, from its first byte to its last.

    Parameters
    ----------
    client : Client
        The connection; it is closed at the end of `run`.
    id_ : str
        Under which balancer and worker speak of it.
    hall : Hall
    """

    def __init__(self, client: Client, id_: str, hall: Hall) -> None:
        self.id = id_
        self._client = client
        self._hall = hall
        self._loop = asyncio.get_running_loop()
        self._relay: Passage | None = None
        self._requested = False
        self._first_words = b""
        """The A-ASSOCIATE-RQ, until a worker has taken it: it may be large, and the association long."""
        self._over = False
        self._log = log.bind(association=id_, source=str(client.source))

    @property
    def source(self) -> Endpoint:
        """Where the caller is."""
        return self._client.source

    @property
    def entrance(self) -> Endpoint:
        """Where it came in."""
        return self._client.entrance

    @property
    def requested(self) -> bool:
        """Whether the A-ASSOCIATE-RQ has come."""
        return self._requested

    @property
    def gives_way(self) -> bool:
        """Whether nothing is lost when the connection is closed: it asks for nothing yet, or no more."""
        return self._over or not self._requested

    async def run(self) -> Outcome:
        """Serve the caller to the end, and return what the end was."""
        try:
            end = await self._serve()
            say = self._log.debug if end.outcome is Outcome.PROBE else self._log.info
            say("association.ended", outcome=end.outcome.value, **self._relayed())
            self._over = True
            self._first_words = b""
            if end.reset:
                self._client.break_off()
                return end.outcome
            timeout_s = self._limits().artim_timeout_s
            if end.outcome not in _LEFT:
                await take_leave(self._client.socket, end.last_words, timeout_s)
            await self._client.leave(timeout_s)
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
        if (outcome := await self._client.open(self._limits().artim_timeout_s)) is not None:
            return End(outcome)
        request = await self._read_request()
        if isinstance(request, End):
            return request
        self._requested = True
        self._log = self._log.bind(calling_ae=request.calling_ae, called_ae=request.called_ae)
        self._first_words = request.pdu
        caller = self._caller(request)
        del request
        reception = self._hall.reception
        if (refusal := reception.refusal(caller)) is not None:
            self._log.warning("association.refused", setting=refusal.setting, why=refusal.why)
            outcome = Outcome.UNKNOWN_AE if refusal.is_of_ae_title else Outcome.AT_LIMIT
            return End(outcome, a_associate_rj(refusal.reason))
        with reception.guest(caller):
            return await self._find_worker(reception.inquiry(caller))

    async def _read_request(self) -> AssociateRq | End:
        limits = self._limits()
        reader = self._reader()
        try:
            async with asyncio.timeout(limits.artim_timeout_s):
                request = await read_request(reader, self._client.socket, self._hall.large_requests)
                return request or _left(reader)
        except NotAnAssociateRq as error:
            self._log.warning("association.not_requested", error=str(error))
            return End(Outcome.NO_ASSOCIATE_RQ, a_abort(error.reason))
        except TimeoutError:
            if not reader.received_bytes:
                return End(Outcome.PROBE)
            self._log.warning(
                "association.not_requested",
                error=f"its request is not complete after {limits.artim_timeout_s:g} s (ARTIM)",
            )
            return End(Outcome.NO_ASSOCIATE_RQ, a_abort(AbortReason.NOT_SPECIFIED))
        except OSError:
            return _left(reader)

    async def _find_worker(self, inquiry: Inquiry) -> End:
        """Offer the association to one worker after the other, until one answers; then relay."""
        rejection = a_associate_rj(RejectReason.TEMPORARY_CONGESTION)
        while True:
            try:
                worker = await self._hall.reception.find(inquiry, self._client.socket)
            except CallerLeft:
                return End(Outcome.CLIENT_LEFT)
            except NoWorker as error:
                self._log.warning("association.no_worker", asked=inquiry.asked, why=str(error))
                return End(Outcome.NO_WORKER, rejection)
            try:
                return await self._offer(worker, inquiry)
            except _NotTaken as refused:
                rejection = refused.rejection or rejection

    async def _offer(self, worker: Worker, inquiry: Inquiry) -> End:
        """Relay to a worker, if it takes the association.

        Raises
        ------
        _NotTaken
        """
        workers = self._hall.reception.workers
        served = False
        try:
            connection, answer = await self._introduce_or_note(worker, inquiry)
            served = True
            self._first_words = b""
            workers.answered(worker)
            return await self._relay_to(worker, connection, answer)
        finally:
            workers.leave(worker, served=served)

    async def _introduce_or_note(self, worker: Worker, inquiry: Inquiry) -> tuple[socket.socket, bytes]:
        """Do as `_introduce`, and remember it of a worker that does not take it.

        Raises
        ------
        _NotTaken
        """
        workers = self._hall.reception.workers
        try:
            return await self._introduce(worker, inquiry)
        except _NotTaken:
            self._log.info("worker.rejected", worker=worker.name)
            workers.rejected(worker, inquiry.search)
            raise
        except OSError as error:
            self._log.warning("worker.passed_over", worker=worker.name, error=str(error) or repr(error))
            workers.failed(worker, inquiry.search, error)
            raise _NotTaken from error

    async def _introduce(self, worker: Worker, inquiry: Inquiry) -> tuple[socket.socket, bytes]:
        """Hand the request to a worker, and return the connection with the beginning of its answer.

        Raises
        ------
        OSError
            It is not there, or says nothing in time.
        _NotTaken
            It says that it takes none at present.
        """
        timeout_s = self._limits().connect_timeout_s
        has_another = self._hall.reception.workers.has_another(inquiry.search, worker)
        async with asyncio.timeout(min(timeout_s, CONNECT_PATIENCE_S) if has_another else timeout_s):
            connection = await connect(worker.dicom, self._hall.source_for)
        try:
            async with asyncio.timeout(timeout_s):
                await self._loop.sock_sendall(connection, self._header() + self._first_words)
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
            raise _NotTaken(answer)
        return answer

    async def _relay_to(self, worker: Worker, connection: socket.socket, answer: bytes) -> End:
        self._log = self._log.bind(worker=worker.name)
        self._log.info("association.relayed")
        with connection:
            self._relay = self._relay_with(connection)
            try:
                return await self._relay.run(answer)
            except asyncio.CancelledError:
                self._client.break_off()
                raise

    def _caller(self, request: AssociateRq) -> Caller:
        return Caller(self.source.address, request.called_ae, request.calling_ae)

    def _reader(self) -> RequestReader:
        return AssociateRqReader(self._limits().associate_rq_limit_bytes)

    def _relay_with(self, connection: socket.socket) -> Passage:
        silence_limit_s = self._limits().artim_timeout_s
        return Relay(self._client.socket, connection, self._hall.pipes, silence_limit_s=silence_limit_s)

    def _limits(self) -> UpperLayer:
        return self._hall.live.now.upper_layer

    def _header(self) -> bytes:
        return encode(
            Header(
                Command.PROXY,
                client=self.source,
                server=self.entrance,
                association_id=self.id,
                tls=self._client.tls,
            )
        )

    def _relayed(self) -> dict[str, int]:
        if self._relay is None:
            return {}
        return {
            "to_worker_bytes": self._relay.to_worker_bytes,
            "to_client_bytes": self._relay.to_client_bytes,
        }


def _left(reader: RequestReader) -> End:
    """Tell a client that left from a health check, some of which reset their connection."""
    return End(Outcome.CLIENT_LEFT if reader.received_bytes else Outcome.PROBE)
