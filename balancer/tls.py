"""A caller's connection with TLS, which ends here: what an association sees of it is a plain socket.

That socket is one end of a pair. Between the other end and the caller two flows encrypt and decrypt, with the
same back-pressure as everywhere: so framing, an A-ABORT put in, draining and all limits are those of plain
connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import Final

import structlog
from prometheus_client import Counter

from balancer.flow import Listener
from balancer.pipes import PipePool
from balancer.relay import Outcome
from balancer.sockets import break_off, endpoint, take_leave, tune
from balancer.tls_flow import Decrypted, Encrypted
from cluster.proxy_protocol import Endpoint, TlsOfClient
from cluster.tls_session import TlsSession

log = structlog.get_logger()

HANDSHAKES = Counter(
    "atria_balancer_tls_handshakes_total", "TLS handshakes, by what became of them", ["outcome"]
)

LEAVE_GRACE_S: Final = 1.0
"""How long a caller that has got all may take to close its connection."""
HANDSHAKE: Final = 0x16
"""Type of the first record of TLS (RFC 8446 5.1)."""
_HANDSHAKE_READ_BYTES: Final = 16 * 1024


class TlsClient:
    """A connection with TLS.

    Parameters
    ----------
    connection : socket.socket
        It is closed by `close`.
    source : tuple
        What `accept` gave.
    context : ssl.SSLContext
        Of a server.
    pipes : PipePool

    Raises
    ------
    OSError
        It is gone already.
    """

    def __init__(
        self,
        connection: socket.socket,
        source: tuple[str | int, ...],
        context: ssl.SSLContext,
        pipes: PipePool,
    ) -> None:
        self.source: Endpoint = endpoint(source)
        self.entrance: Endpoint = endpoint(connection.getsockname())
        tune(connection)
        self._connection = connection
        self._pipes = pipes
        self._session = TlsSession(context)
        self._loop = asyncio.get_running_loop()
        self._tls: TlsOfClient | None = None
        self._socket: socket.socket | None = None
        self._inner: socket.socket | None = None
        self._flows: tuple[Decrypted, Encrypted] | None = None
        self._all_sent: asyncio.Future[None] = self._loop.create_future()

    @property
    def socket(self) -> socket.socket:
        """The association's end of the pair."""
        assert self._socket is not None
        return self._socket

    @property
    def tls(self) -> TlsOfClient | None:
        """What was agreed on."""
        return self._tls

    async def open(self, timeout_s: float) -> Outcome | None:
        """Shake hands, and return how the connection ended when that does not succeed."""
        begun = False
        try:
            async with asyncio.timeout(timeout_s):
                done = False
                while not done:
                    data = await self._loop.sock_recv(self._connection, _HANDSHAKE_READ_BYTES)
                    if not data:
                        return self._refused("closed by the caller") if begun else Outcome.PROBE
                    if not begun and data[0] != HANDSHAKE:
                        return self._refused("no TLS, on a port for it")
                    begun = True
                    done = await self._shake_hands(data)
        except TimeoutError:
            return self._refused(f"not over after {timeout_s:g} s") if begun else Outcome.PROBE
        except ssl.SSLError as error:
            await take_leave(self._connection, b"", LEAVE_GRACE_S)
            return self._refused(f"{error.reason or error}")
        except OSError as error:
            return self._refused(error.strerror or str(error)) if begun else Outcome.PROBE
        HANDSHAKES.labels("done").inc()
        self._tls = self._session.described()
        self._start()
        return None

    async def leave(self, timeout_s: float) -> None:
        """Deliver what was written, as far as the caller takes it in time, and wait for its farewell."""
        if self._socket is None or self._flows is None:
            return
        self._socket.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._all_sent
        self._stop()
        await take_leave(self._connection, b"", LEAVE_GRACE_S)

    def break_off(self) -> None:
        """Close it with a reset."""
        self._stop()
        break_off(self._connection)

    def close(self) -> None:
        """Close it at once: what is not yet encrypted is dropped."""
        self._stop()
        self._connection.close()
        for end in (self._socket, self._inner):
            if end is not None:
                end.close()

    async def _shake_hands(self, data: bytes) -> bool:
        self._session.feed(data)
        try:
            return self._session.shake_hands()
        finally:  # an alert that says why not, as well
            await self._loop.sock_sendall(self._connection, self._session.to_send())

    def _refused(self, why: str) -> Outcome:
        HANDSHAKES.labels("failed").inc()
        log.warning("tls.refused", source=str(self.source), error=why)
        return Outcome.NO_TLS

    def _start(self) -> None:
        self._socket, self._inner = socket.socketpair()
        for end in (self._socket, self._inner):
            end.setblocking(False)
        encrypted = Encrypted(
            self._inner,
            self._connection,
            self._pipes,
            Listener(_nothing, self._association_ended, self._lost),
            self._session,
        )
        decrypted = Decrypted(
            self._connection,
            self._inner,
            self._pipes,
            Listener(_nothing, self._caller_ended, _refused_by_association),
            self._session,
            encrypted.flush,
        )
        self._flows = decrypted, encrypted
        encrypted.start()
        decrypted.begin()

    def _caller_ended(self, error: OSError | None) -> None:
        assert self._flows is not None
        if isinstance(error, ssl.SSLError):
            log.warning("tls.broken", source=str(self.source), error=f"{error.reason or error}")
        if error is not None:
            self._lost(error)
            return
        self._end_input()

    def _association_ended(self, _: OSError | None) -> None:
        """Leave our direction: close_notify has gone out."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)
        self._settle()

    def _lost(self, _: OSError) -> None:
        """Let the association see that its caller is gone, in both directions."""
        self._stop()
        self._end_input()
        assert self._inner is not None
        self._inner.close()

    def _end_input(self) -> None:
        assert self._inner is not None
        with contextlib.suppress(OSError):
            self._inner.shutdown(socket.SHUT_WR)

    def _stop(self) -> None:
        for flow in self._flows or ():
            flow.stop()
        self._settle()

    def _settle(self) -> None:
        if not self._all_sent.done():
            self._all_sent.set_result(None)


def _nothing(_: int) -> None:
    """Count nothing: the association's own flows do."""


def _refused_by_association(_: OSError) -> None:
    """Take no notice: an association that has closed its end says no more, which the other direction sees."""
