"""Taking associations (PS3.8 7.1, 9.1.2)."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import structlog

from cluster.dicom.associate import AssociateAC, AssociateRQ
from cluster.dicom.association import Association, AssociationEnded
from cluster.dicom.faults import Ending
from cluster.dicom.limits import UpperLayerLimits
from cluster.dicom.negotiation import AcceptancePolicy, contexts_of, negotiate
from cluster.dicom.pdu import AssociateRJ
from cluster.dicom.states import State
from cluster.dicom.transport import OUTCOMES, Connection
from cluster.dicom.upper_layer import Role

_BACKLOG: Final = 1024
_PREFACE_ROOM_BYTES: Final = 4096

log = structlog.get_logger()


class PrefaceFields(Protocol):
    """What stood before the first PDU."""

    @property
    def consumed_bytes(self) -> int:
        """How many of the bytes are not the association's."""

    @property
    def source(self) -> str:
        """`host:port` of the requestor; empty for a connection that is its sender's own, such as a probe."""

    @property
    def association_id(self) -> str | None:
        """The name that the association has had so far."""


class Preface(Protocol):
    """Reads what stands before the first PDU of each connection, such as a PROXY protocol header."""

    def __call__(self, data: bytes, /) -> PrefaceFields | None:
        """Return it, or None while `data`, all bytes so far, is not enough.

        Raises
        ------
        ValueError
            It is wrong: the connection is closed.
        """


class Acceptor:
    """Listens, negotiates, and runs a handler for each association.

    Parameters
    ----------
    policy : AcceptancePolicy
    limits : UpperLayerLimits
    handler : callable
        Is awaited with each new association, in a task of its own, and ends with `AssociationEnded`. When it
        ends in another way, the association is aborted, unless its peer asks for nothing but its release.
    preface : Preface, optional
        What reads the bytes before the first PDU.
    """

    def __init__(
        self,
        policy: AcceptancePolicy,
        limits: UpperLayerLimits,
        handler: Callable[[Association], Awaitable[None]],
        *,
        preface: Preface | None = None,
    ) -> None:
        self.policy = policy
        self.limits = limits
        self.preface = preface
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._connections: set[_AcceptorConnection] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def associations(self) -> int:
        """How many associations there are, the ones included that are being worked off after their end."""
        return len(self._tasks)

    async def listen(self, host: str, port: int) -> tuple[str, int]:
        """Listen, and return the address (with a free port when asked for 0).

        Raises
        ------
        OSError
            The address cannot be had.
        """
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _AcceptorConnection(self), host, port, backlog=_BACKLOG, reuse_address=True
        )
        name = self._server.sockets[0].getsockname()
        return name[0], name[1]

    async def drain(self, timeout_s: float) -> None:
        """Stop listening, let associations come to their end, and abort those that have not in time.

        When it returns no handler runs and no connection is open.
        """
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in list(self._connections):
            if connection.upper_layer.state is State.AWAITING_ASSOCIATE_RQ:
                connection.cut()
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=timeout_s)
        for connection in list(self._connections):
            connection.abort(Ending.ABORTED, "by us: no more time")
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks))
        for connection in list(self._connections):
            connection.hang_up()
        while self._connections:
            await next(iter(self._connections)).closed()

    def opened(self, connection: _AcceptorConnection) -> None:
        """Note a new connection."""
        self._connections.add(connection)

    def closed(self, connection: _AcceptorConnection) -> None:
        """Note that a connection is no more."""
        self._connections.discard(connection)

    def start(self, association: Association, connection: Connection) -> None:
        """Run the handler for a new association."""
        task = asyncio.get_running_loop().create_task(self._run(association, connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, association: Association, connection: Connection) -> None:
        try:
            await self._handler(association)
            message = await association.receive()
            log.error(
                "association.unattended",
                command_field=message.command.command_field,
                association=association.id,
            )
        except AssociationEnded:
            pass
        except asyncio.CancelledError:
            connection.abort()
            raise
        except Exception:
            # One association's fault is not to end the process, whatever it is.
            log.exception("association.failed", **connection.who())
            OUTCOMES.labels(role=Role.ACCEPTOR, outcome="failed").inc()
        if not association.ended:
            association.abort()


class _AcceptorConnection(Connection):
    def __init__(self, acceptor: Acceptor) -> None:
        super().__init__(Role.ACCEPTOR, acceptor.limits)
        self._acceptor = acceptor
        self._preface = acceptor.preface
        self._preface_bytes = b""
        self._preface_room = bytearray(_PREFACE_ROOM_BYTES if acceptor.preface else 0)
        self.association_id = uuid.uuid4().hex

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._acceptor.opened(self)
        self.source = _address(transport)
        super().connection_made(transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._preface is not None:
            return memoryview(self._preface_room)
        return super().get_buffer(sizehint)

    def buffer_updated(self, nbytes: int) -> None:
        if self._preface is None:
            super().buffer_updated(nbytes)
        else:
            self._read_preface(self._preface, self._preface_room[:nbytes])

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._acceptor.closed(self)

    def associate(self, pdu: AssociateRQ | AssociateAC | AssociateRJ) -> None:
        assert isinstance(pdu, AssociateRQ)
        self.calling_ae, self.called_ae = pdu.calling_ae, pdu.called_ae
        answer = negotiate(
            pdu,
            self._acceptor.policy,
            associations=self._acceptor.associations,
            max_pdu_length_bytes=self.limits.max_pdu_length_bytes,
        )
        if isinstance(answer, AssociateRJ):
            OUTCOMES.labels(role=Role.ACCEPTOR, outcome="rejected").inc()
            log.warning("association.rejected", why=str(answer), **self.who())
            self.upper_layer.reject(answer)
            self.end(Ending.ABORTED, f"by us: {answer}")
            return
        self.upper_layer.accept(answer)
        self.establish()
        peer_max = pdu.user_information.max_pdu_length_bytes
        association = Association(self, Role.ACCEPTOR, contexts_of(pdu, answer), peer_max)
        self._acceptor.start(association, self)

    def _read_preface(self, preface: Preface, data: bytearray) -> None:
        self._preface_bytes += data
        try:
            fields = preface(self._preface_bytes)
        except ValueError as error:
            self.note_fault("preface", str(error))
            self.cut()
            return
        if fields is None:
            if len(self._preface_bytes) > self.limits.associate_rq_limit_bytes:
                self.note_fault("preface", "it does not end")
                self.cut()
            return
        rest = self._preface_bytes[fields.consumed_bytes :]
        self._preface, self._preface_bytes, self._preface_room = None, b"", bytearray()
        if fields.source:
            self.source = fields.source
        if fields.association_id:
            self.association_id = fields.association_id
        self.received(rest)


def _address(transport: asyncio.BaseTransport) -> str:
    peer = transport.get_extra_info("peername")
    if not peer:
        return ""
    host, port = peer[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
