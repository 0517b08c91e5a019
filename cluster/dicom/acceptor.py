"""Taking associations (PS3.8 7.1, 9.1.2)."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import math
import uuid
from collections.abc import Awaitable, Callable, Collection
from typing import Final, TypeAlias, cast

import structlog

from cluster.dicom.account import OUTCOMES
from cluster.dicom.associate import AssociateAC, AssociateRQ
from cluster.dicom.association import Association, AssociationEnded
from cluster.dicom.faults import Ending
from cluster.dicom.limits import UpperLayerLimits
from cluster.dicom.negotiation import AcceptancePolicy, contexts_of, negotiate
from cluster.dicom.pdu import AssociateRJ
from cluster.dicom.preface import Preface, Upgrade
from cluster.dicom.refusals import Refusal, Refusals
from cluster.dicom.states import State
from cluster.dicom.transport import Connection
from cluster.dicom.upper_layer import Role

_BACKLOG: Final = 1024
_PREFACE_ROOM_BYTES: Final = 4096
_LOOKS_PER_IDLE_LIMIT: Final = 4
"""How often it is looked who is idle, while it drains: a quarter of the limit later at most it is noticed."""

IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
_TLS_GRACE_S: Final = 1.0
"""How long those whose TLS has begun may take to ask for their association, when it drains: who relays them
cannot offer another worker what they have said. All others are cut off, and offered elsewhere."""
_TLS_HANDSHAKE: Final = 0x16
"""Type of TLS's first record (RFC 8446 5.1), and of no PDU."""

