"""TLS put on a connection that has begun without it, by a PROXY protocol header.

The loops' own `start_tls` cannot be given bytes that were read already.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from typing import Any, Final

import structlog
from prometheus_client import Counter

from cluster.tls_session import TlsSession

log = structlog.get_logger()

HANDSHAKES = Counter("atria_tls_handshakes_total", "TLS handshakes of callers, by outcome", ["outcome"])

_READ_AT_ONCE_BYTES: Final = 256 * 1024
_read = memoryview(bytearray(_READ_AT_ONCE_BYTES))
"""Where all connections read: what has come is taken out at once."""


class TlsProtocol(asyncio.BufferedProtocol):
    """Between a transport and the protocol above it, to which it is the transport.

    Parameters
    ----------
    context : ssl.SSLContext
        Of a server.
    transport : asyncio.Transport
        It must be given this protocol; the handshake begins with what comes then.
    above : asyncio.BufferedProtocol
        It gets plaintext, and is told what becomes of the connection, but not that it was made.
    """

    def __init__(
        self, context: ssl.SSLContext, transport: asyncio.Transport, above: asyncio.BufferedProtocol
    ) -> None:
        self._session = TlsSession(context)
        self._transport = transport
        self._above = above
        self._shaken = False
        self._paused = False
        self._ended = False
        self._loop = asyncio.get_running_loop()

    def feed(self, data: bytes | bytearray) -> None:
        """Take bytes that were read before this protocol was in place."""
        self._session.feed(bytes(data))
        self._arrived()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  as much as may come
        """Say where the next bytes go."""
        return _read

    def buffer_updated(self, nbytes: int) -> None:
        """Look at what has arrived."""
        self._session.feed(_read[:nbytes])
        self._arrived()

    def eof_received(self) -> bool | None:
        """Tell the protocol above; an end without close_notify is an end."""
        return self._above.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the protocol above."""
        self._above.connection_lost(exc)

    def pause_writing(self) -> None:
        """Tell the protocol above."""
        self._above.pause_writing()

    def resume_writing(self) -> None:
        """Tell the protocol above."""
        self._above.resume_writing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what is known of the connection below."""
        return self._transport.get_extra_info(name, default)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Say when the protocol above is to pause; it is ciphertext that is counted."""
        self._transport.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """Return how much ciphertext the peer has not taken."""
        return self._transport.get_write_buffer_size()

    def writelines(self, buffers: Iterable[bytes | bytearray | memoryview]) -> None:
        """Encrypt and send; before the handshake is over there is nothing to say, and nothing is sent."""
        if not self._shaken:
            return
        for buffer in buffers:
            if len(buffer):  # nothing to encrypt would be a record all the same
                self._session.write(memoryview(buffer))
        self._flush()

    def pause_reading(self) -> None:
        """Deliver nothing for a while."""
        self._paused = True
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Deliver what has come meanwhile, and what comes."""
        self._paused = False
        self._transport.resume_reading()
        self._loop.call_soon(self._deliver)

    def is_closing(self) -> bool:
        """Tell whether nothing more is sent."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Send what is unsent and a close_notify, and close."""
        if self._shaken and not self._transport.is_closing():
            self._session.end()
            self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Close now, whatever is unsent."""
        self._transport.abort()

    def _arrived(self) -> None:
        try:
            if not self._shaken:
                self._shaken = self._session.shake_hands()
                if self._shaken:
                    HANDSHAKES.labels("done").inc()
            self._deliver()
        except ssl.SSLError as error:
            self._fail(error)
        finally:
            self._flush()

    def _deliver(self) -> None:
        """Hand plaintext up, as long as it is wanted."""
        if not self._shaken:
            return
        try:
            while not self._paused and not self._transport.is_closing():
                count = self._session.read_into(memoryview(self._above.get_buffer(-1)))
                if not count:
                    break
                self._above.buffer_updated(count)
        except ssl.SSLError as error:
            self._fail(error)
            return
        if self._session.peer_ended and not self._ended:
            self._ended = True
            if not self._above.eof_received():
                self.close()

    def _fail(self, error: ssl.SSLError) -> None:
        if not self._shaken:
            HANDSHAKES.labels("failed").inc()
        log.warning("tls.refused", error=f"{error.reason or error}")
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        data = self._session.to_send()
        if data and not self._transport.is_closing():
            self._transport.write(data)
