"""The service address: takes connections in, up to the limits, and sees each of them off."""

from __future__ import annotations

import asyncio
import collections
import errno
import socket
from typing import Final

import structlog
from prometheus_client import Counter

from balancer.association import Association, Hall
from balancer.descriptors import ACCEPTED_AT_ONCE, affordable
from balancer.entrances import BACKLOG, Entrances, Opener, bound
from balancer.giving_way import giving_way, origin
from balancer.listeners import own_addresses, source_towards
from balancer.pipes import PipePool
from balancer.probing import Prober
from balancer.reception import Reception
from balancer.relay import BOUNDARY_GRACE_S, Outcome
from cluster.coordination.registry import Address, Registry, RegistryUnavailable
from cluster.proxy_protocol import Endpoint, IPAddress
from cluster.settings.live import LiveSettings

log = structlog.get_logger()

OUTCOMES = Counter(
    "atria_balancer_connections_total", "Connections to the front door, by how they ended", ["outcome"]
)
ACCEPT_FAULTS = Counter(
    "atria_balancer_accept_faults_total", "Connections that could not be accepted", ["error"]
)

ACCEPT_REST_S: Final = 0.1
"""How long no connection is accepted after descriptors or memory have run out."""
GIVING_WAY_AT_ONCE: Final = 1 / 16
"""Share of the connections that are closed when there are too many: looking for them takes time."""
SILENT_GRACE_S: Final = 1.0
"""While draining: how long those who have said nothing yet may take to begin."""
ABORT_GRACE_S: Final = BOUNDARY_GRACE_S + 1.0
"""How long associations that were aborted may take to end."""
_SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class FrontDoor:
    """Takes associations and relays each to a worker.

    Parameters
    ----------
    live : LiveSettings
        What holds now; `dicom.host`, `dicom.port`, `service` and `tls` only when it begins to listen.
    registry : Registry
        Where the workers are found.
    name : str
        Of this balancer: association ids begin with it.

    Raises
    ------
    CertificatesUnusable
        TLS is to be ended here, and cannot be.
    """

    def __init__(self, live: LiveSettings, registry: Registry, *, name: str) -> None:
        self._live = live
        self._registry = registry
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._wanted = self._limit = 0
        self._reception = Reception(live, name, self._associations_limit)
        self._workers = self._reception.workers
        self._pipes = PipePool()
        self._own: tuple[IPAddress, ...] = ()
        self._hall = Hall(live, self._reception, self._pipes, self._source_for)
        self._prober = Prober(live, self._workers, self._source_for)
        self._entrances = Entrances(name, self._hall)
        self._listeners: dict[socket.socket, Opener] = {}
        self._accepting = False
        self._rest: asyncio.TimerHandle | None = None
        self._connections: dict[asyncio.Task[None], Association] = {}
        self._giving_way: set[asyncio.Task[None]] = set()
        self._outcomes: collections.Counter[str] = collections.Counter()

    async def listen(self, host: str, port: int) -> Address:
        """Take connections at an address, and return it (with a free port when asked for 0).

        On the same port they are taken at the service address, if there is one, whoever holds it now.

        Raises
        ------
        OSError
            The address cannot be had, or, with TLS, its port.
        """
        try:
            self._reception.heed(await self._registry.members("worker"))
        except RegistryUnavailable as error:
            log.warning("registry.unavailable", error=str(error))
        self._listeners = await self._entrances.open(Address(host, port))
        self._own = own_addresses(self._listeners, self._live.now.service.address)
        self._accept_again()
        return bound(next(iter(self._listeners)), host)

    @property
    def tls_address(self) -> Address | None:
        """Where TLS is spoken, if it is."""
        return self._entrances.tls_address

    async def follow(self) -> None:
        """Keep up with the registry, and look after the workers, until cancelled."""
        async with asyncio.TaskGroup() as probes:
            self._prober.attend(probes)
            async for members in self._registry.watch():
                self._reception.heed(members)
                self._prober.attend(probes)

    def flows(self, address: IPAddress) -> tuple[Endpoint, ...]:
        """Return the clients of those connections that came in by an address of ours."""
        return tuple(
            association.source
            for association in self._connections.values()
            if association.entrance.address == address
        )

    async def drain(self, timeout_s: float) -> None:
        """Take no new connections; let associations end, and abort those that do not in time.

        Those that have connected already are still served; one that has said nothing yet is not waited for.
        """
        for listener in self._listeners:
            for _ in range(BACKLOG):
                if not self._accept(listener):
                    break
        self._stop_accepting()
        for listener in self._listeners:
            listener.close()
        self._listeners = {}
        ends_at = self._loop.time() + timeout_s
        await self._wait(min(SILENT_GRACE_S, timeout_s))
        for task, association in self._connections.items():
            if not association.requested:
                task.cancel()
        await self._wait(ends_at - self._loop.time())
        aborted = [association for association in self._connections.values() if association.abort()]
        if aborted:
            log.warning("balancer.associations_aborted", count=len(aborted))
            await self._wait(ABORT_GRACE_S)
        for task in self._connections:
            task.cancel()
        await self._wait(None)
        self._pipes.close()

    def not_ready(self) -> str | None:
        """Tell why no associations should be sent here, or None."""
        if not self._listeners:
            return "takes no new associations"
        return None if len(self._workers) else "knows no worker"

    def status(self) -> dict[str, object]:
        """Return what the status page says: workers, ceilings, the queue, and totals since the start."""
        return {
            "tls_address": None if self.tls_address is None else str(self.tls_address),
            "associations": self._workers.associations,
            "associations_limit": self._associations_limit(),
            "connections": len(self._connections),
            **self._reception.status(),
            "outcomes": dict(self._outcomes),
        }

    def _associations_limit(self) -> int:
        """Return how many associations may be relayed here at once."""
        wanted = self._live.now.limits.balancer_associations
        if wanted != self._wanted:
            self._wanted, self._limit = wanted, affordable(wanted, self._live.now.tls.mode)
        return self._limit

    def _connections_limit(self) -> int:
        """Return how many connections there may be: for each that can be let in, one that is only to be told.

        Those that were let in before the limit was lowered take no place from those who are to be told of it.
        """
        limit = self._associations_limit()
        return limit + max(limit, self._reception.guests)

    def _source_for(self, worker: IPAddress) -> IPAddress | None:
        return source_towards(worker, self._own)

    def _accept_again(self) -> None:
        self._rest = None
        if not self._accepting and len(self._connections) < self._connections_limit():
            self._accepting = True
            for listener in self._listeners:
                self._loop.add_reader(listener, self._on_connections, listener)

    def _stop_accepting(self) -> None:
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        if self._accepting:
            self._accepting = False
            for listener in self._listeners:
                self._loop.remove_reader(listener)

    def _on_connections(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            if not self._accepting or not self._accept(listener):
                return

    def _accept(self, listener: socket.socket) -> bool:
        """Accept one connection; tell whether there may be more."""
        try:
            connection, source = listener.accept()
        except BlockingIOError:
            return False
        except OSError as error:
            ACCEPT_FAULTS.labels(errno.errorcode.get(error.errno or 0, "unknown")).inc()
            if error.errno not in _SHORTAGES:
                return True  # that connection has failed, not the listener (accept(2))
            log.warning("balancer.accept_rests", error=str(error), connections=len(self._connections))
            self._stop_accepting()
            self._rest = self._loop.call_later(ACCEPT_REST_S, self._accept_again)
            return False
        try:
            association = self._listeners[listener](connection, source)
        except OSError:  # it is gone already
            connection.close()
            return True
        task = self._loop.create_task(self._serve(association), name=f"association {association.id}")
        self._connections[task] = association
        task.add_done_callback(self._done)
        self._make_room()
        return True

    def _make_room(self) -> None:
        """Keep to the ceiling on connections: close some that nothing is lost with, else take no more."""
        most = self._connections_limit()
        excess = len(self._connections) - len(self._giving_way) - most
        if excess < 0:
            return
        closable = [
            (task, origin(association.source.address))
            for task, association in self._connections.items()
            if association.gives_way and task not in self._giving_way
        ]
        if excess > 0 and closable:
            for position in giving_way(
                [where for _, where in closable], max(excess, int(most * GIVING_WAY_AT_ONCE))
            ):
                task = closable[position][0]
                self._giving_way.add(task)
                task.cancel()
        elif not closable:
            self._stop_accepting()

    async def _serve(self, association: Association) -> None:
        outcome = Outcome.DRAINED
        try:
            outcome = await association.run()
        except asyncio.CancelledError:
            if asyncio.current_task() not in self._giving_way:
                raise
            outcome = Outcome.GAVE_WAY
        except Exception:  # one association's fault, of ours or not foreseen, must not end the others
            log.exception("association.failed", association=association.id)
            outcome = Outcome.FAILED
        finally:
            OUTCOMES.labels(outcome.value).inc()
            self._outcomes[outcome.value] += 1

    def _done(self, task: asyncio.Task[None]) -> None:
        del self._connections[task]
        self._giving_way.discard(task)
        if self._rest is None and self._listeners:
            self._accept_again()

    async def _wait(self, timeout_s: float | None) -> None:
        if self._connections and (timeout_s is None or timeout_s > 0):
            await asyncio.wait(list(self._connections), timeout=timeout_s)