log = structlog.get_logger()


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
    admits : callable, optional
        Tells of an IP address whether it may connect; without it all may.
    on_change : callable, optional
        Called when an association has begun or ended.
    upgrade : Upgrade, optional
        What is put on connections that go on with TLS after their preface; without it they are at fault.
    """

    def __init__(
        self,
        policy: AcceptancePolicy,
        limits: UpperLayerLimits,
        handler: Callable[[Association], Awaitable[None]],
        *,
        preface: Preface | None = None,
        admits: Callable[[IPAddress], bool] = lambda _: True,
        on_change: Callable[[], None] = lambda: None,
        upgrade: Upgrade | None = None,
    ) -> None:
        self.policy = policy
        self.limits = limits
        self.preface = preface
        self.admits = admits
        self.refusals = Refusals(asyncio.get_running_loop().time)
        self.upgrade = upgrade
        self._handler = handler
        self._on_change = on_change
        self._server: asyncio.Server | None = None
        self._connections: set[_AcceptorConnection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._running: dict[asyncio.Task[None], Association] = {}
        self._moved = asyncio.Event()

    @property
    def running(self) -> Collection[Association]:
        """The associations, the ones included that are being worked off after their end; probes are not."""
        return self._running.values()

    @property
    def associations(self) -> int:
        """How many of them there are."""
        return len(self._running)

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

    async def drain(self, timeout_s: float, idle_s: float = math.inf) -> None:
        """Stop listening, let associations come to their end, and abort those that have not in time.

        When it returns no handler runs and no connection is open.

        Parameters
        ----------
        timeout_s : float
            How long they may take.
        idle_s : float, optional
            How long one may be silent between messages: then it is aborted, as after `idle_timeout_s`. An
            acceptor that asked for the release instead (PS3.8 7.2) would meet requestors that never saw one.
        """
        if self._server is not None:
            self._server.close()
            self._server = None
        self._cut(lambda connection: not connection.has_tls)
        begun_at = asyncio.get_running_loop().time()
        await self._wait_for_requests(min(timeout_s, _TLS_GRACE_S))
        self._cut(lambda _: True)
        await self._end_idle(timeout_s - (asyncio.get_running_loop().time() - begun_at), idle_s)
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
        self._moved.set()

    def start(self, association: Association, connection: Connection) -> None:
        """Run the handler for a new association."""
        task = asyncio.get_running_loop().create_task(self._run(association, connection))
        self._tasks.add(task)
        self._moved.set()
        task.add_done_callback(self._done)
        if not connection.is_probe:
            self._running[task] = association
            self._on_change()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._running.pop(task, None) is not None:
            self._on_change()

    def _cut(self, which: Callable[[_AcceptorConnection], bool]) -> None:
        for connection in list(self._connections):
            if connection.awaits_request and which(connection):
                connection.cut()

    async def _wait_for_requests(self, timeout_s: float) -> None:
        """Wait until nobody is left that has begun TLS and has not asked for an association."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while any(one.awaits_request and one.has_tls for one in self._connections):
                    self._moved.clear()
                    await self._moved.wait()

    async def _end_idle(self, timeout_s: float, idle_s: float) -> None:
        """Wait for the end of all associations, and abort each as soon as it is idle."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + timeout_s
        while self._tasks and (left_s := ends_at - loop.time()) > 0:
            for connection in list(self._connections):
                if connection.idle_s >= idle_s:
                    connection.abort(Ending.ABORTED, f"by us: we drain, and it was silent for {idle_s:g} s")
            await asyncio.wait(list(self._tasks), timeout=min(left_s, idle_s / _LOOKS_PER_IDLE_LIMIT))

    async def _run(self, association: Association, connection: Connection) -> None:
        # In all lines of this task, and of those that it begins.
        structlog.contextvars.bind_contextvars(association=association.id)
        try:
            await self._handler(association)
            message = await association.receive()
            log.error("association.unattended", command_field=message.command.command_field)
        except AssociationEnded:
            pass
        except asyncio.CancelledError:
            connection.abort()
            raise
        except Exception:
            # One association's fault is not to end the process, whatever it is.
            log.exception("association.failed", **connection.who())
            OUTCOMES.labels(role=connection.counted_as, outcome="failed").inc()
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
        self.has_tls = False
        """Whether it has begun, if only with the first record of a handshake."""

    @property
    def awaits_request(self) -> bool:
        """Whether its A-ASSOCIATE-RQ has not come."""
        return self.upper_layer.state is State.AWAITING_ASSOCIATE_RQ

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._acceptor.opened(self)
        address, self.source = _peer(transport)
        super().connection_made(transport)
        if address is not None and not self._acceptor.admits(address):
            self._refuse(Refusal.STRANGER, "nobody may call from there")

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
        if self.upper_layer.state is not State.AWAITING_LOCAL_ASSOCIATE_RESPONSE:
            return  # what came right behind it was wrong, and has ended it
        self.calling_ae, self.called_ae = pdu.calling_ae, pdu.called_ae
        answer = negotiate(
            pdu,
            self._acceptor.policy,
            associations=0 if self.is_probe else self._acceptor.associations,
            max_pdu_length_bytes=self.limits.max_pdu_length_bytes,
        )
        if isinstance(answer, AssociateRJ):
            OUTCOMES.labels(role=self.counted_as, outcome="rejected").inc()
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
            self._refuse(Refusal.NO_PREFACE, str(error))
            return
        if fields is None:
            if len(self._preface_bytes) > self.limits.associate_rq_limit_bytes:
                self._refuse(Refusal.NO_PREFACE, "it does not end")
            return
        rest = self._preface_bytes[fields.consumed_bytes :]
        if self._acceptor.upgrade is not None and not rest:
            return  # its next byte tells whether it goes on with TLS
        self._preface, self._preface_bytes, self._preface_room = None, b"", bytearray()
        self.is_probe = fields.is_local
        if fields.source:
            self.source = fields.source
        if fields.association_id:
            self.association_id = fields.association_id
        if self._acceptor.upgrade is not None and rest[0] == _TLS_HANDSHAKE:
            self._put_tls_on(self._acceptor.upgrade, rest)
        else:
            self.received(rest)

    def _put_tls_on(self, upgrade: Upgrade, first: bytes) -> None:
        assert self._transport is not None
        self.has_tls = True
        tls = upgrade(self._transport, self)
        self._transport.set_protocol(cast(asyncio.BaseProtocol, tls))
        self._transport = cast(asyncio.Transport, tls)
        tls.feed(first)

    def _refuse(self, refusal: Refusal, what: str) -> None:
        self._acceptor.refusals.note(refusal, what, self.source)
        self.cut()


def _peer(transport: asyncio.BaseTransport) -> tuple[IPAddress | None, str]:
    """Return the address of who connected, and `host:port`."""
    name = transport.get_extra_info("peername")
    if not name:  # it is gone already
        return None, ""
    address = ipaddress.ip_address(name[0].partition("%")[0])
    return address, f"[{address}]:{name[1]}" if address.version == 6 else f"{address}:{name[1]}"
